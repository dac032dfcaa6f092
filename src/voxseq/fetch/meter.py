"""How many bytes have arrived: a bar in a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from voxseq.base.errors import DataError
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


class Meter:
    """Counts bytes that several threads fetch.

    Args:
        description: what is fetched, in a few words.
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
        self._bar: Progress | None = None

    def __enter__(self) -> Meter:
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(
                self._description, total=self._total, completed=self._done
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, count: int) -> None:
        """Count bytes; negative when a file has to begin anew.

        Raises:
            DataError: they are more than may be fetched.
        """
        with self._lock:
            self._done += count
            self.require_allowed(self._done)
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done)
                return
            now = time.monotonic()
            if now - self._last < LINE_INTERVAL:
                return
            self._last = now
            rate = max(self._done - self._start, 0) / (now - self._began)
            _LOG.info(
                "%s: %s of %s, %s/s",
                self._description,
                in_words(self._done),
                in_words(self._total),
                in_words(int(rate)),
            )

    def require_allowed(self, total: int) -> None:
        """Make sure that so many bytes may be fetched.

        Raises:
            DataError: they may not.
        """
        if self._most is not None and total > self._most:
            raise DataError(
                f"{self._description}: has more than the {in_words(self._most)} that may be "
                "fetched without being asked for (data.fetch_at_most_gb)",
                f"`voxseq data download {self._description}` fetches it whatever its size",
            )
