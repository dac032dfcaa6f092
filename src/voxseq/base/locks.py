"""Locks that cannot outlive their owner.

A lock is the kernel's own (``flock``) on a small file. It ends with the process that holds it,
whatever way that ends, so there is no stale lock and no guessing from process numbers. The file
stays, and names its last owner for messages only.

Where the file system has no locks, work continues without one and with a warning. The caller is
told, and must then expect other processes at the same work.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from voxseq.base.failures import read_named

_LOG = logging.getLogger("voxseq.base.locks")
#: Errors of a file system without locks, or of a server without them.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True)
class Owner:
    """Who holds a lock, as its file says."""

    pid: int
    host: str
    what: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.what})"


class LockHeldError(Exception):
    """Another process holds the lock."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        super().__init__(f"held by {owner}")


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[bool]:
    """Hold a lock alone; wait for whoever holds it, and say so.

    Yields whether the lock is held: ``False`` where the file system has none.

    Raises:
        ResourceError: the machine failed.
    """
    with _opened(path) as handle:
        is_ours = _try(handle, fcntl.LOCK_EX)
        if is_ours is False:
            _LOG.info("waiting for %s", _owner(path))
            with read_named(path):
                fcntl.flock(handle, fcntl.LOCK_EX)
        _sign(handle, what)
        try:
            yield is_ours is not None
        finally:
            _unlock(handle)


def take(path: Path, what: str) -> IO[str]:
    """Hold a lock until the process ends or the returned file is closed.

    Raises:
        LockHeldError: another process holds it.
        ResourceError: the machine failed.
    """
    handle = _held(path, fcntl.LOCK_EX)
    _sign(handle, what)
    return handle


def share(path: Path) -> IO[str]:
    """Hold a lock together with others until the process ends or the returned file is closed.

    Nobody can hold it alone in the meantime.

    Raises:
        LockHeldError: another process holds it alone.
        ResourceError: the machine failed.
    """
    return _held(path, fcntl.LOCK_SH)


def _held(path: Path, kind: int) -> IO[str]:
    """The open file of a lock that was free for this kind of holding."""
    handle = _open(path)
    try:
        if _try(handle, kind) is False:
            raise LockHeldError(_owner(path))
    except BaseException:
        handle.close()
        raise
    return handle


@contextmanager
def alone(path: Path, what: str) -> Iterator[bool]:
    """Hold a lock if nobody does; yields whether it is held."""
    with _opened(path) as handle:
        is_held = _try(handle, fcntl.LOCK_EX) is True
        if is_held:
            _sign(handle, what)
        try:
            yield is_held
        finally:
            if is_held:
                _unlock(handle)


def owner_of(path: Path) -> Owner | None:
    """Who holds a lock at this moment; ``None`` when nobody does."""
    with read_named(path):
        if not path.exists():
            return None
    with _opened(path) as handle:
        # Together with others that only look, but not with an owner.
        if _try(handle, fcntl.LOCK_SH) is False:
            return _owner(path)
        _unlock(handle)
    return None


def _open(path: Path) -> IO[str]:
    with read_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Neither truncated nor replaced: the lock belongs to this very file.
        return path.open("a+", encoding="utf-8")


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    handle = _open(path)
    try:
        yield handle
    finally:
        # The owner's name may be left unwritten; it is for messages only.
        with suppress(OSError):
            handle.close()


def _try(handle: IO[str], kind: int) -> bool | None:
    """Whether a lock could be had at once; ``None`` where the file system has none."""
    with read_named(Path(handle.name)):
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _LOG.warning("no lock on %s, whose file system has none: %s", handle.name, error)
            return None
    return True


def _unlock(handle: IO[str]) -> None:
    # Explicitly, because a forked child may still have the file open. Where there are no locks,
    # there is nothing to give back.
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)


def _sign(handle: IO[str], what: str) -> None:
    # On a full disk the lock holds all the same.
    with suppress(OSError):
        handle.truncate(0)
        handle.write(json.dumps(vars(Owner(os.getpid(), socket.gethostname(), what))))
        handle.flush()


def _owner(path: Path) -> Owner:
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Owner(0, "an unknown host", "not named")
