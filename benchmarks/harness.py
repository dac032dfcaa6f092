"""Measuring two ways in the same run, in turn, and the rows of the table that comes of it."""

from __future__ import annotations

import ctypes
import gc
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Work = Callable[[], object]
#: Rounds of every comparison; medians are taken over them.
ROUNDS = 5
#: Rounds of memory: forks of one process hardly differ.
MEMORY_ROUNDS = 2
_KIB_PER_MIB = 1024
_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Row:
    """One line of the table of ratios.

    Attributes:
        name: what is measured.
        against: what it is compared with.
        ours: median of ours, in ``unit``.
        other: median of the other, in ``unit``.
        unit: of both.
        ratio: the figure that ``target`` is about.
        low: smallest ratio of a round.
        high: largest ratio of a round.
        target: what is to be reached; None for a figure that is only reported.
        better: whether the ratio must be at least or at most the target.
        rounds: number of rounds.
        note: sizes and conditions.
    """

    name: str
    against: str
    ours: float
    other: float
    unit: str
    ratio: float
    low: float
    high: float
    target: float | None
    better: Literal["at least", "at most"]
    rounds: int
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.better == "at least" else self.ratio <= self.target


@dataclass(frozen=True)
class Unmeasured:
    """A line of the table for which something is missing."""

    name: str
    needs: str


def timed(work: Work, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, without the collection of earlier garbage."""
    gc.collect()
    began = clock()
    work()
    return clock() - began


def in_turn(rounds: int, names: Sequence[str]) -> list[list[str]]:
    """The order of the sides in each round, turned round so that none always follows the other."""
    return [list(names) if number % 2 == 0 else list(names)[::-1] for number in range(rounds)]


def alternate(
    sides: Mapping[str, Work],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each side in each round; the sides take turns, after one unmeasured call each.

    Args:
        sides: name → what is measured.
        rounds: number of calls of each.
        clock: ``time.process_time`` where other work on the machine shall not count.
    """
    for work in sides.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for names in in_turn(rounds, list(sides)):
        for name in names:
            seconds[name].append(timed(sides[name], clock))
    return seconds


def faster(
    name: str,
    against: str,
    seconds: Mapping[str, Sequence[float]],
    target: float | None,
    note: str = "",
    items: int = 1,
) -> Row:
    """A row whose ratio says how many times as fast ``ours`` is as ``other``.

    Args:
        name: what is measured.
        against: what it is compared with.
        seconds: of ``ours`` and ``other`` in each round.
        target: smallest ratio that is wanted.
        note: sizes and conditions.
        items: made in one call; milliseconds are given for one of them.
    """
    ours, other = ([1000 * s / items for s in seconds[side]] for side in ("ours", "other"))
    ratios = [b / a for a, b in zip(ours, other, strict=True)]
    return _row(name, against, (ours, other, "ms"), ratios, target, "at least", note)


def smaller(
    name: str,
    against: str,
    sizes: Mapping[str, Sequence[float]],
    target: float | None,
    unit: str,
    note: str = "",
) -> Row:
    """A row whose ratio is the size of ``ours`` over that of ``other``, in ``unit``."""
    ours, other = sizes["ours"], sizes["other"]
    ratios = [a / b for a, b in zip(ours, other, strict=True)]
    return _row(name, against, (ours, other, unit), ratios, target, "at most", note)


def share(
    name: str,
    against: str,
    rates: Mapping[str, Sequence[float]],
    target: float | None,
    unit: str,
    note: str = "",
) -> Row:
    """A row whose ratio is the rate of ``ours`` over that of ``other``, in ``unit``."""
    ours, other = rates["ours"], rates["other"]
    ratios = [a / b for a, b in zip(ours, other, strict=True)]
    return _row(name, against, (ours, other, unit), ratios, target, "at least", note)


def figure(
    name: str,
    against: str,
    values: Sequence[float],
    target: float,
    unit: str,
    better: Literal["at least", "at most"],
    note: str = "",
) -> Row:
    """A row about a figure that has nothing beside it but its target."""
    middle = statistics.median(values)
    bounds = (min(values), max(values))
    return Row(
        name, against, middle, target, unit, middle, *bounds, target, better, len(values), note
    )


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Power of the size with which the values grow: least squares of the logarithms."""
    points = [(math.log(n), math.log(value)) for n, value in zip(sizes, values, strict=True)]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def peak_mib(work: Work) -> float:
    """Growth of the resident memory, in MiB, while ``work`` runs in a process of its own.

    The process is a fork: what is loaded already is in its starting figure, not in the growth.

    Raises:
        RuntimeError: ``work`` failed.
    """

    def done() -> None:
        work()

    return in_process(done, "fork")[0]


def in_process(work: Work, start: Literal["fork", "spawn"]) -> tuple[float, Any]:
    """Run ``work`` in a process of its own.

    Args:
        work: to be done; for "spawn" it can be pickled.
        start: "spawn" for a new process, which owes nothing to what this one has in memory and
            where.

    Returns:
        Growth of the process's resident memory in MiB, and what ``work`` returned.

    Raises:
        RuntimeError: ``work`` failed.
    """
    context: Any = multiprocessing.get_context(start)
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(work, writer))
    process.start()
    writer.close()
    try:
        found: tuple[float, Any] = reader.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the measured process ended with status {process.exitcode}") from None
    process.join()
    return found


def peaks(sides: Mapping[str, Work], rounds: int = MEMORY_ROUNDS) -> dict[str, list[float]]:
    """Memory of each side in each round, in turn; see :func:`peak_mib`."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for names in in_turn(rounds, list(sides)):
        for name in names:
            found[name].append(peak_mib(sides[name]))
    return found


def _row(
    name: str,
    against: str,
    measured: tuple[Sequence[float], Sequence[float], str],
    ratios: Sequence[float],
    target: float | None,
    better: Literal["at least", "at most"],
    note: str,
) -> Row:
    ours, other, unit = measured
    return Row(
        name,
        against,
        statistics.median(ours),
        statistics.median(other),
        unit,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        target,
        better,
        len(ratios),
        note,
    )


def _measured(work: Work, writer: Any) -> None:
    # Freed memory that the fork inherits would be used without growth.
    give_back()
    # A fork inherits its parent's highest figure; writing 5 starts a new one (proc(5)).
    (_PROCESS / "clear_refs").write_text("5")
    start = _status("VmRSS")
    result = work()
    writer.send(((_status("VmHWM") - start) / _KIB_PER_MIB, result))
    writer.close()


def give_back() -> None:
    """Return freed memory to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _status(key: str) -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
