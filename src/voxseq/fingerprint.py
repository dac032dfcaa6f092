"""Fingerprints: what a run is, as one short word.

A run's fingerprint covers its name, its exact configuration, the version of the code it uses and
the fingerprints of its inputs. Time stamps and places take no part.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxseq.errors import IntegrityError
from voxseq.files import read_json

PACKAGE = Path(__file__).parent
VERSIONS = PACKAGE / "code.json"
#: Number of hexadecimal digits of a fingerprint.
LENGTH = 16


def digest(value: Any) -> str:
    """Fingerprint of a JSON value; equal values give equal words whatever their key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def units() -> dict[str, list[Path]]:
    """The parts of the package that carry a version: sub-packages and top-level modules."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        name = relative.parts[0] if len(relative.parts) > 1 else relative.stem
        found.setdefault(name, []).append(path)
    return found


def behaviour(paths: list[Path]) -> str:
    """Digest of the syntax trees of source files, without comments and docstrings."""
    trees = [
        (str(path.relative_to(PACKAGE)), ast.dump(_without_docstrings(path))) for path in paths
    ]
    return hashlib.sha256(json.dumps(trees).encode()).hexdigest()[:LENGTH]


def _without_docstrings(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def versions() -> dict[str, int]:
    """Version of each unit of code, from ``code.json``.

    Raises:
        IntegrityError: the file is missing or damaged.
    """
    try:
        recorded: Mapping[str, Mapping[str, Any]] = read_json(VERSIONS)
        return {name: int(entry["version"]) for name, entry in recorded.items()}
    except (AttributeError, OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{VERSIONS.name} cannot be read: {error}", "restore it from version control"
        ) from None


def changed_units() -> dict[str, str]:
    """Units whose behaviour differs from the recorded digest, with their present digest."""
    try:
        recorded = read_json(VERSIONS)
    except FileNotFoundError:
        recorded = {}
    now = {name: behaviour(paths) for name, paths in units().items()}
    changed = {n: d for n, d in now.items() if recorded.get(n, {}).get("digest") != d}
    return changed | {n: "" for n in recorded if n not in now}
