"""Statistics of large arrays, slab by slab: equal to numpy's to the bit, without copies.

numpy's own functions copy an array of 512 x 512 x 1000 voxels into 2 GiB of 64-bit numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from voxseq.data.volume import Array

#: Voxels that are converted, masked or sorted at a time.
VOXELS = 1 << 22
#: Bits of a key that are counted at a time.
_DIGIT = 16

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
    """``np.percentile(array, wanted)`` of numbers that are not NaN."""
    position = (array.size - 1) * (np.asarray(wanted, dtype=np.float64) / 100)
    below = np.floor(position).astype(np.intp)
    above = np.minimum(below + 1, array.size - 1)
    found = _order_statistics(array, sorted({*below.tolist(), *above.tolist()}))
    low, high = (np.array([found[rank] for rank in ranks.tolist()]) for ranks in (below, above))
    share = position - below
    step = high - low
    result: NDArray[np.float64] = np.where(
        share >= 0.5, high - step * (1 - share), low + step * share
    )
    return result


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


def _order_statistics(array: Array, ranks: Iterable[int]) -> dict[int, np.generic]:
    """The values that sorting would put at ``ranks``.

    Voxels become unsigned numbers of the same order; their digits are counted from the highest on,
    each time among the voxels that share the digits found before.
    """
    dtype = np.dtype(np.uint8) if array.dtype == bool else array.dtype.newbyteorder("=")
    if dtype.itemsize > 8:
        ordered = np.sort(array, axis=None)
        return {rank: ordered[rank] for rank in ranks}
    bits = 8 * dtype.itemsize
    # Digits found so far → rank wanted, and its rank among the voxels that share them.
    groups: dict[int, list[tuple[int, int]]] = {0: [(rank, rank) for rank in ranks]}
    for done in range(0, bits, _DIGIT):
        width = min(_DIGIT, bits - done)
        counts = _count_digits(array, dtype, list(groups), done, width)
        finer: dict[int, list[tuple[int, int]]] = {}
        for prefix, members in groups.items():
            ends = np.cumsum(counts[prefix])
            for rank, left in members:
                digit = int(np.searchsorted(ends, left, side="right"))
                before = int(ends[digit - 1]) if digit else 0
                finer.setdefault((prefix << width) | digit, []).append((rank, left - before))
        groups = finer
    return {
        rank: _value(key, dtype, bits) for key, members in groups.items() for rank, _ in members
    }


def _count_digits(
    array: Array, dtype: np.dtype, prefixes: Sequence[int], done: int, width: int
) -> dict[int, NDArray[np.int64]]:
    bits = 8 * dtype.itemsize
    counts = {prefix: np.zeros(1 << width, np.int64) for prefix in prefixes}
    for box in slabs(array):
        keys = _keys(array[box], dtype, bits)
        for prefix in prefixes:
            chosen = keys if done == 0 else keys[keys >> keys.dtype.type(bits - done) == prefix]
            digits = chosen >> keys.dtype.type(bits - done - width)
            digits &= keys.dtype.type((1 << width) - 1)
            counts[prefix] += np.bincount(digits.astype(np.intp), minlength=1 << width)
    return counts


def _keys(part: Array, dtype: np.dtype, bits: int) -> Array:
    """Unsigned numbers in the order of the values."""
    flat = part.ravel(order="K").astype(dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    top = unsigned.type(1 << (bits - 1))
    if dtype.kind == "u":
        return flat
    if dtype.kind == "i":
        flipped: Array = flat.view(unsigned) ^ top
        return flipped
    flat += dtype.type(0)  # -0 becomes 0
    pattern = flat.view(unsigned)
    keys: Array = np.where(pattern & top, ~pattern, pattern | top)
    return keys


def _value(key: int, dtype: np.dtype, bits: int) -> np.generic:
    unsigned = np.dtype(f"u{dtype.itemsize}")
    top = 1 << (bits - 1)
    if dtype.kind == "i":
        key ^= top
    elif dtype.kind == "f":
        key = key ^ top if key & top else key ^ ((1 << bits) - 1)
    value: np.generic = np.array([key], unsigned).view(dtype)[0]
    return value
