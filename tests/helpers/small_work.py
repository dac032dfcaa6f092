"""Functions that worker processes call in tests: a module of its own, quick to import."""

from __future__ import annotations

import os
import signal
import time

from voxseq.base.errors import DataError
from voxseq.base.processes import Work

WORK: Work[int] = Work("counting", lambda n: f"item {n}", "preprocess")


def slow_square(number: int) -> tuple[int, int]:
    # The first take longest, so that they finish last.
    time.sleep(0.02 * (6 - number) if number < 6 else 0)
    return number * number, os.getpid()


def fail(number: int) -> int:
    if number == 4:
        raise DataError("item 4: bad", "do something")
    if number == 2:
        time.sleep(0.3)
        raise DataError("item 2: bad", "do something else")
    return number


def end_abruptly(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def stop(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def need_memory(number: int) -> int:
    if number == 1:
        raise MemoryError
    return number
