"""Resampling to another grid of voxels, the axes' order and direction, and the way back to a file.

A grid is given by the places of its voxels along each axis, counted in voxels of the array that is
resampled. There are two kinds: one covers the extent of the array with another number of voxels
(:func:`covering`); the other starts at the array's first voxel and keeps a spacing exactly
(:func:`spaced`), as MONAI's ``Spacing`` does in the published pipelines. Outside the outermost
voxels the border value is kept. Interpolation is separable, so one axis is done after the other.

A file's axes are turned to RAS, the foreground is cut out, and it is resampled; :func:`to_native`
undoes the last two, :func:`to_file_grid` all three.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel import orientations

from voxseq.base.files import atomic_path
from voxseq.data.slabs import VOXELS, Box
from voxseq.data.volume import Array, Volume

Triple = tuple[int, int, int]
#: Rising places (n,) float64 along each of three axes.
Places = tuple[Array, Array, Array]
#: Of places, in voxels.
_ROUNDING = 1e-6
#: Axes right, anterior, superior, none of them flipped.
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


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
            if not _is_same(array.shape[axis - 3], places[axis]):
                part = _between(part, axis, *_neighbours(array.shape[axis - 3], places[axis]))
        if _is_same(size, places[last]):
            part = _planes(part, last, slice(0, stop - start))
        else:
            part = _between(part, last, below - below[0], weight)
        _planes(result, last, slice(start, stop))[...] = part
    return result


def nearest_at(array: Array, places: Places) -> Array:
    """Resample the last three axes of ``array`` by the nearest voxel.

    Of two it is the one of even number, as in MONAI; halves then move no border on average.
    """
    for axis in _cheapest_first(array.shape[-3:], [len(p) for p in places]):
        size, chosen = array.shape[axis - 3], np.rint(places[axis])
        if not _is_same(size, chosen):
            array = array.take(chosen.clip(0, size - 1).astype(np.intp), axis=axis - 3)
    return np.ascontiguousarray(array)


def to_ras(volume: Volume) -> tuple[Array, tuple[float, float, float]]:
    """Voxels with axes running right, anterior, superior, and their spacing in mm.

    Axes are permuted and flipped, never interpolated: an oblique image keeps its slant. An image
    whose file states no orientation is returned as it is. The array is a view of the volume's.
    """
    if not volume.oriented:
        return volume.array, volume.spacing
    turned = orientations.io_orientation(volume.affine)
    spacing = [0.0, 0.0, 0.0]
    for axis, target in enumerate(turned[:, 0]):
        spacing[int(target)] = volume.spacing[axis]
    array = orientations.apply_orientation(volume.array, turned)
    return array, (spacing[0], spacing[1], spacing[2])


def to_native(prediction: Array, row: Mapping[str, Any]) -> Array:
    """Map a prediction on the prepared grid back to the image's reoriented, uncropped grid.

    Args:
        prediction: classes (X, Y, Z), mapped by the nearest voxel; or class probabilities
            (C, X, Y, Z), background first, mapped linearly, in the memory of two classes.
        row: the volume's row of the store's table.

    Returns:
        Classes (X, Y, Z) uint8, of probabilities the most probable; what the crop left out is
        background.
    """
    classes = np.zeros([int(row[f"native_{a}"]) for a in "xyz"], np.uint8)
    prepared = tuple(int(row[f"p_{a}"]) for a in "xyz")
    if prediction.shape[-3:] != prepared or prediction.ndim not in {3, 4}:
        raise ValueError(f"a prediction of shape {prediction.shape}, expected {prepared}")
    box, places = _native_places(row, prepared)
    if prediction.ndim == 3:
        classes[box] = nearest_at(prediction, places)
        return classes
    inside = classes[box]
    best = linear_at(prediction[0], places)
    for number, values in enumerate(prediction[1:], start=1):
        mapped = linear_at(values, places)
        inside[mapped > best] = number
        np.maximum(best, mapped, out=best)
    return classes


def _native_places(row: Mapping[str, Any], prepared: Sequence[int]) -> tuple[Box, Places]:
    """The native voxels whose centres the prepared grid covers, and their places on that grid."""
    box, places = [], []
    for axis, count in zip("xyz", prepared, strict=True):
        start, covered = float(row[f"crop_start_{axis}"]), float(row[f"crop_shape_{axis}"])
        step = count / covered
        along = (np.arange(int(row[f"native_{axis}"])) - start + 0.5) * step - 0.5
        distance = np.abs(along - (count - 1) / 2)
        # A thin crop of a finer grid may lie between two voxels; the nearest then stands for it.
        inside = np.flatnonzero(distance <= max(count / 2 + _ROUNDING, distance.min()))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
        places.append(along[box[-1]])
    x, y, z = places
    return tuple(box), (x, y, z)


def to_file_grid(prediction: Array, row: Mapping[str, Any]) -> tuple[Array, Array]:
    """Map a prediction as :func:`to_native` does, and its axes back to those of the original file.

    Returns:
        Classes (X, Y, Z) in the file's order and direction, and the file's affine (4, 4), voxel
        indices to mm in RAS+.
    """
    classes = to_native(prediction, row)
    affine = np.array(row["affine"], dtype=np.float64).reshape(4, 4)
    # A file that states no orientation was never turned.
    if row["orientation"]:
        back = orientations.ornt_transform(_RAS, orientations.io_orientation(affine))
        classes = orientations.apply_orientation(classes, back)
    return np.ascontiguousarray(classes), affine


def save_prediction(path: Path, prediction: Array, row: Mapping[str, Any]) -> None:
    """Write a prediction as NIfTI on the grid of the original file, the same bytes each time.

    Args:
        path: ends in ``.nii.gz`` or ``.nii``.
        prediction: as for :func:`to_native`.
        row: the volume's row of the store's table.
    """
    classes, affine = to_file_grid(prediction, row)
    image = nibabel.Nifti1Image(classes, affine)
    # As in the original, no orientation is stated where none is known.
    image.set_sform(affine, code=1 if row["orientation"] else 0)
    image.set_qform(None, code=0)
    content = image.to_bytes()
    with atomic_path(path) as temporary:
        is_packed = path.name.endswith(".gz")
        temporary.write_bytes(gzip.compress(content, mtime=0) if is_packed else content)


def _cheapest_first(old: Sequence[int], new: Sequence[int]) -> list[int]:
    """Axes in the order of their growth: shrinking first leaves less to interpolate."""
    return sorted(range(3), key=lambda axis: (new[axis] / old[axis], axis))


def _planes(array: Array, axis: int, planes: slice) -> Array:
    """Those of the planes across one of the last three axes, as a view."""
    box: tuple[Any, ...] = (..., planes, *[slice(None)] * (2 - axis))
    view: Array = array[box]
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
