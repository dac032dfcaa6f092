"""Memory that a training frees is kept for its next step."""

from __future__ import annotations

import ctypes
import platform

#: Of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Bytes at the end of the heap that are not given back to the system.
_KEPT = 2**30
#: Bytes from which on an allocation has pages of its own; glibc takes no larger number.
_LARGE = 2**25


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
