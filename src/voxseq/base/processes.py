"""Work on many volumes by worker processes; results come in order and do not depend on them."""

from __future__ import annotations

import functools
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

from joblib.externals.loky import ProcessPoolExecutor

from voxseq.base.errors import ResourceError, VoxseqError
from voxseq.base.watch import Watch

T = TypeVar("T")
R = TypeVar("R")
#: Items submitted ahead per worker: few, so that a stop loses little and memory stays bounded.
_AHEAD = 2
#: Variables that limit the threads of a worker; processes share the cores already.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: Seconds between two looks of a worker at whether the process that started it still lives.
_WATCH = 1.0


@dataclass(frozen=True)
class Work(Generic[T]):
    """A description of the work, for messages.

    Attributes:
        title: the data set and the work, such as "preparing spleen".
        name: name of an item.
        kind: part of the configuration's ``execution`` that sets memory and workers.
    """

    title: str
    name: Callable[[T], str]
    kind: str


def in_order(
    function: Callable[[T], R], items: Sequence[T], workers: int, work: Work[T]
) -> Iterator[R]:
    """Yield ``function(item)`` for every item, in the order of ``items``.

    Args:
        function: one that other processes can import, with small arguments and results.
        items: the work.
        workers: processes; 0: all is done in this one.
        work: for messages.

    Raises:
        VoxseqError, OSError: that of the first item in order that failed.
        ResourceError: a process ended abruptly, stood still or had too little memory; the message
            names the items concerned.
    """
    done = 0
    results = (
        _in_processes(function, items, workers) if workers else (function(item) for item in items)
    )
    try:
        # Closed here and now: left to the collector of garbage, the pool might be shut down by one
        # of its own threads, which would wait for itself.
        with closing(results):
            for result in results:
                if isinstance(result, Exception):
                    raise result
                yield result
                done += 1
    except MemoryError as error:
        raise ResourceError(
            f"{work.title}: out of memory{_among(items[done : done + 1], work)}", _remedy(work)
        ) from error
    except BrokenProcessPool as error:
        ahead = items[done : done + _AHEAD * workers]
        if isinstance(error, _GivenUp):
            raise ResourceError(
                f"{work.title}: {error}{_among(ahead, work)}",
                f"see what stopped it or which disk does not answer; or {_remedy(work)}",
            ) from error
        raise ResourceError(
            f"{work.title}: a worker process ended abruptly{_among(ahead, work)}{_exit(error)}",
            _remedy(work),
        ) from error


def _in_processes(
    function: Callable[[T], R], items: Sequence[T], workers: int
) -> Generator[R | Exception, None, None]:
    call = functools.partial(_call, os.getpid(), function)
    # joblib's processes: they say how one ended, and are replaced when their memory grows.
    pool = ProcessPoolExecutor(max_workers=workers, env=dict.fromkeys(_THREADS, "1"))
    ahead: deque[Future[R | Exception]] = deque()
    is_complete = False
    try:
        with Watch(lambda: tuple(pool._processes or ())) as watch:
            for item in items:
                if len(ahead) == _AHEAD * workers:
                    yield _result(ahead.popleft(), watch)
                ahead.append(pool.submit(call, item))
            while ahead:
                yield _result(ahead.popleft(), watch)
        is_complete = True
    finally:
        # After an error the results of the others are not needed.
        pool.shutdown(wait=True, kill_workers=not is_complete)


class _GivenUp(BrokenProcessPool):
    """Processes stood still, and were ended."""


def _result(future: Future[R | Exception], watch: Watch) -> R | Exception:
    try:
        with watch.awaiting():
            return future.result()
    except BrokenProcessPool as error:
        if watch.reason:
            raise _GivenUp(watch.reason) from error
        raise


def _call(parent: int, function: Callable[[T], R], item: T) -> R | Exception:
    _end_with(parent)
    try:
        return function(item)
    except (VoxseqError, MemoryError, OSError) as error:
        # Handed over as a result, so that it is raised in its order.
        return error


@functools.cache
def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a killed run leaves no process behind."""
    if os.getpid() == parent:
        # Called in the process that asked: there is nothing to watch.
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _exit(error: BrokenProcessPool) -> str:
    """How the processes ended, such as by SIGKILL where the memory was used up."""
    codes = re.search(r"exit codes of the workers are \{(.*?)\}", str(error))
    return f" ({codes[1]})" if codes else ""


def _among(items: Sequence[T], work: Work[T]) -> str:
    names = [work.name(item) for item in items]
    if len(names) < 2:
        return "".join(f" at {name}" for name in names)
    return f" at one of {', '.join(names)}"


def _remedy(work: Work[T]) -> str:
    return (
        f"give the job more memory (execution.{work.kind}.mem_mb) or fewer processes "
        f"(execution.{work.kind}.workers), and start it again: finished work is kept"
    )
