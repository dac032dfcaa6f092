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


def row_bytes(rows: Rows) -> int:
    """Bytes of one row."""
    return sum(field.bytes for field in rows.layout.values())
