"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voxseq.faults import full_disk_named


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it replaces ``path`` when the block succeeds.

    A new file is always written and moved into place: writing through an existing name could
    change a file in DVC's cache that is linked to it.

    Raises:
        ResourceError: there is no room for the file; what ``path`` held before is still there.
    """
    with full_disk_named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes the file private; results are as readable as any other file.
            temporary.chmod(0o644)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically as JSON with sorted keys, the same bytes for the same value."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


#: More bytes than any list or table has that a configuration or a data set names.
_LONGEST_TEXT = 1 << 26


def require_regular(path: Path) -> None:
    """Refuse what is no file of a disk, before it is opened: a pipe waits, a device never ends.

    Raises:
        OSError: nothing is there.
        ValueError: it is a folder, a pipe, a device or a socket.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
        raise ValueError(f"it is a {kinds.get(stat.S_IFMT(mode), 'device')}, expected a file")


def read_text(path: Path) -> str:
    """The text of a list or table that someone else wrote, UTF-8 with or without a mark.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no file, no text, or longer than any list.
    """
    require_regular(path)
    with path.open("rb") as file:
        content = file.read(_LONGEST_TEXT + 1)
    if len(content) > _LONGEST_TEXT:
        raise ValueError(f"it has more than {_LONGEST_TEXT >> 20} MB, expected a list")
    return content.decode("utf-8-sig")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
