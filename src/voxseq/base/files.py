"""Atomic writes, and reads that tell a failing machine from a damaged file."""

from __future__ import annotations

import codecs
import csv
import fnmatch
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voxseq.base.failures import read_named, write_named


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it replaces ``path`` when the block succeeds.

    A new file is always written and moved into place: writing through an existing name could
    change a file in DVC's cache that is linked to it.

    Raises:
        ResourceError: no room, or another failure of the machine; what ``path`` held before is
            still there.
    """
    with write_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_temporary(path), suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        try:
            os.close(handle)
            yield temporary
            # mkstemp makes the file private; results are as readable as any other file.
            temporary.chmod(0o644)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> str:
    """Beginning of the temporary names of a file."""
    return f".{path.name[:40]}."


def remove_temporaries(path: Path) -> None:
    """Remove what killed calls left beside ``path``.

    A call that is writing ``path`` at the moment fails.

    Raises:
        ResourceError: the machine failed.
    """
    for temporary in named(path.parent, f"{_temporary(path)}*.tmp"):
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically as JSON with sorted keys, the same bytes for the same value."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically as CSV."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


#: More bytes than any list, record or table has that is read as a text.
_LONGEST_TEXT = 1 << 26


def require_regular(path: Path) -> None:
    """Refuse anything but a regular file before it is opened: a pipe blocks, a device never ends.

    Raises:
        OSError: nothing is there.
        ValueError: it is a folder, a pipe, a device or a socket.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
        raise ValueError(f"it is a {kinds.get(stat.S_IFMT(mode), 'device')}, expected a file")


def read_text(path: Path, *, only_utf8: bool = False) -> str:
    """Read a text: UTF-8, or UTF-16 where its byte order mark says so.

    Args:
        path: the file.
        only_utf8: whether other programs read it too, which know no other encoding.

    Raises:
        ResourceError: the machine failed; the file may be sound.
        OSError: there is no such file.
        ValueError: it is no file, no text, or longer than any list.
    """
    with read_named(path):
        require_regular(path)
        with path.open("rb") as file:
            content = file.read(_LONGEST_TEXT + 1)
    if len(content) > _LONGEST_TEXT:
        raise ValueError(f"it has more than {_LONGEST_TEXT >> 20} MB, expected a list")
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide and not only_utf8 else "utf-8-sig")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ResourceError: as :func:`read_text`, likewise the others.
        ValueError: it is damaged, or nested too deeply.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises:
        ResourceError: the machine failed.
        OSError: as :func:`read_text`.
    """
    with read_named(path), path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def size_of(path: Path) -> int | None:
    """Bytes of a file; ``None`` where there is none, or a folder or a link that leads nowhere.

    Raises:
        ResourceError: the machine failed. ``Path.is_file`` of some versions of Python would say no.
    """
    try:
        with read_named(path):
            found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, links to files included, sorted.

    Raises:
        ResourceError: the machine failed. ``Path.rglob`` leaves out what it may not list.
    """
    found = []
    with read_named(folder), os.scandir(folder) as items:
        for item in items:
            path = folder / item.name
            if item.is_dir(follow_symlinks=False):
                found += files_below(path)
            elif size_of(path) is not None:
                found.append(path)
    return sorted(found)


def named(folder: Path, pattern: str) -> list[Path]:
    """Sorted entries of a folder whose names match ``pattern``; none if the folder is missing.

    Raises:
        ResourceError: the machine failed. ``Path.glob`` leaves out what it may not list.
    """
    with read_named(folder):
        try:
            return sorted(p for p in folder.iterdir() if fnmatch.fnmatch(p.name, pattern))
        except FileNotFoundError:
            return []
