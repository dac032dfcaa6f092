"""Memory that a training frees is kept for its next step; how much its job may have."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

#: Of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Bytes at the end of the heap that are not given back to the system.
_KEPT = 2**30
#: Bytes from which on an allocation has pages of its own; glibc takes no larger number.
_LARGE = 2**25
#: Where Linux keeps the limits of groups of processes: of version 2, and of version 1.
_GROUPS = Path("/sys/fs/cgroup")
_LIMITS = {"": "memory.max", "memory": "memory.limit_in_bytes"}


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of freed arrays instead of giving it back to the system.

    Every step of a training allocates the same arrays. By default glibc gives their memory back,
    and the system fills the pages with zeros whenever they are asked for again.

    Returns:
        Whether the C library is glibc, which alone has these settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, _LARGE) and libc.mallopt(_M_TRIM_THRESHOLD, _KEPT))


def memory_limit(own: Path = Path("/proc/self/cgroup"), groups: Path = _GROUPS) -> int | None:
    """Bytes that the processes of this job may have together; None where nothing limits them.

    Args:
        own: the control groups of this process, one in a line: number, controllers, path.
        groups: folder of all groups. A limit of a group holds for all below it.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    found = []
    for _, controllers, path in lines:
        if controllers not in _LIMITS:
            continue
        base = groups / controllers
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(base):
                found.extend(_number(folder / _LIMITS[controllers]))
    return min(found, default=None)


def _number(path: Path) -> list[int]:
    """The number in a file; none if it cannot be read or says "max"."""
    try:
        return [int(path.read_text())]
    except (OSError, ValueError):
        return []
