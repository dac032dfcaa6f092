"""The shared memory that worker processes fill with rows, and whether there is room for it."""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from voxseq.base.errors import ResourceError
from voxseq.base.failures import is_out_of_memory
from voxseq.training.held import block_bytes, steps_held
from voxseq.training.memory import memory_limit
from voxseq.training.rows import Batch, Rows, row_bytes

_LOG = logging.getLogger("voxseq.training")
#: Where Linux keeps shared memory. It is small in containers: 64 MB by default.
_SHARED = Path("/dev/shm")  # noqa: S108 - read, not written
#: Bytes for the locks of one queue.
_LOCKS = 4 * mmap.PAGESIZE
_TYPES = {
    "uint8": torch.uint8,
    "int64": torch.int64,
    "float32": torch.float32,
    "float64": torch.float64,
}


def shared_block(rows: Rows, workers: int, here: int) -> Batch:
    """Memory for the rows of all steps that are held, shared with processes started later.

    It is all there from the beginning: nothing is allocated while a training runs.

    Args:
        rows: its rows.
        workers: processes that fill them.
        here: trainings' processes on this node, each of which makes such a block.

    Returns:
        (steps, count, *shape) of each entry.

    Raises:
        ResourceError: there is no room for it, or not for the blocks of all processes.
    """
    _require_room(block_bytes(rows.count, row_bytes(rows), workers) * here, workers)
    steps = steps_held(rows.count, workers)
    block = {}
    new_shared: Any = torch.UntypedStorage._new_shared
    try:
        for name, field in rows.layout.items():
            size = steps * rows.count * field.bytes
            storage = new_shared(max(size, 1), device="cpu")
            values = torch.empty(0, dtype=_TYPES[field.dtype])
            shape = (steps, rows.count, *field.shape)
            block[name] = values.set_(storage, 0, shape)  # type: ignore[call-overload]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise _no_shared_memory(f"took no block of rows ({error})") from error
    return block


@contextmanager
def pinned(block: Batch) -> Iterator[None]:
    """Keep the pages of a block where they are, if this process uses a CUDA GPU.

    It then copies from them by itself, while this process goes on.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        yield
        return
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    locked = []
    for values in block.values():
        if int(runtime.cudaHostRegister(values.data_ptr(), values.nbytes, 0)):
            _LOG.warning("%s of shared memory cannot be pinned", _megabytes(values.nbytes))
        else:
            locked.append(values.data_ptr())
    try:
        yield
    finally:
        for place in locked:
            runtime.cudaHostUnregister(place)


def _require_room(needed: int, workers: int) -> None:
    free, limit = _free(), memory_limit()
    if free is not None and free < _LOCKS * (workers + 1):
        raise _no_shared_memory(f"is full: {_megabytes(free)} are free")
    if free is not None and needed > free:
        raise _no_shared_memory(
            f"has {_megabytes(free)} free, and the batches in use and ahead take "
            f"{_megabytes(needed)}"
        )
    # Shared memory counts as memory, too.
    if limit is not None and needed > limit:
        raise ResourceError(
            f"the job may have {_megabytes(limit)} of memory, and the batches in use and ahead "
            f"take {_megabytes(needed)}",
            "give it more memory (`mem_mb`), or more processes with smaller shares of a batch, in "
            "that part of `execution`",
        )


def _no_shared_memory(how: str) -> ResourceError:
    """The error of a block for which there is no room.

    Args:
        how: what is the matter with the folder.
    """
    return ResourceError(
        f"shared memory ({_SHARED}) {how}",
        "give the job more (docker run --shm-size=2g; in Kubernetes an emptyDir of medium Memory; "
        "mount -o remount,size=2g), or no processes that prepare batches: `workers: 0` in that "
        "part of `execution` needs none of it",
    )


def _free() -> int | None:
    """Bytes that are free; None where that is not known or not limited."""
    try:
        found = os.statvfs(_SHARED)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize if found.f_blocks else None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
