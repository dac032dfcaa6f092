"""Moving and removing folders of results."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path


def remove(folder: Path) -> None:
    """Remove a folder if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def move(source: Path, target: Path) -> None:
    """Put a folder in a place, in one step; what was there is removed first.

    Where the place is on another disk, a copy is made beside it and then put in place.
    """
    remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".{target.name}.tmp")
        remove(beside)
        shutil.copytree(source, beside, symlinks=True)
        beside.replace(target)
        shutil.rmtree(source)


def strays(base: Path, wanted: set[Path]) -> Iterator[Path]:
    """Outermost folders below ``base`` that neither are nor hold nor lie in a wanted one."""
    parents = {parent for folder in wanted for parent in folder.parents}
    for path in sorted(base.iterdir()):
        if path in parents:
            yield from strays(path, wanted)
        elif path.is_dir() and path not in wanted:
            yield path


def remove_empty(base: Path) -> None:
    """Remove all empty folders below ``base``."""
    for path in sorted(base.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
