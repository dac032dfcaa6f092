"""Threads that nobody has to wait for.

Those of :class:`concurrent.futures.ThreadPoolExecutor` keep the interpreter from ending, also while
one of them waits for a name server or for an account's client, which cannot be interrupted.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
#: Seconds to wait for threads that were asked to end.
_PARTING = 1.5


class Pool(Executor):
    """Runs calls in daemon threads.

    Args:
        count: calls at a time.
    """

    def __init__(self, count: int) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"fetch-{n}", daemon=True)
            for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a call as soon as a thread is free."""
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._jobs.put(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads; with ``cancel_futures``, without what has not begun and without waiting
        long."""
        while cancel_futures:
            try:
                self._jobs.get_nowait()
            except queue.Empty:
                break
        for _ in self._threads:
            self._jobs.put(None)
        until = time.monotonic() + _PARTING
        for thread in self._threads:
            if wait:
                thread.join(max(until - time.monotonic(), 0) if cancel_futures else None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
