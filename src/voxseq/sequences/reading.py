"""From a crop to a sequence: sliding windows, and intensity ranges found once."""

from __future__ import annotations

import ctypes
import multiprocessing
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]


def slide(crop: Array, start: int, stride: int, thickness: int, length: int) -> Array:
    """Join ``length`` windows of a crop along its last axis (paper, section 3.1).

    Args:
        crop: (X, Y, D).
        start: first voxel of the first window.
        stride: step between windows.
        thickness: voxels of a window along the last axis.
        length: number of windows.

    Returns:
        (X, Y, length * thickness): the windows one after the other.

    Raises:
        ValueError: the last window leaves the crop.
    """
    reach = start + stride * (length - 1) + thickness
    if start < 0 or reach > crop.shape[2]:
        raise ValueError(f"windows reach voxel {reach} of {crop.shape[2]}")
    windows = sliding_window_view(crop[:, :, start:reach], thickness, axis=2)[:, :, ::stride]
    return np.ascontiguousarray(windows.reshape(*crop.shape[:2], length * thickness))


def start_count(depth: int, stride: int, thickness: int, length: int, most: int | None) -> int:
    """Number of possible starts of the sliding window (published: 64, starts 0..63)."""
    fitting = depth - thickness - stride * (length - 1)
    return (fitting if most is None else min(fitting, most)) + 1


class Ranges:
    """The intensity range of each crop that has been read, so that next time a part is enough.

    It is in memory that worker processes share with the one that started them, however they are
    started. Whoever reads a crop first writes its range; another would write the same. A range is
    known when both of its numbers are, in whatever order they become visible.
    """

    def __init__(self, count: int) -> None:
        shared = multiprocessing.RawArray(ctypes.c_double, max(2 * count, 1))
        self.__setstate__((shared, count))
        self._values[:] = np.nan

    def __getstate__(self) -> tuple[Any, int]:
        # An array would be pickled by its values. This can only be pickled for a new process.
        return self._shared, len(self._values)

    def __setstate__(self, state: tuple[Any, int]) -> None:
        self._shared, count = state
        self._values = np.frombuffer(self._shared, np.float64, 2 * count).reshape(count, 2)

    def __getitem__(self, row: int) -> tuple[float, float] | None:
        low, high = self._values[row].tolist()
        return None if np.isnan(low) or np.isnan(high) else (low, high)

    def __setitem__(self, row: int, values: tuple[float, float]) -> None:
        self._values[row] = values
