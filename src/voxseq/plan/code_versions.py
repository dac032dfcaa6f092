"""Versions of the code behind each action, which enter the fingerprints of its runs.

An action's code is the import closure of the function that does it: nobody keeps a list. Its
version is raised by hand, when results may differ; a digest of the closure notices every change of
behaviour, and none of a comment or a docstring.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from voxseq.base.digest import LENGTH
from voxseq.base.errors import IntegrityError, VoxseqError
from voxseq.base.files import read_text, sha256
from voxseq.plan.actions import ACTIONS

PACKAGE = Path(__file__).parents[1]
VERSIONS = PACKAGE / "code.json"
#: What reading a damaged record raises.
_UNREADABLE = (
    OSError,
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
#: A text that names a module which is imported, or a package whose files are read, by its name.
_NAMED = re.compile(rf"({PACKAGE.name}(?:\.\w+)+)\.?(?::\w+)?")


def closure(module: str) -> list[Path]:
    """Files that a module's behaviour depends on: what it imports, also late and by name.

    A package that is named in a text counts with all modules and data in it. Imports for type
    checkers, and the packages around a module, do not count.
    """
    found: set[Path] = set()
    known, waiting = {module}, [module]
    while waiting:
        for path in _files_of(waiting.pop()):
            if path not in found:
                found.add(path)
                new = {*_used_by(path)} - known
                known |= new
                waiting += new
    return sorted(found)


def _files_of(name: str) -> list[Path]:
    """Files of a module, or of all of a package that ends in ``.*``."""
    place = PACKAGE.parent / name.removesuffix(".*").replace(".", "/")
    if name.endswith(".*"):
        kept = (p for p in place.rglob("*") if p.is_file() and not p.name.startswith("."))
        return [p for p in kept if p.suffix != ".pyc"]
    return [p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()]


def _used_by(path: Path) -> tuple[str, ...]:
    return _read(path.read_text(encoding="utf-8"))[0] if path.suffix == ".py" else ()


@cache
def _read(source: str) -> tuple[tuple[str, ...], str]:
    """What a module uses, and its code as text: once for all actions that it is part of."""
    tree = _without_docstrings(source)
    return tuple(_names(tree)), json.dumps(_shape(tree))


def _names(node: ast.AST) -> Iterator[str]:
    children = [*ast.iter_child_nodes(node)]
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            children = [*node.orelse]
        case ast.Call(func=ast.Attribute(attr="getLogger")):
            children = []
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom(module=str(module)):
            # A name is a module, or is defined in the one that it comes from.
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if _files_of(inner) else module
        case ast.Constant(value=str(text)) if named := _NAMED.fullmatch(text):
            is_package = (PACKAGE.parent / named[1].replace(".", "/")).is_dir()
            yield f"{named[1]}.*" if is_package else named[1]
    for child in children:
        yield from _names(child)


def behaviour(paths: list[Path]) -> str:
    """Digest of source files without comments and docstrings, and of data files as they are."""
    contents = []
    for path in paths:
        is_code = path.suffix == ".py"
        content = _read(path.read_text(encoding="utf-8"))[1] if is_code else sha256(path)
        contents.append((path.relative_to(PACKAGE).as_posix(), content))
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:LENGTH]


def _shape(node: Any) -> Any:
    """A syntax tree as plain lists, the same from every Python: newer ones have further fields,
    which are empty."""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        return [type(node).__name__, *([n, _shape(v)] for n, v in fields if v not in (None, []))]
    if isinstance(node, list):
        return [_shape(item) for item in node]
    return repr(node)


def _without_docstrings(source: str) -> ast.Module:
    tree = ast.parse(source)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    # No expression holds a statement.
    statements = ast.stmt | ast.excepthandler | ast.match_case
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        waiting += (n for n in ast.iter_child_nodes(node) if isinstance(n, statements))
    return tree


def digests() -> dict[str, str]:
    """Digest of the present code of each action."""
    return {action: behaviour(closure(place.split(":")[0])) for action, place in ACTIONS.items()}


def recorded() -> Mapping[str, Mapping[str, Any]]:
    """Entries of ``code.json`` per action: the version of its code and the digest.

    Raises:
        IntegrityError: the file is missing or damaged.
    """
    try:
        text = read_text(VERSIONS)
        if re.search(r"^(<{7}|>{7}) ", text, re.MULTILINE):
            raise ValueError("it holds a conflict that git left")
        content: dict[str, dict[str, Any]] = json.loads(text)
        return {
            name: {"version": int(entry["version"]), "digest": str(entry["digest"])}
            for name, entry in content.items()
        }
    except _UNREADABLE as error:
        raise IntegrityError(
            f"{VERSIONS} cannot be read: {error}",
            "restore it from version control (`git checkout HEAD` and its path), then "
            "`voxseq code check`",
        ) from None


def versions() -> dict[str, int]:
    """Version of the code of each action, from ``code.json``.

    Raises:
        IntegrityError: the file is missing or damaged.
    """
    return {name: entry["version"] for name, entry in recorded().items()}


def changed_actions() -> list[str]:
    """Actions whose code differs from the recorded digest, or of which nothing is recorded.

    Raises:
        IntegrityError: the record is damaged.
    """
    known = recorded() if VERSIONS.exists() else {}
    changed = [n for n, d in digests().items() if known.get(n, {}).get("digest") != d]
    return changed + [name for name in known if name not in ACTIONS]


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
