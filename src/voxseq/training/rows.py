"""Batches row by row: what a row holds, who fills it, and the memory that all of them take."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Batch = dict[str, Tensor]
#: One row of a batch, or a whole batch: name → array in memory that is to be written to.
Arrays = Mapping[str, NDArray[Any]]

#: Tasks that each worker has been given ahead.
TASKS_AHEAD = 2
#: Steps whose rows stay as they are besides those that are prepared: that of the training. What is
#: copied to a device is there before the next step is asked for.
STEPS_IN_USE = 1


@dataclass(frozen=True)
class Field:
    """One entry of a row.

    Attributes:
        shape: of the entry in one row.
        dtype: as NumPy names it.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Rows(ABC):
    """The batches of a training, made row by row.

    Every row is a function of its step and its number, so it does not matter which process fills
    it. Worker processes get a pickled copy: it is data alone, without weights or tensors on a
    device.

    Attributes:
        count: rows of each batch that this process trains on.
        layout: the entries of a row.
    """

    count: int
    layout: Mapping[str, Field]

    @abstractmethod
    def fill(self, step: int, row: int, out: Arrays) -> None:
        """Make a row of the batch of a step.

        Args:
            step: number of the batch.
            row: of this process, from 0.
            out: memory of this row with what was there before, to be written to.
        """

    def __call__(self, step: int) -> Batch:
        """The batch of a step, in memory of its own."""
        batch = empty(self, 1)
        fill_rows(self, step, range(self.count), batch)
        return first_step(batch)


def empty(rows: Rows, steps: int) -> Batch:
    """Memory for the batches of some steps: (steps, count, *shape) of each entry."""
    return {
        name: torch.from_numpy(np.zeros((steps, rows.count, *field.shape), field.dtype))
        for name, field in rows.layout.items()
    }


def first_step(block: Batch, number: int = 0) -> Batch:
    """The batch of one of a block's steps, which is part of the block's memory."""
    return {name: values[number] for name, values in block.items()}


def fill_rows(rows: Rows, step: int, numbers: range, block: Batch, place: int = 0) -> None:
    """Fill some rows of a step into the block's step number ``place``."""
    arrays = {name: values[place].numpy() for name, values in block.items()}
    for row in numbers:
        rows.fill(step, row, {name: array[row, ...] for name, array in arrays.items()})


def task_size(count: int, workers: int) -> int:
    """Rows that a worker fills at a time: small enough that all of them work at one step."""
    return max(1, -(-count // (2 * workers)))


def steps_held(count: int, workers: int) -> int:
    """Steps of which a block has the rows: the one in use, and those that are prepared ahead."""
    if not workers:
        return 1
    tasks = -(-count // task_size(count, workers))
    return STEPS_IN_USE + -(-TASKS_AHEAD * workers // tasks)


def block_bytes(count: int, row_bytes: int, workers: int) -> int:
    """Bytes of the block of a process: it is made once, before any worker starts.

    Args:
        count: rows of each batch of this process.
        row_bytes: of one row, all entries.
        workers: processes that fill them.
    """
    return steps_held(count, workers) * count * row_bytes


def row_bytes(rows: Rows) -> int:
    """Bytes of one row."""
    return sum(field.bytes for field in rows.layout.values())
