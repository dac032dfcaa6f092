"""Intensity ranges of crops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Different numbers of 16 bits, and voxels from which on counting them pays.
_NUMBERS, _COUNTED = 2**16, 2**17


def intensity_range(volume: NDArray[Any], percentiles: tuple[float, float]) -> tuple[float, float]:
    """``np.percentile(volume, percentiles)`` of finite float32 or int16 voxels, to the bit.

    Args:
        volume: any shape.
        percentiles: the smaller one first.
    """
    if volume.dtype == np.int16 and volume.size >= _COUNTED:
        ends = _counts(volume)
        return _counted_percentile(ends, percentiles[0]), _counted_percentile(ends, percentiles[1])
    low, high = np.percentile(volume.astype(np.float32, copy=False), percentiles)
    return float(low), float(high)


def _counts(volume: NDArray[np.int16]) -> NDArray[np.int64]:
    """How many voxels are at most each whole number, from the lowest on.

    numpy sorts 16-bit numbers by vector instructions on few processors only.
    """
    # Read as unsigned numbers, the negative ones come last.
    counts = np.bincount(volume.ravel().view(np.uint16), minlength=_NUMBERS)
    return np.cumsum(np.roll(counts, _NUMBERS // 2))


def _counted_percentile(ends: NDArray[np.int64], percentile: float) -> float:
    last = int(ends[-1]) - 1
    position = last * (percentile / 100)
    place = int(position)
    pair = np.searchsorted(ends, [place, min(place + 1, last)], side="right")
    below, above = (float(number) for number in pair - _NUMBERS // 2)
    share, step = position - place, above - below
    # numpy interpolates from the nearer end.
    return above - step * (1 - share) if share >= 0.5 else below + step * share


def needs_double(low: float, high: float) -> bool:
    """Whether a range is so narrow beside its distance from 0 that float32 has too few digits."""
    return not (high - low) * 8 > max(abs(low), abs(high))
