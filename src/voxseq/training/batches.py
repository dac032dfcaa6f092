"""Batches as a function of the step, with or without worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from voxseq.training.seeding import numpy_generator

Batch = dict[str, Tensor]


class EpochOrder:
    """An endless stream of rows: each epoch is a seeded permutation, known at any position."""

    def __init__(self, rows: Sequence[int], seed: int) -> None:
        self._rows = np.asarray(rows)
        self._seed = seed
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def __getitem__(self, position: int) -> int:
        epoch, index = divmod(position, len(self._rows))
        return int(self._rows[self._permutation(epoch)[index]])

    def _permute(self, epoch: int) -> NDArray[np.int64]:
        return numpy_generator(self._seed, "epoch", epoch).permutation(len(self._rows))


class _Steps(Dataset[Batch]):
    def __init__(self, make: Callable[[int], Batch]) -> None:
        self.make = make

    def __getitem__(self, step: int) -> Batch:
        return self.make(step)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def stepwise(
    make: Callable[[int], Batch], start: int, stop: int, workers: int = 0
) -> Iterator[Batch]:
    """Yield ``make(step)`` for each step of ``start..stop``.

    The number of workers changes who computes a batch, never what is in it, because ``make``
    draws from streams that are functions of the step.

    Args:
        make: builds the whole batch of one step.
        start: first step.
        stop: step after the last.
        workers: processes that prepare batches ahead; 0 for none.
    """
    if workers == 0:
        yield from map(make, range(start, stop))
        return
    loader: DataLoader[Batch] = DataLoader(
        _Steps(make),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        worker_init_fn=_one_thread,
        # Without its own generator the loader would draw from the global one.
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader
