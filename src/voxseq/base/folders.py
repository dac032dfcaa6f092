"""Moving and removing folders of results."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from voxseq.base.failures import read_named, write_named


def remove(folder: Path) -> None:
    """Remove a folder, or anything in its place, if it exists."""
    if not _is_there(folder):
        return
    if folder.is_dir() and not folder.is_symlink():
        with write_named(folder):
            shutil.rmtree(folder)
    else:
        folder.unlink()


def move(source: Path, target: Path) -> None:
    """Move a folder in one step; an earlier target stays until this has succeeded.

    Where the place is on another disk, a copy is made beside it and then put in place.

    Raises:
        ResourceError: the copy failed; it names the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _replace(source, target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    beside = target.with_name(f".{target.name}.tmp")
    with write_named(target):
        remove(beside)
        with read_named(source):
            shutil.copytree(source, beside, symlinks=True, copy_function=_copy_file)
        _replace(beside, target)
    shutil.rmtree(source)


def _copy_file(source: str, target: str) -> None:
    # Here, because copytree continues after an error and raises one of its own.
    with read_named(Path(source)):
        shutil.copy2(source, target)


def _replace(source: Path, target: Path) -> None:
    """Rename a folder; an earlier target is removed afterwards, or put back."""
    old = target.with_name(f".{target.name}.old.tmp")
    remove(old)
    is_taken = _is_there(target)
    if is_taken:
        target.replace(old)
    try:
        source.replace(target)
    except BaseException:
        if is_taken:
            old.replace(target)
        raise
    remove(old)


def _is_there(path: Path) -> bool:
    try:
        with read_named(path):
            path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def strays(base: Path, wanted: set[Path]) -> Iterator[Path]:
    """Outermost folders below ``base`` that are, contain and belong to no wanted one."""
    parents = {parent for folder in wanted for parent in folder.parents}

    def below(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if path in parents:
                yield from below(path)
            elif path.is_dir() and path not in wanted:
                yield path

    return below(base)


def remove_empty(base: Path) -> None:
    """Remove all empty folders below ``base``."""
    for path in sorted(base.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
