"""Progress of long work: a bar in a terminal, plain lines in a log, and a record for others.

The record is a small file beside the state of a run. `voxseq status` and the workflow's display
read it; no result depends on it.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from voxseq.base.errors import ResourceError, VoxseqError
from voxseq.base.files import read_json, write_json

T = TypeVar("T")
#: Numbers that describe the work besides how far it is, such as a loss.
Facts = Mapping[str, float | int | None]
_LOG = logging.getLogger("voxseq.base.progress")
#: Name of the record in the folder of a run's state.
RECORD = "progress.json"
#: Seconds between two lines of a log, two records, and two looks at the facts for the bar.
LINE_INTERVAL, RECORD_INTERVAL, BAR_INTERVAL = 15.0, 3.0, 0.5


def _no_facts() -> Facts:
    return {}


@dataclass
class _Recorder:
    """Writes the record of the work that this process does."""

    path: Path
    content: dict[str, Any] = field(default_factory=dict)
    written_at: float = 0.0

    def note(self, content: Mapping[str, Any]) -> None:
        """Write a record."""
        self.content = {**content, "updated": round(time.time(), 1)}
        self.written_at = time.monotonic()
        # Work goes on without a record; where the disk is full, its results will say so.
        with suppress(ResourceError, OSError, ValueError):
            write_json(self.path, self.content)

    def follow(self, work: _Work) -> None:
        """Write how far some work is: at its first item, its last, and now and then."""
        is_due = time.monotonic() - self.written_at >= RECORD_INTERVAL
        if is_due or work.done in (work.start + 1, work.total):
            self.note({"state": "running", **work.record()})


_recorders: list[_Recorder] = []


@contextmanager
def recorded(path: Path) -> Iterator[None]:
    """Keep a record of the progress of the work in the block, and of how it ended.

    Its ``state`` is "running", "finished", "stopped" (on request; it resumes) or "failed", the last
    two with a ``reason``. A record that says "running" although nobody holds the run's lock is that
    of a process which was killed.

    Args:
        path: file of the record, written anew every few seconds.
    """
    recorder = _Recorder(path)
    recorder.note({"state": "running"})
    _recorders.append(recorder)
    ending: dict[str, Any] = {"state": "finished"}
    try:
        yield
    except Exception as error:
        text = str(error) if isinstance(error, VoxseqError) else f"{type(error).__name__}: {error}"
        ending = {"state": "failed", "reason": text}
        raise
    except BaseException as request:
        ending = {"state": "stopped", "reason": str(request) or type(request).__name__}
        raise
    finally:
        _recorders.remove(recorder)
        kept = {k: v for k, v in recorder.content.items() if k != "seconds_left"}
        recorder.note({**kept, **ending})


def read_record(path: Path) -> dict[str, Any]:
    """A record; empty where there is none or it cannot be read."""
    try:
        found = read_json(path)
    except (OSError, ValueError, VoxseqError):
        return {}
    return found if isinstance(found, dict) else {}


def track(
    iterable: Iterable[T],
    description: str,
    total: int,
    start: int = 0,
    facts: Callable[[], Facts] = _no_facts,
) -> Iterator[T]:
    """Yield the items of ``iterable`` and show how far the work has come.

    Args:
        iterable: the work.
        description: the work in a few words.
        total: number of items of the whole work.
        start: items that an earlier, interrupted call has done.
        facts: numbers that are shown beside; asked for now and then.
    """
    work = _Work(description, total, start, facts)
    with (_bar if sys.stderr.isatty() else _lines)(work) as show:
        for item in iterable:
            yield item
            work.done += 1
            show()
            for recorder in _recorders[-1:]:
                recorder.follow(work)


@dataclass
class _Work:
    """Work under way."""

    description: str
    total: int
    start: int
    facts: Callable[[], Facts]
    began: float = field(default_factory=time.monotonic)
    done: int = field(init=False)

    def __post_init__(self) -> None:
        self.done = self.start

    def record(self) -> dict[str, Any]:
        """How far it is, for the file and for people."""
        seconds = time.monotonic() - self.began
        left = (self.total - self.done) * seconds / max(self.done - self.start, 1)
        facts = self.facts().items()
        found = {name: value for name, value in facts if value is not None and math.isfinite(value)}
        return {
            "doing": self.description,
            "done": self.done,
            "total": self.total,
            "seconds": round(seconds, 1),
            "seconds_left": round(left, 1),
            **found,
        }


@contextmanager
def _bar(work: _Work) -> Iterator[Callable[[], None]]:
    """Show work in a terminal; yields what to call after each item."""
    facts = TextColumn("{task.fields[facts]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), facts)
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(work.description, total=work.total, completed=work.start, facts="")
        looked = 0.0

        def show() -> None:
            nonlocal looked
            progress.advance(task)
            if time.monotonic() - looked >= BAR_INTERVAL:
                looked = time.monotonic()
                progress.update(task, facts=", ".join(facts_in_words(work.facts())))

        yield show


@contextmanager
def _lines(work: _Work) -> Iterator[Callable[[], None]]:
    """Show work in a log; yields what to call after each item."""
    last = work.began

    def show() -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_INTERVAL:
            last = time.monotonic()
            _LOG.info("%s: %s", work.description, in_words(work.record()))

    yield show
    seconds = time.monotonic() - work.began
    _LOG.info("%s: %d of %d, %.1f s", work.description, work.done, work.total, seconds)


def in_words(record: Mapping[str, Any]) -> str:
    """A record as ``120 of 1000, loss 0.53, 41 samples/s, 2 min left``; "" before work begins."""
    if "done" not in record:
        return ""
    parts = [f"{record['done']} of {record['total']}", *facts_in_words(record)]
    if "seconds_left" in record:
        parts.append(f"{duration(record['seconds_left'])} left")
    return ", ".join(parts)


def facts_in_words(facts: Mapping[str, Any]) -> list[str]:
    """The loss and the speed among some facts."""
    parts = []
    if facts.get("loss") is not None:
        parts.append(f"loss {facts['loss']:.4g}")
    if facts.get("samples_per_second") is not None:
        parts.append(f"{facts['samples_per_second']:.3g} samples/s")
    return parts


def duration(seconds: float) -> str:
    """A time in its largest units: ``40 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 99:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 99:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"
