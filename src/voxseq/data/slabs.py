"""Statistics of large arrays, slab by slab: equal to numpy's to the bit, without copies.

numpy's own functions copy an array of 512 x 512 x 1000 voxels into 2 GiB of 64-bit numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from voxseq.data.volume import Array

#: Voxels that are converted or masked at a time.
VOXELS = 1 << 22

Box = tuple[slice, ...]


def slabs(array: Array, axis: int | None = None, voxels: int | None = None) -> Iterator[Box]:
    """Yield boxes that cover ``array``, each at least one plane thick.

    Args:
        array: any array of at least one axis.
        axis: to cut along; None: the one of the greatest stride, so that slabs are in one piece.
        voxels: most voxels of a slab of several planes.
    """
    if axis is None:
        axis = max(range(array.ndim), key=lambda a: abs(array.strides[a]))
    count = array.shape[axis]
    plane = max(array.size // max(count, 1), 1)
    step = max((voxels or VOXELS) // plane, 1)
    for start in range(0, count, step):
        yield (*[slice(None)] * axis, slice(start, min(start + step, count)))


def class_counts(label: Array) -> NDArray[np.int64]:
    """Number of voxels of each class from 0 to 255; ``label`` holds unsigned bytes."""
    counts = np.zeros(256, np.int64)
    for box in slabs(label):
        counts += np.bincount(label[box].ravel(order="K"), minlength=256)
    return counts


def percentiles(array: Array, wanted: Sequence[float]) -> NDArray[np.float64]:
    """``np.percentile(array, wanted)``; small whole numbers are counted, without a copy."""
    if array.dtype.kind not in "iu" or array.dtype.itemsize > 2:
        return np.asarray(np.percentile(array, wanted), dtype=np.float64)
    lowest = np.iinfo(array.dtype).min
    counts = np.zeros(1 << 8 * array.dtype.itemsize, np.int64)
    for box in slabs(array):
        counts += np.bincount(array[box].ravel().astype(np.intp) - lowest, minlength=len(counts))
    rank = (array.size - 1) * (np.asarray(wanted, dtype=np.float64) / 100)
    low, high = (
        np.searchsorted(np.cumsum(counts), whole, side="right") + float(lowest)
        for whole in (np.floor(rank), np.ceil(rank))
    )
    share, step = rank - np.floor(rank), high - low
    # As numpy interpolates, from the nearer end.
    return np.where(share >= 0.5, high - step * (1 - share), low + step * share)


def standard_deviation(values: Array) -> float:
    """``values.std(dtype=np.float64)`` of a contiguous array."""
    squares = _sum_of_squares(values.reshape(-1), values.mean(dtype=np.float64))
    return float(np.sqrt(squares / values.size))


def _sum_of_squares(flat: Array, mean: np.float64) -> np.float64:
    # numpy adds the halves of an array in the same way; see "pairwise summation" in np.sum.
    if flat.size > VOXELS:
        half = flat.size // 2
        half -= half % 8
        return _sum_of_squares(flat[:half], mean) + _sum_of_squares(flat[half:], mean)
    deviations = flat - mean
    total: np.float64 = np.add.reduce(np.square(deviations, out=deviations))
    return total
