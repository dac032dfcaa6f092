"""How many bytes have arrived, a bar in a terminal and plain lines in a log; and room for them."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from voxseq.base.errors import DataError, ResourceError
from voxseq.base.failures import existing
from voxseq.base.progress import LINE_INTERVAL

_LOG = logging.getLogger("voxseq.fetch")
_UNITS = ("B", "kB", "MB", "GB", "TB")


def in_words(count: int | None) -> str:
    """A number of bytes for people, in decimal units."""
    if count is None:
        return "unknown"
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds, or will hold, ``folder``."""
    return shutil.disk_usage(existing(folder)).free


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise ResourceError unless ``needed`` bytes fit on the disk of ``folder``."""
    free = free_bytes(folder)
    if needed > free:
        raise ResourceError(
            f"{what} needs {in_words(needed)}, {folder} has {in_words(free)} free",
            "free some space, or choose another disk with --root or VOXSEQ_DATA; what has "
            "arrived is kept",
        )


class Meter:
    """Counts bytes that several threads fetch; a context manager.

    Args:
        description: name of the data set.
        total: bytes of the whole work; None where unknown.
        done: bytes that an earlier, interrupted call has fetched.
        most: bytes that may be fetched; None for any number.
    """

    def __init__(
        self, description: str, total: int | None, done: int = 0, most: int | None = None
    ) -> None:
        self._description = description
        self._total = total
        self._done = self._start = done
        self._most = most
        self._lock = threading.Lock()
        self._began = self._last = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(description, total=total, completed=done)

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, count: int) -> None:
        """Count bytes; negative when a file has to begin anew.

        Raises:
            DataError: they are more than may be fetched.
        """
        with self._lock:
            self._done += count
            self.require_allowed(self._done)
            self._bar.update(self._task, completed=self._done)
            now = time.monotonic()
            if not self._bar.disable or now - self._last < LINE_INTERVAL:
                return
            self._last = now
            rate = int(max(self._done - self._start, 0) / (now - self._began))
            done, total = in_words(self._done), in_words(self._total)
            _LOG.info("%s: %s of %s, %s/s", self._description, done, total, in_words(rate))

    def require_allowed(self, total: int) -> None:
        """Raise DataError when ``total`` bytes may not be fetched."""
        if self._most is not None and total > self._most:
            raise DataError(
                f"{self._description}: has more than the {in_words(self._most)} that may be "
                "fetched without being asked for (data.fetch_at_most_gb)",
                f"`voxseq data download {self._description}` fetches it whatever its size",
            )
