"""Locks that cannot outlive their owner.

A lock is the kernel's own (``flock``) on a small file. It ends with the process that holds it,
whatever way that ends, so there is no stale lock and no guessing from process numbers. The file
stays, and names its last owner for messages only.

Work goes on without the lock, with a warning, where the file system has none.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LOG = logging.getLogger("voxseq.locks")


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
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock alone; wait for whoever holds it, and say so."""
    with _open(path) as handle:
        _wait(handle, path, fcntl.LOCK_EX)
        _sign(handle, what)
        try:
            yield
        finally:
            _unlock(handle)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a lock together with others, against whoever wants it alone."""
    with _open(path) as handle:
        _wait(handle, path, fcntl.LOCK_SH)
        try:
            yield
        finally:
            _unlock(handle)


def take(path: Path, what: str) -> IO[str]:
    """Hold a lock until the process ends or the returned file is closed.

    Raises:
        LockHeldError: another process holds it.
    """
    handle = _open(path)
    if not _try(handle, fcntl.LOCK_EX):
        owner = _owner(path)
        handle.close()
        raise LockHeldError(owner)
    _sign(handle, what)
    return handle


def owner_of(path: Path) -> Owner | None:
    """Who holds a lock at this moment; ``None`` when nobody does."""
    if not path.exists():
        return None
    with _open(path) as handle:
        # Together with others that only look, but not with an owner.
        if not _try(handle, fcntl.LOCK_SH):
            return _owner(path)
        _unlock(handle)
    return None


def _open(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Neither truncated nor replaced: the lock belongs to this very file.
    return path.open("a+", encoding="utf-8")


def _wait(handle: IO[str], path: Path, kind: int) -> None:
    if not _try(handle, kind):
        _LOG.info("waiting for %s", _owner(path))
        fcntl.flock(handle, kind)


def _try(handle: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _LOG.warning("no lock on %s, whose file system has none: %s", handle.name, error)
    return True


def _unlock(handle: IO[str]) -> None:
    try:
        # Said aloud, because a forked child may still have the file open.
        fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError as error:
        _LOG.debug("no lock to give back on %s: %s", handle.name, error)


def _sign(handle: IO[str], what: str) -> None:
    try:
        handle.truncate(0)
        handle.write(json.dumps(vars(Owner(os.getpid(), socket.gethostname(), what))))
        handle.flush()
    except OSError as error:
        # A full disk: the lock holds all the same.
        _LOG.debug("%s does not name its owner: %s", handle.name, error)


def _owner(path: Path) -> Owner:
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Owner(0, "an unknown host", "not named")
