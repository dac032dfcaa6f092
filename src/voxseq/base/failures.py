"""Failures of the machine - a full disk, no memory, a server that is gone - in a user's words.

They say nothing about the file that was being read: it is neither damaged nor missing, and nothing
may be removed, recomputed or left out because of them. A file that decides about work is therefore
read within :func:`read_named`; :func:`failures_named` around a whole run catches the rest.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from voxseq.base.errors import ResourceError, VoxseqError

#: Errors of a name or of a file itself, and of sizes and places that a damaged file has named. All
#: other errors of the system are the machine's.
_OF_THE_FILE = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG),
    *(errno.ELOOP, errno.EILSEQ, errno.EXDEV),
    *(errno.EINVAL, errno.ESPIPE, errno.EOVERFLOW, errno.ERANGE, errno.EDOM),
)
#: Nothing more can be written: disk, quota, limit on a file's size.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Errors whose words, in the message of a library, can mean nothing else.
_QUOTED = {
    os.strerror(code): code
    for code in (
        *(*_FULL, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENOMEM),
        *(errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.EREMOTEIO),
        *(errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH),
        *(errno.ECONNRESET, errno.ENOTCONN, errno.EAGAIN, errno.EUCLEAN, errno.ENOLCK),
    )
}
_WORDS = re.compile("|".join(re.escape(words) for words in _QUOTED))
#: Numbers of errors as Rust, HDF5, Python and PyTorch put them into words.
_NUMBER = re.compile(
    r"\(os error (\d+)\)|\berrno = (\d+)|\[errno (\d+)\]|error code (\d+) \(", re.IGNORECASE
)
#: Free bytes that a workflow needs to start: its own notes.
_NOTES = 1 << 18
#: Bytes that are read at a time.
_PIECE = 1 << 20
#: NumPy's words for a write that was cut short.
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")
#: Words of torch and its libraries where memory, of the system or of a device, could not be had.
_NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out of memory|alloc_failed"
    r"|std::bad_alloc",
    re.IGNORECASE,
)
_TRIED = re.compile(r"tried to allocate [\d.]+ \w+", re.IGNORECASE)
_AGAIN = "start again; finished runs are kept and trainings resume from their last checkpoint"


def read_named(path: Path) -> AbstractContextManager[None]:
    """Turn failures of the machine while ``path`` is read into a ResourceError that names it.

    Errors of the file itself pass: it does not exist, or holds something else.
    """
    return _named(path, "read")


def write_named(path: Path) -> AbstractContextManager[None]:
    """Turn failures of the machine while ``path`` is written into a ResourceError that names it."""
    return _named(path, "written")


def failures_named(folder: Path) -> AbstractContextManager[None]:
    """Turn failures of the machine in a whole run into a ResourceError: the last handler.

    Files that vanish or change while they are in use count as failures too. ``folder``, where the
    run works, is named where the system names no file.
    """
    return _named(folder, "read or written", is_last=True)


@contextmanager
def _named(path: Path, done: str, *, is_last: bool = False) -> Iterator[None]:
    try:
        yield
    except VoxseqError:
        raise
    except Exception as error:
        if is_last and isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise out_of_memory(refused_memory(error), "batch size or number of workers") from error
        code = machine_code(error)
        if code is not None:
            raise _failed(error, code, path, done) from error
        if is_last and isinstance(error, OSError):
            raise _changed(error, path) from error
        raise


def require_readable(path: Path) -> None:
    """Read a file, or every file in a folder, to the end; nothing where there is none.

    Raises:
        ResourceError: the machine failed.
    """
    with suppress(OSError), read_named(path):
        if path.is_dir():
            for inner in path.iterdir():
                if inner.is_file():
                    require_readable(inner)
        elif path.is_file():
            with path.open("rb") as file:
                while file.read(_PIECE):
                    pass


def require_writable(folder: Path) -> None:
    """Raise a ResourceError unless a little can be written in ``folder``, which is made."""
    with failures_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_NOTES))


def out_of_memory(detail: str = "", lower: str = "number of workers") -> ResourceError:
    """The error of work for which the memory did not suffice."""
    return ResourceError(
        f"out of memory{f' ({detail})' if detail else ''}",
        f"give the job more memory or lower its {lower}, then {_AGAIN}",
    )


def of_a_command(error: OSError | MemoryError) -> ResourceError:
    """The error of a command that only looks and tells."""
    if isinstance(error, MemoryError):
        return out_of_memory(str(error))
    place = error.filename or "the output"
    return ResourceError(f"{place}: {error.strerror or error}", f"look after it, then {_AGAIN}")


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an exception tells of the machine and not of the file; see :func:`machine_code`."""
    return machine_code(error) is not None


def machine_code(error: BaseException) -> int | None:
    """Number of the machine's error behind an exception; ``None`` where there is none.

    Libraries wrap the system's errors in their own, or keep only the system's words. A file that is
    set aside or done again for such an error would change a study by accident.
    """
    link: BaseException | None = error
    while link is not None:
        if is_out_of_memory(link):
            return errno.ENOMEM
        if isinstance(link, OSError) and link.errno is not None:
            return None if link.errno in _OF_THE_FILE else link.errno
        code = _quoted(str(link))
        if code is not None:
            return code
        link = link.__cause__ or link.__context__
    if isinstance(error, OSError) and _CUT_SHORT.search(str(error)):
        return errno.ENOSPC
    return None


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


def _quoted(said: str) -> int | None:
    for match in _NUMBER.finditer(said):
        code = int(next(group for group in match.groups() if group))
        if code in errno.errorcode:
            return None if code in _OF_THE_FILE else code
    words = _WORDS.search(said)
    return _QUOTED[words[0]] if words else None


def _failed(error: Exception, code: int, path: Path, done: str) -> ResourceError:
    place = _place(error, path)
    if code in _FULL:
        return _full(place, code)
    if code == errno.ENOMEM:
        return out_of_memory(f"{place}: {refused_memory(error)}" if str(error) else str(place))
    return ResourceError(
        f"{place}: cannot be {done} ({os.strerror(code)})",
        f"check that disk and its permissions, then {_AGAIN}",
    )


def _changed(error: OSError, folder: Path) -> ResourceError:
    """The error for a file that is gone, or has become something else, while it was in use."""
    place = _place(error, folder)
    if error.errno == errno.ENOENT:
        return ResourceError(
            f"{place}: is gone ({error.strerror})",
            f"another call or another hand has removed it in the meantime; {_AGAIN}",
        )
    return ResourceError(
        f"{place}: cannot be read or written ({error.strerror or error})",
        f"look at that place, then {_AGAIN}",
    )


def _place(error: Exception, path: Path) -> Path:
    """The file that the system names; a new file has another name until it is whole."""
    name = getattr(error, "filename", None)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if not isinstance(name, str | Path) or str(name).endswith(".tmp"):
        return path
    # The removal of a folder names entries relative to that folder.
    return path if path.is_absolute() and not Path(name).is_absolute() else Path(name)


def _full(path: Path, code: int) -> ResourceError:
    folder = existing(path)
    folder = folder if folder.is_dir() else folder.parent
    where = f"{path.name} in {folder}" if path != folder else str(folder)
    if code == errno.EFBIG:
        return ResourceError(
            f"{where}: the file would exceed the limit on the size of one file",
            f"raise that limit (ulimit -f), then {_AGAIN}",
        )
    which = "the quota is used up" if code == errno.EDQUOT else "the disk is full"
    free = shutil.disk_usage(folder).free / 1e6
    return ResourceError(
        f"{where}: {which}, {free:.1f} MB are free",
        f"make room there (`du -sh {folder}` shows what is used), then {_AGAIN}",
    )


def existing(folder: Path) -> Path:
    """``folder`` or the nearest folder above it that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
