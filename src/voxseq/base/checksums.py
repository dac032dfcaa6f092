"""Checksums of files: read in parallel, and remembered for files that did not change.

A file is known by what the file system says of it: size, inode, and the times of its last change.
Nobody can set the time of the last change of an inode (ctime), so a file that was written, replaced
or given back an old date since its checksum was found is read again. A bit that a disk lost without
a write is found by reading anew alone.

Two writes within one tick of the clock give the same times. A checksum is therefore remembered only
if the file was older than any tick when it was read, by the clock of the disk that holds it: that
of this machine may differ from a file server's. Younger files are read again the next time.

Device numbers are left out. They differ between the machines that mount a file system, and what one
machine has read is to count on all.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from voxseq.base.errors import ResourceError
from voxseq.base.failures import read_named, write_named
from voxseq.base.files import read_json, remove_temporaries, sha256, write_text

_LOG = logging.getLogger("voxseq.base.checksums")
#: SHA-256 of files of a folder, by their names, in turn.
Checksums = Callable[[Path, Sequence[str]], Generator[str, None, None]]
#: Files read at a time: one is hashed while another waits for the disk; a server has its limits.
_READERS_PER_CORE, _MOST_READERS = 2, 32
#: Nanoseconds; no file system in use dates its files more coarsely (FAT: 2 s).
_TICK = 2_000_000_000


class Stamp(NamedTuple):
    """A file as the file system describes it."""

    size: int
    inode: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """That of the file behind a path, links followed.

        Raises:
            ResourceError: the machine failed.
            OSError: there is no such file.
        """
        with read_named(path):
            found = path.stat()
        return cls(found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


class Entry(NamedTuple):
    """The SHA-256 of a file's content, and the file of which that is known."""

    stamp: Stamp
    checksum: str


def read_checksums(folder: Path, names: Sequence[str]) -> Generator[str, None, None]:
    """SHA-256 of files of a folder, in turn; all are read, several at a time.

    Raises:
        ResourceError: the machine failed.
        OSError: a file is missing.
    """
    if not names:
        return
    readers = min(_READERS_PER_CORE * _cores(), _MOST_READERS, len(names))
    pool = ThreadPoolExecutor(readers, thread_name_prefix="checksums")
    is_complete = False
    try:
        yield from pool.map(sha256, [folder / name for name in names])
        is_complete = True
    finally:
        # No thread is left where processes may be forked next; a request to stop does not wait.
        pool.shutdown(wait=is_complete, cancel_futures=True)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Memory:
    """Remembered checksums of some files, such as those of a run.

    Attributes:
        path: the file that holds them; without it, or where it is damaged, all files are read.
        clock: a folder on the disk that holds the files; it is made where it is missing.
        young: nanoseconds from the last change of a file to the first reading that is remembered:
            a tick; more where the clock is that of another disk than the files'.
    """

    path: Path
    clock: Path
    young: int = _TICK

    def checksums(self, folder: Path, names: Sequence[str]) -> Generator[str, None, None]:
        """SHA-256 of files of a folder, in turn; only files that are not known are read.

        What was found is remembered when all have been asked for.

        Raises:
            ResourceError: the machine failed.
            OSError: a file is missing.
        """
        return self._found(folder, names, self._entries())

    def checksums_anew(self, folder: Path, names: Sequence[str]) -> Generator[str, None, None]:
        """The same, with all files read."""
        return self._found(folder, names, {})

    def _found(
        self, folder: Path, names: Sequence[str], known: Mapping[str, Entry]
    ) -> Generator[str, None, None]:
        stamps = {name: Stamp.of(folder / name) for name in names}
        unchanged = {
            name: known[name]
            for name, stamp in stamps.items()
            if name in known and known[name].stamp == stamp
        }
        unknown = [name for name in names if name not in unchanged]
        # Asked before any file is read: what is old now cannot be written unnoticed later.
        now = self._now() if unknown else 0
        entries = dict(unchanged)
        with closing(read_checksums(folder, unknown)) as read:
            for name in names:
                if name in unchanged:
                    yield unchanged[name].checksum
                    continue
                checksum, stamp = next(read), stamps[name]
                is_old = max(stamp.modified_ns, stamp.changed_ns) < now - self.young
                if is_old and Stamp.of(folder / name) == stamp:
                    entries[name] = Entry(stamp, checksum)
                yield checksum
        if entries != known:
            self._keep(entries)

    def _now(self) -> int:
        """The present time by the clock of the disk, in nanoseconds; 0: nothing counts as old."""
        try:
            with write_named(self.clock):
                self.clock.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self.clock) as probe:
                    return os.fstat(probe.fileno()).st_ctime_ns
        except (OSError, ResourceError) as error:
            _LOG.warning("checksums are not remembered: %s", error)
            return 0

    def _entries(self) -> dict[str, Entry]:
        try:
            return {
                name: Entry(Stamp(*map(int, stamp)), str(checksum))
                for name, (*stamp, checksum) in read_json(self.path).items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _keep(self, entries: Mapping[str, Entry]) -> None:
        lines = {name: [*entry.stamp, entry.checksum] for name, entry in sorted(entries.items())}
        try:
            # Two calls may have verified the same files; it is enough that one remembers them.
            remove_temporaries(self.path)
            write_text(self.path, json.dumps(lines, separators=(",", ":")) + "\n")
        except (OSError, ResourceError) as error:
            # The next call reads the files again.
            _LOG.warning("checksums are not remembered: %s", error)
