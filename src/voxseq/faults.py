"""Failures of the machine - a full disk, no memory - said in words a user can act on."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxseq.errors import ResourceError, VoxseqError

#: What the system says when nothing more can be written: disk, quota, limit on a file's size.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Faults of the machine while reading, which say nothing about the file itself.
_TRANSIENT = frozenset(
    {
        *(errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV, errno.ENXIO),
        *(errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN, errno.EAGAIN),
    }
)
#: Bytes that must find room before a workflow starts: what it notes about itself.
_NOTES = 1 << 18
#: NumPy's words for a write that was cut short.
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")
#: Bytes; a disk with less is full for any file here.
_LITTLE = 1 << 24
#: Words of torch and its libraries where memory, of the system or of a device, could not be had.
_NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out of memory|alloc_failed"
    r"|std::bad_alloc",
    re.IGNORECASE,
)
_TRIED = re.compile(r"tried to allocate [\d.]+ \w+", re.IGNORECASE)
_AGAIN = "start again; finished runs are kept and trainings go on from their last checkpoint"


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn the error of a write that found no room below ``folder`` into a ResourceError."""
    try:
        yield
    except VoxseqError:
        raise
    except Exception as error:
        code = full_code(error)
        if code is None:
            raise
        raise _full(folder, code) from error


@contextmanager
def faults_named(folder: Path) -> Iterator[None]:
    """Turn failures of the machine during the work of a run into a ResourceError.

    Args:
        folder: where the run writes.
    """
    try:
        with full_disk_named(folder):
            yield
    except VoxseqError:
        raise
    except MemoryError as error:
        raise out_of_memory(str(error)) from error
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise ResourceError(
            f"{place}cannot be read or written ({error.strerror or error})",
            f"check that disk and its permissions, then {_AGAIN}",
        ) from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(refused_memory(error), "batch size or number of workers") from error


@contextmanager
def write_named(path: Path) -> Iterator[None]:
    """Turn the error of a library that cannot write ``path``, and says not why, into our own."""
    try:
        yield
    except RuntimeError as error:
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit != resource.RLIM_INFINITY:
            raise _full(path.parent, errno.EFBIG) from error
        if shutil.disk_usage(existing(path.parent)).free < _LITTLE:
            raise _full(path.parent, errno.ENOSPC) from error
        raise ResourceError(
            f"{path}: cannot be written ({error})", f"check that disk, then {_AGAIN}"
        ) from error


def require_writable(folder: Path) -> None:
    """Raise a ResourceError unless a little can be written in ``folder``, which is made."""
    with faults_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_NOTES))


def out_of_memory(detail: str = "", lower: str = "number of workers") -> ResourceError:
    """The error of work for which the memory did not suffice."""
    return ResourceError(
        f"out of memory{f' ({detail})' if detail else ''}",
        f"give the job more memory or lower its {lower}, then {_AGAIN}",
    )


def is_of_the_machine(error: Exception) -> bool:
    """Whether a failed read says nothing about the file: no memory, a failing disk, too many files.

    Setting such a file aside as damaged would change a study by accident.
    """
    return is_out_of_memory(error) or (isinstance(error, OSError) and error.errno in _TRANSIENT)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory could not be had; torch has no error of its own for that of the system."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
    )


def refused_memory(error: BaseException) -> str:
    """The part of the message of such an error that says how much was asked for."""
    said = str(error)
    tried = _TRIED.search(said)
    return tried[0] if tried else re.split(r"\n|\. ", said, maxsplit=1)[0]


def full_code(error: BaseException) -> int | None:
    """The error number when an exception tells that there was no room, else None.

    Some libraries keep the system's words but not its number.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _FULL else None
    said = str(error)
    for code in _FULL:
        if os.strerror(code) in said or f"(os error {code})" in said:
            return code
    if isinstance(error, OSError) and _CUT_SHORT.search(said):
        return errno.ENOSPC
    return None


def _full(folder: Path, code: int) -> ResourceError:
    free = shutil.disk_usage(existing(folder)).free / 1e6
    if code == errno.EFBIG:
        return ResourceError(
            f"{folder}: a file there would exceed the limit on the size of one file",
            f"raise that limit (ulimit -f), then {_AGAIN}",
        )
    which = "the quota is used up" if code == errno.EDQUOT else "the disk is full"
    return ResourceError(
        f"{folder}: {which}, {free:.1f} MB are free",
        f"make room there (`du -sh {existing(folder)}` shows what is used), then {_AGAIN}",
    )


def existing(folder: Path) -> Path:
    """``folder`` or the nearest folder above it that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
