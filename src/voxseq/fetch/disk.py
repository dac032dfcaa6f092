"""What the disk refuses, said with the file's name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxseq.base.errors import ResourceError
from voxseq.base.failures import existing, full_code
from voxseq.fetch.meter import in_words


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds, or will hold, ``folder``."""
    return shutil.disk_usage(existing(folder)).free


def require_space(folder: Path, needed: int, what: str) -> None:
    """Make sure that ``needed`` bytes fit on the disk of ``folder``.

    Raises:
        ResourceError: they do not.
    """
    free = free_bytes(folder)
    if needed > free:
        raise ResourceError(
            f"{what} needs {in_words(needed)}, {folder} has {in_words(free)} free",
            "free some space, or choose another disk with --root or VOXSEQ_DATA; what has "
            "arrived is kept",
        )


def disk_error(path: Path, error: OSError) -> ResourceError:
    """The error for a file that cannot be written."""
    if full_code(error) is not None:
        return ResourceError(
            f"{path}: the disk is full ({error.strerror})",
            "free some space and run the same command again: it continues where it stopped",
        )
    return ResourceError(
        f"{path}: cannot be written ({error.strerror or error})",
        "make that place writable, or choose another with --root or VOXSEQ_DATA",
    )


def read_error(path: Path, error: Exception) -> ResourceError:
    """The error for a file that the machine does not hand out; it says nothing about the file."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ResourceError(
        f"{path}: cannot be read ({reason})",
        "check that disk and its permissions, then run the same command again: what has arrived "
        "is kept",
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name ``path`` in the system's errors, which do not say which file a read was for.

    Raises:
        ResourceError: the file cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise read_error(path, error) from None
