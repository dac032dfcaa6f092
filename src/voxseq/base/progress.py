"""Progress of long work: a bar in a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_LOG = logging.getLogger("voxseq.base.progress")
#: Seconds between two lines of a log.
LINE_INTERVAL = 15.0


def track(iterable: Iterable[T], description: str, total: int, start: int = 0) -> Iterator[T]:
    """Yield the items of ``iterable`` and show how far the work has come.

    Args:
        iterable: the work.
        description: the work in a few words.
        total: number of items of the whole work.
        start: items that an earlier, interrupted call has done.
    """
    if sys.stderr.isatty():
        text = TextColumn("{task.description}")
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(description, total=total, completed=start)
            for item in iterable:
                yield item
                progress.advance(task)
        return
    began = last = time.monotonic()
    done = start
    for item in iterable:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= LINE_INTERVAL:
            rate = (done - start) / (now - began)
            left = (total - done) / rate if rate > 0 else 0.0
            _LOG.info("%s: %d of %d, about %.0f s left", description, done, total, left)
            last = now
    _LOG.info("%s: %d of %d, %.1f s", description, done, total, time.monotonic() - began)
