"""Detect worker processes that hang while their work is awaited."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

#: Seconds between two looks at the processes.
LOOK = 5.0
#: Looks in a row after which processes are given up: one that is stopped; all of them when they do
#: nothing; the same where one waits for a disk, whose server may come back.
STOPPED, IDLE, DISK = 6, 24, 120
#: Share of the time in which processes compute, and bytes that they read or write in it, from which
#: on they count as working. Waiting by itself takes a little of both.
_SHARE, _BYTES = 0.004, 2**16


@dataclass(frozen=True)
class _Process:
    pid: int
    state: str
    seconds: float
    transferred: int


class Watch:
    """A thread that looks at processes while this one waits for them, and ends lost ones.

    Ending them makes every wait for them fail. Works on Linux; elsewhere nothing is noticed.

    Args:
        processes: their numbers at the moment.

    Attributes:
        reason: why processes were ended; "" as long as none was.
    """

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self.reason = ""
        self._processes = processes
        self._is_awaited = False
        self._served = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @contextmanager
    def awaiting(self) -> Iterator[None]:
        """The block waits for work of the processes."""
        self._is_awaited = True
        try:
            yield
        finally:
            self._is_awaited = False
            self._served += 1

    def _run(self) -> None:
        # Looks are counted, not seconds: this process may be suspended together with the others.
        stopped = idle = served = 0
        seconds, transferred = 0.0, 0
        while not self._over.wait(LOOK) and not self.reason:
            found = [p for p in map(_look_at, self._processes()) if p is not None]
            work = sum(p.seconds for p in found), sum(p.transferred for p in found)
            computed, moved = abs(work[0] - seconds), abs(work[1] - transferred)
            is_working = computed >= _SHARE * IDLE * LOOK or moved >= _BYTES
            if not found or not self._is_awaited or served != self._served:
                stopped = idle = 0
                served, (seconds, transferred) = self._served, work
                continue
            if is_working:
                idle, (seconds, transferred) = 0, work
            else:
                idle += 1
            halted = [p for p in found if p.state == "T"]
            stopped = stopped + 1 if halted else 0
            waits = any(p.state == "D" for p in found)
            if stopped >= STOPPED:
                self._give_up(halted, f"stopped for {stopped * LOOK:.0f} s")
            elif idle >= (DISK if waits else IDLE):
                self._give_up(found, f"doing nothing for {idle * LOOK:.0f} s")

    def _give_up(self, lost: list[_Process], how: str) -> None:
        numbers = ", ".join(str(p.pid) for p in lost)
        self.reason = f"worker process{'es' if len(lost) > 1 else ''} {numbers}: {how}"
        for process in lost:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _look_at(pid: int) -> _Process | None:
    folder = Path(f"/proc/{pid}")
    try:
        # The name, in brackets, may hold anything.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    transferred = 0
    with suppress(OSError, ValueError):
        counts = dict(line.split(": ") for line in (folder / "io").read_text().splitlines())
        names = ("rchar", "wchar", "read_bytes", "write_bytes")
        transferred = sum(int(counts[name]) for name in names)
    ticks = int(fields[11]) + int(fields[12])
    return _Process(pid, fields[0], ticks / os.sysconf("SC_CLK_TCK"), transferred)
