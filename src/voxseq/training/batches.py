"""Batches as a function of the step, with or without worker processes."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from voxseq.base.errors import ResourceError, VoxseqError
from voxseq.base.failures import is_out_of_memory, refused_memory
from voxseq.base.random import numpy_generator
from voxseq.base.stopping import SIGNALS
from voxseq.base.watch import LOOK, Watch
from voxseq.training.distributed import processes
from voxseq.training.launched import local_world_size
from voxseq.training.memory import memory_limit

Batch = dict[str, Tensor]
#: Batches that each worker prepares ahead, and those that the training still holds besides: the one
#: of its step, and the one before until then.
_AHEAD, _HELD = 2, 2
#: Batches' worth of memory that a worker has in work: its samples, and the batch made of them.
_IN_WORK = 2
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
#: Where Linux keeps shared memory. It is small in containers: 64 MB by default.
_SHARED = Path("/dev/shm")  # noqa: S108 - read, not written
#: Bytes for the locks of one queue.
_LOCKS = 4 * mmap.PAGESIZE


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


class _SharedMemory:
    """Free shared memory before any worker started, and whether batches fit.

    Args:
        batches: how many are there at the same time at most.
        workers: how many make a batch at the same time, outside shared memory.
    """

    def __init__(self, batches: int, workers: int) -> None:
        self._batches = batches
        self._workers = workers
        self._free = _free()
        self._limit = memory_limit()
        self._is_checked = False

    def require_locks(self, workers: int) -> None:
        """Raise a ResourceError unless the locks of the queues to some workers have room."""
        if self._free is not None and self._free < _LOCKS * (workers + 1):
            raise _no_shared_memory(f"is full: {_megabytes(self._free)} are free")

    def shared(self, batch: Batch) -> Batch:
        """The batch, put into shared memory by the worker that made it.

        Left to the loader, a thread of the worker would do it, whose errors nobody hears of.

        Raises:
            ResourceError: all batches that are prepared ahead would not fit, or this one did not.
        """
        if not self._is_checked:
            self._require_room(_bytes(batch))
            self._is_checked = True
        try:
            for value in batch.values():
                if value.numel():
                    value.share_memory_()  # type: ignore[no-untyped-call]
            return batch
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise _no_shared_memory(f"took no further batch ({error})") from error

    def _require_room(self, size: int) -> None:
        """Raise a ResourceError unless batches of this size fit, all that there will be."""
        needed = self._batches * size
        if self._free is not None and needed > self._free:
            raise _no_shared_memory(
                f"has {_megabytes(self._free)} free, and {self._batches} batches, which are "
                f"there at the same time, take {_megabytes(needed)}"
            )
        # Shared memory counts as memory, too.
        needed += _IN_WORK * self._workers * size
        if self._limit is not None and needed > self._limit:
            raise ResourceError(
                f"the job may have {_megabytes(self._limit)} of memory, and the batches that are "
                f"in use and prepared ahead take {_megabytes(needed)}",
                "give it more memory (`mem_mb`), or fewer processes that prepare batches "
                "(`workers`), in that part of `execution`",
            )


def _no_shared_memory(how: str) -> ResourceError:
    """The error of batches for which there is no room.

    Args:
        how: what is the matter with the folder.
    """
    return ResourceError(
        f"shared memory ({_SHARED}) {how}",
        "give the job more (docker run --shm-size=2g; in Kubernetes an emptyDir of medium Memory; "
        "mount -o remount,size=2g), or fewer processes that prepare batches: `workers: 0` in that "
        "part of `execution` needs none of it",
    )


def _free() -> int | None:
    """Bytes that are free; None where that is not known or not limited."""
    try:
        found = os.statvfs(_SHARED)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize if found.f_blocks else None


def _bytes(batch: Batch) -> int:
    """Bytes of a batch, each entry in whole pages."""
    sizes = (value.untyped_storage().nbytes() for value in batch.values())
    return sum(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for size in sizes)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


class _Steps(Dataset[Batch | Exception]):
    def __init__(self, make: Callable[[int], Batch], ahead: int, workers: int) -> None:
        self.make = make
        self.memory = _SharedMemory(ahead, workers)
        self.main_process = os.getpid()
        self.start_method = multiprocessing.get_start_method()
        #: Shared with the workers: set when they are to end.
        self.ending = multiprocessing.RawValue(ctypes.c_bool, False)

    def __getitem__(self, step: int) -> Batch | Exception:
        try:
            return self.memory.shared(self.make(step))
        except (VoxseqError, MemoryError, OSError) as error:
            # Handed over as it is: the loader would put a traceback into the message.
            return error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return MemoryError(refused_memory(error))

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


def stepwise(
    make: Callable[[int], Batch], start: int, stop: int, workers: int = 0
) -> Generator[Batch, None, None]:
    """Yield ``make(step)`` for each step of ``start..stop``.

    The number of workers changes who computes a batch, never what is in it, because ``make``
    draws from streams that are functions of the step. Nor does the way in which they are started
    (``multiprocessing.set_start_method``): fork, forkserver or spawn.

    Args:
        make: builds the whole batch of one step. With forkserver and spawn each worker gets a
            pickled copy, so it must be data alone: no weights, no tensor on a device.
        start: first step.
        stop: step after the last.
        workers: processes that prepare batches ahead; 0 for none. They end when the generator is
            closed.
    """
    if workers == 0:
        yield from map(make, range(start, stop))
        return
    ahead = min(_AHEAD * workers + _HELD, stop - start)
    here = local_world_size(processes().world_size)
    steps = _Steps(make, ahead * here, workers * here)
    steps.memory.require_locks(workers)
    loader: DataLoader[Any] = DataLoader(
        steps,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=_AHEAD,
        # The time between two looks at :class:`Watch`, not one that workers must keep.
        timeout=LOOK,
        worker_init_fn=steps.prepare_worker,
        # Without its own generator the loader would draw from the global one.
        generator=torch.Generator().manual_seed(0),
    )
    with _ended_workers(steps) as started:
        batches = _started(loader)
        numbers = [worker.pid for worker in started() if worker.pid is not None]
        watch = Watch(lambda: numbers)
        try:
            with watch:
                while (batch := _awaited(batches, watch)) is not None:
                    if isinstance(batch, Exception):
                        raise batch
                    yield batch
        except Exception as error:
            # The loader's signal handler raises its error about an ended worker anywhere.
            if watch.reason:
                raise ResourceError(f"{watch.reason}, with a batch to prepare", _STILL) from error
            raise


def _awaited(batches: Iterator[Any], watch: Watch) -> Batch | Exception | None:
    """The next batch, what went wrong with it in a worker, or None after the last."""
    with watch.awaiting():
        while True:
            try:
                return next(batches, None)
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
def _ended_workers(steps: _Steps) -> Iterator[Callable[[], list[BaseProcess]]]:
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
        steps.ending.value = True
        for worker in running():
            # The loader's handler raises an error about each worker that was killed.
            with suppress(RuntimeError):
                worker.terminate()
            with suppress(ProcessLookupError, RuntimeError):
                # A stopped one takes notice of nothing until it is continued.
                os.kill(int(worker.pid or 0), signal.SIGCONT)
            with suppress(RuntimeError):
                worker.join(_END)


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
