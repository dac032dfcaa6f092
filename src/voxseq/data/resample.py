"""Resampling to another number of voxels, and the axes' order and direction.

A grid of n voxels covers the same extent as one of m voxels, voxel by voxel: the centre of voxel i
of n lies at (i + 1/2) m / n - 1/2 of m. Outside the outermost centres the border value is kept.
Interpolation is separable, so one axis is done after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import nibabel
import numpy as np

from voxseq.data.slabs import VOXELS
from voxseq.data.types import Array, Volume

Triple = tuple[int, int, int]


def linear(array: Array, shape: Sequence[int]) -> Array:
    """Resample the last three axes of ``array`` to ``shape`` by trilinear interpolation, float32.

    No low-pass filter is applied when voxels become fewer, as in the published pipelines. The
    result is a new array; it is made slab by slab, so that it is all that needs memory.
    """
    *first, last = _cheapest_first(array.shape[-3:], shape)
    result = np.empty((*array.shape[:-3], *(int(n) for n in shape)), np.float32)
    size, count = array.shape[last - 3], int(shape[last])
    # A slab is bounded before and after its other axes are resampled.
    largest = max(array.size / count, result.size / count, 1)
    step = max(int(VOXELS / largest), 1)
    for start in range(0, count, step):
        stop = min(start + step, count)
        below, weight = _neighbours(size, count, start, stop)
        planes = slice(int(below[0]), min(int(below[-1]) + 2, size))
        part = np.asarray(_planes(array, last, planes), dtype=np.float32)
        for axis in first:
            part = _linear_axis(part, axis, shape[axis])
        if count == size:
            part = _planes(part, last, slice(0, stop - start))
        else:
            part = _between(part, last, below - below[0], weight)
        _planes(result, last, slice(start, stop))[...] = part
    return result


def nearest(array: Array, shape: Sequence[int]) -> Array:
    """Resample the last three axes of ``array`` to ``shape`` by the nearest voxel."""
    result = array
    for axis in _cheapest_first(array.shape[-3:], shape):
        size = result.shape[axis - 3]
        if shape[axis] != size:
            centres = (np.arange(shape[axis]) + 0.5) * (size / shape[axis])
            result = result.take(np.minimum(centres.astype(np.intp), size - 1), axis=axis - 3)
    return np.ascontiguousarray(result)


def shape_for_spacing(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]
) -> Triple:
    """Voxels that cover the extent of ``shape`` voxels of ``spacing`` mm with ``target`` mm each.

    The number is rounded, so the resulting spacing is only near ``target``.
    """
    x, y, z = (
        max(round(n * old / new), 1) for n, old, new in zip(shape, spacing, target, strict=True)
    )
    return (x, y, z)


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


def _linear_axis(array: Array, axis: int, count: int) -> Array:
    size = array.shape[axis - 3]
    if count == size:
        return array
    return _between(array, axis, *_neighbours(size, count, 0, count))


def _neighbours(size: int, count: int, start: int, stop: int) -> tuple[Array, Array]:
    """For voxels ``start`` to ``stop`` of ``count``: index of the one of ``size`` below, weight."""
    centres = np.clip((np.arange(count) + 0.5) * (size / count) - 0.5, 0, size - 1)[start:stop]
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
