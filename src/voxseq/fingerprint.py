"""Fingerprints: what a run is, as one short word.

A run's fingerprint covers its name, its exact configuration, the version of the code it uses and
the fingerprints of its inputs. Time stamps and places take no part.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxseq.errors import IntegrityError, VoxseqError
from voxseq.files import read_text

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


def recorded_units() -> Mapping[str, Mapping[str, Any]]:
    """What ``code.json`` says of each unit of code: its version and the digest of its behaviour.

    Raises:
        IntegrityError: the file is missing or damaged.
    """
    try:
        text = read_text(VERSIONS)
        if re.search(r"^(<{7}|>{7}) ", text, re.MULTILINE):
            raise ValueError("it holds a conflict that git left")
        recorded: dict[str, dict[str, Any]] = json.loads(text)
        return {
            name: {"version": int(entry["version"]), "digest": str(entry["digest"])}
            for name, entry in recorded.items()
        }
    except (
        AttributeError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise IntegrityError(
            f"{VERSIONS} cannot be read: {error}",
            "restore it from version control (`git checkout HEAD` and its path), then "
            "`voxseq code check`",
        ) from None


def versions() -> dict[str, int]:
    """Version of each unit of code, from ``code.json``.

    Raises:
        IntegrityError: the file is missing or damaged.
    """
    return {name: entry["version"] for name, entry in recorded_units().items()}


def changed_units() -> dict[str, str]:
    """Units whose behaviour differs from the recorded digest, with their present digest.

    Raises:
        IntegrityError: the record is damaged.
    """
    recorded = recorded_units() if VERSIONS.exists() else {}
    now = {name: behaviour(paths) for name, paths in units().items()}
    changed = {n: d for n, d in now.items() if recorded.get(n, {}).get("digest") != d}
    return changed | {n: "" for n in recorded if n not in now}


def require_own_code(folder: Path) -> None:
    """Refuse to work on a checkout with the code of another one.

    Args:
        folder: where the work is done, in a checkout or anywhere else.

    Raises:
        VoxseqError: the nearest checkout around ``folder`` has a package of its own.
    """
    for place in (folder, *folder.parents):
        package = place / "src" / PACKAGE.name
        if not (package / "__init__.py").is_file():
            continue
        if package.resolve() != PACKAGE.resolve():
            raise VoxseqError(
                f"this is the code of {PACKAGE}, but {place} has its own in {package}",
                f"`export PYTHONPATH={place / 'src'}`, or activate the environment that "
                "`make environment` makes there",
            )
        return
