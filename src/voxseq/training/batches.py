"""The batches of a training step by step, with or without worker processes."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from voxseq.base.errors import ResourceError, VoxseqError
from voxseq.base.failures import is_out_of_memory, refused_memory
from voxseq.base.random import numpy_generator
from voxseq.base.stopping import SIGNALS
from voxseq.base.watch import LOOK, Watch
from voxseq.training.distributed import processes
from voxseq.training.held import TASKS_AHEAD, task_size
from voxseq.training.launched import local_world_size
from voxseq.training.rows import Batch, Rows, empty, fill_rows, first_step
from voxseq.training.shared import pinned, shared_block

#: Of the loader's message when a batch is not there in time.
_TIMED_OUT = "DataLoader timed out"
_STILL = (
    "see what stopped it or which disk does not answer, then start again: the training resumes "
    "from its last checkpoint; `workers: 0` in that part of `execution` needs no other process"
)
#: Seconds that a worker has to end when nobody needs it any more.
_END = 1.0
#: Of Linux's prctl: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


class EpochOrder:
    """An endless stream of rows: each epoch is a seeded permutation, known at any position."""

    def __init__(self, rows: Sequence[int], seed: int) -> None:
        self._rows = rows
        self._seed = seed

    def __getitem__(self, position: int) -> int:
        epoch, index = divmod(position, len(self._rows))
        return int(self._rows[_permutation(self._seed, epoch, len(self._rows))[index]])


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    return numpy_generator(seed, "epoch", epoch).permutation(size)


class _Tasks(Dataset[Exception | None]):
    """Tasks of workers: the rows from one to another of a step."""

    def __init__(self, rows: Rows, block: Batch) -> None:
        self.rows = rows
        self.block = block
        self.main_process = os.getpid()
        self.start_method = multiprocessing.get_start_method()
        #: Shared with the workers: set when they are to end.
        self.ending = multiprocessing.RawValue(ctypes.c_bool, False)

    def __getitem__(self, task: tuple[int, int, int]) -> Exception | None:
        step, first, stop = task
        steps = len(next(iter(self.block.values())))
        try:
            fill_rows(self.rows, step, range(first, stop), self.block, step % steps)
        except (VoxseqError, MemoryError, OSError) as error:
            # Handed over as it is: the loader would put a traceback into the message.
            return error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return MemoryError(refused_memory(error))
        return None

    def prepare_worker(self, _: int) -> None:
        """Give a worker one thread, and leave requests to stop to the main process.

        A scheduler signals every process of a job. The main process finishes its step, for which it
        may need one more batch, and then ends the workers itself.
        """
        torch.set_num_threads(1)
        for number in SIGNALS:
            signal.signal(number, self._end_when_asked)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if self.start_method == "fork":
            _end_with_parent(self.main_process)
        else:
            _end_with_main_process()
        sys.excepthook = _unless_nobody_listens

    def _end_when_asked(self, *_: object) -> None:
        if self.ending.value:
            os._exit(0)


def _end_with_parent(parent: int) -> None:
    """Let this process end when its parent is killed, instead of some seconds later.

    Args:
        parent: the process that made this one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that was killed before sends nothing any more. The loader would take the process that
    # adopted this one for its parent, and this one would wait, and hold the run's lock, for ever.
    if os.getppid() != parent:
        os._exit(1)


def _end_with_main_process() -> None:
    """The same where another process than the main one may have made this one.

    With ``forkserver`` the parent is a server. Its end says nothing: signals of a scheduler reach
    it too, and the main process may still need a batch. A pipe of the main process tells.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _unless_nobody_listens(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an error of a worker's threads, unless it is that the main process is gone.

    A thread hands batches over. It sees closed connections a moment before the worker is ended.
    """
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def stepwise(rows: Rows, start: int, stop: int, workers: int = 0) -> Generator[Batch, None, None]:
    """Yield the batch of each step of ``start..stop``, each in memory that the next one reuses.

    The number of workers changes who fills a row, never what is in it, because rows are drawn from
    streams that are functions of the step. Nor does the way in which workers are started
    (``multiprocessing.set_start_method``): fork, forkserver or spawn.

    Workers fill rows into one block of shared memory; nothing else crosses processes. They are some
    tasks ahead, of which the block has the rows besides those of the step at hand.

    Args:
        rows: of the training. With forkserver and spawn each worker gets a pickled copy.
        start: first step.
        stop: step after the last.
        workers: processes that prepare rows ahead; 0 for none. They end when the generator is
            closed.

    Raises:
        ResourceError: no room for the block, or a worker that stands still.
    """
    if workers == 0:
        block = empty(rows, 1)
        for step in range(start, stop):
            fill_rows(rows, step, range(rows.count), block)
            yield first_step(block)
        return
    block = shared_block(rows, workers, local_world_size(processes().world_size))
    tasks = _Tasks(rows, block)
    size = task_size(rows.count, workers)
    parts = [(i, min(i + size, rows.count)) for i in range(0, rows.count, size)]
    loader: DataLoader[Any] = DataLoader(
        tasks,
        batch_size=None,
        sampler=_Order(start, stop, parts),
        num_workers=workers,
        prefetch_factor=TASKS_AHEAD,
        # The time between two looks at :class:`Watch`, not one that workers must keep.
        timeout=LOOK,
        worker_init_fn=tasks.prepare_worker,
        # Without its own generator the loader would draw from the global one.
        generator=torch.Generator().manual_seed(0),
    )
    numbers: list[int] = []
    watch = Watch(lambda: numbers)
    try:
        with _ended_workers(tasks) as started:
            done = _started(loader)
            numbers += [worker.pid for worker in started() if worker.pid is not None]
            held = len(next(iter(block.values())))
            # Workers were started before: they have nothing to do with a device.
            with watch, pinned(block):
                for step in range(start, stop):
                    for _ in parts:
                        error = _awaited(done, watch)
                        if error is not None:
                            raise error
                    yield first_step(block, step % held)
    except Exception as error:
        # The loader's signal handler raises its error about an ended worker anywhere.
        if watch.reason:
            raise ResourceError(f"{watch.reason}, with a batch to prepare", _STILL) from error
        raise


@dataclass(frozen=True)
class _Order:
    """The tasks in their order: step, first row and the row after the last."""

    start: int
    stop: int
    parts: Sequence[tuple[int, int]]

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        for step in range(self.start, self.stop):
            for first, last in self.parts:
                yield step, first, last

    def __len__(self) -> int:
        return (self.stop - self.start) * len(self.parts)


def _awaited(done: Iterator[Any], watch: Watch) -> Exception | None:
    """Wait until the next task is done; what went wrong with it in a worker."""
    with watch.awaiting():
        while True:
            try:
                error: Exception | None = next(done)
                return error
            except Exception as error:
                if watch.reason or _TIMED_OUT not in str(error):
                    raise


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """The loader's iterator, whose workers have been started.

    Requests to stop wait in the meantime: the loader is not made to be interrupted there, and a
    worker without its own handlers would act on ours.
    """
    if multiprocessing.get_start_method() != "fork":
        # Its start unblocks signals, by which a server that starts next would end.
        resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def _ended_workers(tasks: _Tasks) -> Iterator[Callable[[], list[BaseProcess]]]:
    """End the processes that are started in the block, whatever they are doing.

    Yields:
        What gives those that run.
    """
    before = set(multiprocessing.active_children())

    def running() -> list[BaseProcess]:
        return list(set(multiprocessing.active_children()) - before)

    try:
        yield running
    finally:
        with _without_word_of_children():
            tasks.ending.value = True
            for worker in running():
                worker.terminate()
                with suppress(ProcessLookupError):
                    # A stopped one takes notice of nothing until it is continued.
                    os.kill(int(worker.pid or 0), signal.SIGCONT)
                worker.join(_END)


@contextmanager
def _without_word_of_children() -> Iterator[None]:
    """Keep the loader's signal handler, which raises an error about each killed worker, silent."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    while signal.getsignal(signal.SIGCHLD) != signal.SIG_DFL:
        with suppress(RuntimeError):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


@contextmanager
def lost_workers_named() -> Iterator[None]:
    """Turn the loader's error for a worker that is gone into one that says what to do."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise ResourceError(
            f"a process that prepares batches ended by itself ({' '.join(str(error).split())})",
            "the system ends processes when memory runs out: lower the number of workers or give "
            "the job more memory, then start again; the training resumes from its last checkpoint",
        ) from error
