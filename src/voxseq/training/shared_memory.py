"""Room for the batches that worker processes hand over, which lie in the system's shared memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from torch import Tensor

from voxseq.base.errors import ResourceError
from voxseq.base.failures import is_out_of_memory

Batch = dict[str, Tensor]
#: Where Linux keeps it. It is small in containers: 64 MB by default.
FOLDER = Path("/dev/shm")  # noqa: S108 - read, not written
#: Bytes for the locks of one queue.
_LOCKS = 4 * mmap.PAGESIZE


class SharedMemory:
    """What was free before any worker started, and whether batches fit.

    Args:
        batches: how many are there at the same time at most.
    """

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self._free = _free()
        self._is_checked = False

    def require_locks(self, workers: int) -> None:
        """Raise a ResourceError unless the locks of the queues to some workers have room."""
        if self._free is not None and self._free < _LOCKS * (workers + 1):
            raise no_shared_memory(f"is full: {_megabytes(self._free)} are free")

    def shared(self, batch: Batch) -> Batch:
        """The batch, put into shared memory by the worker that made it.

        Left to the loader, a thread of the worker would do it, whose errors nobody hears of.

        Raises:
            ResourceError: all batches that are prepared ahead would not fit, or this one did not.
        """
        if not self._is_checked and self._free is not None:
            needed = self._batches * _bytes(batch)
            if needed > self._free:
                raise no_shared_memory(
                    f"has {_megabytes(self._free)} free, and {self._batches} batches, which are "
                    f"there at the same time, take {_megabytes(needed)}"
                )
            self._is_checked = True
        try:
            for value in batch.values():
                if value.numel():
                    value.share_memory_()  # type: ignore[no-untyped-call]
            return batch
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise no_shared_memory(f"took no further batch ({error})") from error


def no_shared_memory(how: str) -> ResourceError:
    """The error of batches for which there is no room.

    Args:
        how: what is the matter with the folder.
    """
    return ResourceError(
        f"shared memory ({FOLDER}) {how}",
        "give the job more (docker run --shm-size=2g; in Kubernetes an emptyDir of medium Memory; "
        "mount -o remount,size=2g), or fewer processes that prepare batches: `workers: 0` in that "
        "part of `execution` needs none of it",
    )


def _free() -> int | None:
    """Bytes that are free; None where that is not known or not limited."""
    try:
        found = os.statvfs(FOLDER)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize if found.f_blocks else None


def _bytes(batch: Batch) -> int:
    """Bytes of a batch, each entry in whole pages."""
    sizes = (value.untyped_storage().nbytes() for value in batch.values())
    return sum(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for size in sizes)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
