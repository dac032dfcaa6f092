"""Resampling to another grid of voxels, and the axes' order and direction.

A grid is given by the places of its voxels along each axis, counted in voxels of the array that is
resampled. There are two kinds: one covers the extent of the array with another number of voxels
(:func:`covering`); the other starts at the array's first voxel and keeps a spacing exactly
(:func:`spaced`), as MONAI's ``Spacing`` does in the published pipelines. Outside the outermost
voxels the border value is kept. Interpolation is separable, so one axis is done after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import nibabel
import numpy as np

from voxseq.data.slabs import VOXELS
from voxseq.data.volume import Array, Volume

Triple = tuple[int, int, int]
#: Rising places (n,) float64 along each of three axes.
Places = tuple[Array, Array, Array]


def covering(old: Sequence[int], new: Sequence[int]) -> Places:
    """Places of ``new`` voxels that cover the extent of ``old`` voxels.

    The centre of voxel i of n lies at (i + 1/2) m / n - 1/2 of m.
    """
    x, y, z = ((np.arange(n) + 0.5) * (m / n) - 0.5 for m, n in zip(old, new, strict=True))
    return (x, y, z)


def spaced(shape: Sequence[int], steps: Sequence[float]) -> Places:
    """Places that are ``steps`` voxels apart, the first on the array's first voxel.

    Of n voxels come round((n - 1) / step + 1), as in MONAI's ``Spacing``: the last place is at most
    half a step before or behind the array's last voxel.
    """
    x, y, z = (np.arange(round((n - 1) / s + 1)) * s for n, s in zip(shape, steps, strict=True))
    return (x, y, z)


def linear(array: Array, shape: Sequence[int]) -> Array:
    """:func:`linear_at` of ``shape`` voxels that cover the extent of ``array``."""
    return linear_at(array, covering(array.shape[-3:], shape))


def linear_at(array: Array, places: Places) -> Array:
    """Resample the last three axes of ``array`` by trilinear interpolation, float32.

    No low-pass filter is applied when voxels become fewer, as in the published pipelines. The
    result is a new array; it is made slab by slab, so that it is all that needs memory.
    """
    array, places = _needed(array, places)
    shape = [len(p) for p in places]
    *first, last = _cheapest_first(array.shape[-3:], shape)
    result = np.empty((*array.shape[:-3], *shape), np.float32)
    size, count = array.shape[last - 3], shape[last]
    # A slab is bounded before and after its other axes are resampled.
    largest = max(array.size / count, result.size / count, 1)
    step = max(int(VOXELS / largest), 1)
    for start in range(0, count, step):
        stop = min(start + step, count)
        below, weight = _neighbours(size, places[last][start:stop])
        planes = slice(int(below[0]), min(int(below[-1]) + 2, size))
        part = np.asarray(_planes(array, last, planes), dtype=np.float32)
        for axis in first:
            part = _linear_axis(part, axis, places[axis])
        if _is_same(size, places[last]):
            part = _planes(part, last, slice(0, stop - start))
        else:
            part = _between(part, last, below - below[0], weight)
        _planes(result, last, slice(start, stop))[...] = part
    return result


def nearest(array: Array, shape: Sequence[int]) -> Array:
    """The nearest voxel, the later one of two, of ``shape`` that cover the array's extent."""
    x, y, z = covering(array.shape[-3:], shape)
    return _taken(array, (np.floor(x + 0.5), np.floor(y + 0.5), np.floor(z + 0.5)))


def nearest_at(array: Array, places: Places) -> Array:
    """Resample the last three axes of ``array`` by the nearest voxel.

    Of two it is the one of even number, as in MONAI; halves then move no border on average.
    """
    x, y, z = places
    return _taken(array, (np.rint(x), np.rint(y), np.rint(z)))


def _taken(array: Array, chosen: Places) -> Array:
    for axis in _cheapest_first(array.shape[-3:], [len(c) for c in chosen]):
        size = array.shape[axis - 3]
        if not _is_same(size, chosen[axis]):
            inside = chosen[axis].clip(0, size - 1).astype(np.intp)
            array = array.take(inside, axis=axis - 3)
    return np.ascontiguousarray(array)


def to_ras(volume: Volume) -> tuple[Array, tuple[float, float, float]]:
    """Voxels with axes running right, anterior, superior, and their spacing in mm.

    Axes are permuted and flipped, never interpolated: an oblique image keeps its slant. An image
    whose file states no orientation is returned as it is. The array is a view of the volume's.
    """
    if not volume.oriented:
        return volume.array, volume.spacing
    orientation = nibabel.orientations.io_orientation(volume.affine)
    array = nibabel.orientations.apply_orientation(volume.array, orientation)
    spacing = [0.0, 0.0, 0.0]
    for axis, target in enumerate(orientation[:, 0]):
        spacing[int(target)] = volume.spacing[axis]
    return array, (spacing[0], spacing[1], spacing[2])


def _cheapest_first(old: Sequence[int], new: Sequence[int]) -> list[int]:
    """Axes in the order of their growth: shrinking first leaves less to interpolate."""
    return sorted(range(3), key=lambda axis: (new[axis] / old[axis], axis))


def _planes(array: Array, axis: int, planes: slice) -> Array:
    """Those of the planes across one of the last three axes, as a view."""
    box = [slice(None)] * array.ndim
    box[axis - 3] = planes
    view: Array = array[tuple(box)]
    return view


def _needed(array: Array, places: Places) -> tuple[Array, Places]:
    """The part of ``array`` that interpolation reads, and the places counted in it."""
    moved = []
    for axis, along in enumerate(places):
        size = array.shape[axis - 3]
        first = min(max(math.floor(along[0]), 0), size - 1)
        last = min(max(math.ceil(along[-1]), first), size - 1)
        array = _planes(array, axis, slice(first, last + 1))
        # Behind the border counts as on it, whatever is left of the array.
        moved.append(np.clip(along, 0, size - 1) - first)
    x, y, z = moved
    return array, (x, y, z)


def _is_same(size: int, places: Array) -> bool:
    """Whether the places are those of the array's own voxels."""
    return len(places) == size and bool((places == np.arange(size)).all())


def _linear_axis(array: Array, axis: int, places: Array) -> Array:
    size = array.shape[axis - 3]
    if _is_same(size, places):
        return array
    return _between(array, axis, *_neighbours(size, places))


def _neighbours(size: int, places: Array) -> tuple[Array, Array]:
    """For each place: index of the one of ``size`` voxels below, weight of the one above."""
    centres = np.clip(places, 0, size - 1)
    below = centres.astype(np.intp)
    return below, (centres - below).astype(np.float32)


def _between(array: Array, axis: int, below: Array, weight: Array) -> Array:
    low: Array = array.take(below, axis=axis - 3)
    high: Array = array.take(np.minimum(below + 1, array.shape[axis - 3] - 1), axis=axis - 3)
    # low + w (high - low) keeps a constant image constant to the last bit.
    high -= low
    high *= weight.reshape(-1, *[1] * (2 - axis))
    high += low
    return high
