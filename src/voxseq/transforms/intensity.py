"""Intensity ranges of crops, and mapping them to 0..1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


_Pair = tuple[np.float32, np.float32]


#: Different numbers of 16 bits, and voxels from which on counting them pays.
_NUMBERS, _COUNTED = 2**16, 2**17


def scale_percentiles(volume: NDArray[Any], percentiles: tuple[float, float]) -> Array:
    """Map the given intensity percentiles of this crop to 0..1 and clip (published: 1 and 99.9).

    A constant crop becomes all zeros.
    """
    return scale(volume, *intensity_range(volume, percentiles))


def intensity_range(volume: NDArray[Any], percentiles: tuple[float, float]) -> tuple[float, float]:
    """``np.percentile(volume, percentiles)`` of finite float32 or int16 voxels.

    Args:
        volume: any shape.
        percentiles: the smaller one first.
    """
    last = volume.size - 1
    positions = [last * (percentile / 100) for percentile in percentiles]
    is_counted = volume.dtype == np.int16 and volume.size >= _COUNTED
    neighbours = _by_counts if is_counted else _by_places
    found = []
    pairs = neighbours(volume, [int(position) for position in positions])
    for position, (below, above) in zip(positions, pairs, strict=True):
        share, step = position - int(position), above - below
        # numpy interpolates from the nearer end.
        found.append(
            float(above) - float(step) * (1 - share)
            if share >= 0.5
            else float(below) + float(step) * share
        )
    return found[0], found[1]


def _by_places(volume: NDArray[Any], places: Sequence[int]) -> Iterator[_Pair]:
    """The values at some places of the sorted voxels, rising, and those after them.

    The few values that are needed are put in their places one by one: numpy finds a single place by
    vector instructions, ten times as fast as several at once.
    """
    values = volume.flatten()
    done = 0
    for place in places:
        values[done:].partition(place - done)
        below = np.float32(values[place])
        yield below, np.float32(values[place + 1 :].min()) if place + 1 < values.size else below
        done = place


def _by_counts(volume: NDArray[np.int16], places: Sequence[int]) -> Iterator[_Pair]:
    """The same of whole numbers, from how often each occurs.

    numpy puts 16-bit numbers in their places by vector instructions on few processors only.
    """
    # Read as unsigned numbers, the negative ones come last.
    counts = np.bincount(volume.ravel().view(np.uint16), minlength=_NUMBERS)
    ends = np.cumsum(np.roll(counts, _NUMBERS // 2))
    for place in places:
        pair = np.searchsorted(ends, [place, min(place + 1, volume.size - 1)], side="right")
        below, above = (pair - _NUMBERS // 2).astype(np.float32)
        yield below, above


def scale(volume: NDArray[Any], low: float, high: float) -> Array:
    """Map ``low`` to 0 and ``high`` to 1 and clip; zeros if ``high`` is not the larger one.

    Returns:
        The shape of ``volume``, in memory of its own.
    """
    if not high > low:
        return np.zeros(volume.shape, np.float32)
    # A range that is narrow beside its distance from 0 needs more digits than float32 has.
    wide = (high - low) * 8 > max(abs(low), abs(high))
    number = np.float32 if wide else np.float64
    scaled = np.subtract(volume, low, dtype=number)
    scaled /= number(high) - number(low)
    np.clip(scaled, 0, 1, out=scaled)
    result: Array = scaled.astype(np.float32, order="C", copy=False)
    return result
