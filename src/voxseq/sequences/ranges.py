"""Intensity ranges of crops, found when they are read first and kept for later readings."""

from __future__ import annotations

import mmap

import numpy as np


class Ranges:
    """The intensity range of each crop that has been read, so that next time a part is enough.

    It lies in memory that worker processes share with the one that started them. Whoever reads a
    crop first writes its range; another would write the same. A range is known when both of its
    numbers are, in whatever order they become visible.
    """

    def __init__(self, count: int) -> None:
        size = max(2 * count, 1)
        shared = mmap.mmap(-1, size * np.dtype(np.float64).itemsize)
        self._values = np.frombuffer(shared, np.float64, 2 * count).reshape(count, 2)
        self._values[:] = np.nan

    def __getitem__(self, row: int) -> tuple[float, float] | None:
        low, high = self._values[row].tolist()
        return None if np.isnan(low) or np.isnan(high) else (low, high)

    def __setitem__(self, row: int, values: tuple[float, float]) -> None:
        self._values[row] = values
