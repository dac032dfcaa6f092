"""From a file's grid of voxels to that of a task, and back.

A grid is given by the places of its voxels along each axis, counted in voxels of the array that is
resampled. There are two kinds: one covers the extent of the array with another number of voxels
(:func:`covering`); the other starts at the array's first voxel and keeps a spacing exactly
(:func:`spaced`), as MONAI's ``Spacing`` does in the published pipelines. Outside the outermost
voxels the border value is kept. Interpolation is separable, so one axis is done after the other.

A file's axes are turned to RAS (:func:`to_ras`), the foreground is cut out and resampled
(:func:`regrid`); :func:`to_native` undoes the latter, :func:`to_file_grid` all of it. Resampling to
a spacing follows the published chain: the whole image first, on the grid that MONAI's ``Spacing``
makes, then the foreground of the result. Resizing to a shape takes the foreground of the image as
it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxseq.config.data import TaskDataConfig
from voxseq.data.slabs import VOXELS, Box, slabs
from voxseq.data.volume import Array, Volume

#: A number for each of three axes.
Triple = tuple[int, ...]
#: Rising places (n,) float64 along each of three axes.
Places = tuple[Array, ...]
#: Of places, in voxels.
_ROUNDING = 1e-6
#: Axes right, anterior, superior, none of them flipped.
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


def covering(old: Sequence[int], new: Sequence[int]) -> Places:
    """Places of ``new`` voxels that cover the extent of ``old`` voxels.

    The centre of voxel i of n lies at (i + 1/2) m / n - 1/2 of m.
    """
    return tuple((np.arange(n) + 0.5) * (m / n) - 0.5 for m, n in zip(old, new, strict=True))


def spaced(shape: Sequence[int], steps: Sequence[float]) -> Places:
    """Places that are ``steps`` voxels apart, the first on the array's first voxel.

    Of n voxels come round((n - 1) / step + 1), as in MONAI's ``Spacing``: the last place is at most
    half a step before or behind the array's last voxel.
    """
    return tuple(np.arange(round((n - 1) / s + 1)) * s for n, s in zip(shape, steps, strict=True))


def linear(array: Array, shape: Sequence[int]) -> Array:
    """:func:`linear_at` of ``shape`` voxels that cover the extent of ``array``."""
    return linear_at(array, covering(array.shape[-3:], shape))


def linear_at(array: Array, places: Places, out: Array | None = None) -> Array:
    """Resample the last three axes of ``array`` by trilinear interpolation, float32.

    No low-pass filter is applied when voxels become fewer, as in the published pipelines. The
    result is ``out`` or a new array; it is made slab by slab, so that it is all that needs memory.
    """
    array, places = _needed(array, places)
    shape = [len(p) for p in places]
    # Shrinking axes first leaves less to interpolate.
    *first, last = sorted(range(3), key=lambda a: (shape[a] / array.shape[a - 3], a))
    result = np.empty((*array.shape[:-3], *shape), np.float32) if out is None else out
    # A slab is bounded before and after its other axes are resampled.
    largest = max(array.size / shape[last], result.size / shape[last], 1)
    step = max(int(VOXELS / largest), 1)
    for start in range(0, shape[last], step):
        wanted = places[last][start : start + step]
        lowest = int(wanted[0])
        planes = slice(lowest, math.ceil(wanted[-1]) + 1)
        part = np.asarray(_planes(array, last, planes), dtype=np.float32)
        for axis in first:
            part = _interpolated(part, axis, places[axis])
        part = _interpolated(part, last, wanted - lowest)
        _planes(result, last, slice(start, start + step))[...] = part
    return result


def nearest_at(array: Array, places: Places) -> Array:
    """Resample an array (X, Y, Z) by the nearest voxel.

    Of two it is the one of even number, as in MONAI; halves then move no border on average.
    """
    for axis, along in enumerate(places):
        last = array.shape[axis] - 1
        array = array.take(np.rint(along).clip(0, last).astype(np.intp), axis=axis)
    return np.ascontiguousarray(array)


def to_ras(volume: Volume) -> tuple[Array, tuple[float, float, float]]:
    """Voxels with axes running right, anterior, superior, and their spacing in mm.

    Axes are permuted and flipped, never interpolated: an oblique image keeps its slant. An image
    whose file states no orientation is returned as it is. The array is a view of the volume's.
    """
    from nibabel import orientations  # late: trainings turn nothing

    if not volume.oriented:
        return volume.array, volume.spacing
    turned = orientations.io_orientation(volume.affine)
    spacing = [0.0, 0.0, 0.0]
    for axis, target in enumerate(turned[:, 0]):
        spacing[int(target)] = volume.spacing[axis]
    array = orientations.apply_orientation(volume.array, turned)
    return array, (spacing[0], spacing[1], spacing[2])


@dataclass(frozen=True, eq=False)
class Regridded:
    """An image on its prepared grid.

    Attributes:
        image: (C, X, Y, Z) float32, values as stored.
        places: of its voxels along each axis, in voxels of the image's own grid.
        box: start and shape of what its voxels cover, in the same.
    """

    image: Array
    places: Places
    box: tuple[Sequence[float], Sequence[float]]


def regrid(channels: Sequence[Array], spacing: Sequence[float], data: TaskDataConfig) -> Regridded:
    """Bring the channels (X, Y, Z) of an image to the grid of a task's recipe.

    Args:
        channels: of one shape.
        spacing: in mm.
        data: the recipe.
    """
    if data.resize is not None:
        start, shape = foreground_box(channels, data)
        places = tuple(p + s for p, s in zip(covering(shape, data.resize), start, strict=True))
        cropped = [channel[_box(start, shape)] for channel in channels]
        values = _channels_at(cropped, covering(shape, data.resize))
        return Regridded(values, places, (start, shape))
    steps = [t / s for s, t in zip(spacing, data.spacing or spacing, strict=True)]
    grid = spaced(channels[0].shape, steps)
    start, values = _foreground(channels, grid, steps, data)
    edges = [s * step + (1 - step) / 2 for s, step in zip(start, steps, strict=True)]
    covered = [n * step for n, step in zip(values.shape[1:], steps, strict=True)]
    return Regridded(values, _part(grid, start, values.shape[1:]), (edges, covered))


def foreground_box(channels: Sequence[Array], data: TaskDataConfig) -> tuple[Triple, Triple]:
    """Start and shape of the smallest box around the foreground, plus the margin.

    Foreground is what lies above the window's lower end (above zero after windowing, as published)
    or, without a window, above the channel's minimum, in any channel (X, Y, Z), as in MONAI. An
    image without any is taken whole.
    """
    floors = _floors(channels, data)
    bounds = _bounds(channels, floors) if data.foreground_crop else None
    if bounds is None:
        return (0, 0, 0), channels[0].shape
    return _widened(bounds, data.crop_margin, channels[0].shape)


def _foreground(
    channels: Sequence[Array], grid: Places, steps: Sequence[float], data: TaskDataConfig
) -> tuple[Triple, Array]:
    """Start on the grid, and the values (C, X, Y, Z) there, of the foreground with its margin.

    Values above the floor come only next to voxels that have one; only these are computed.
    """
    shape = [len(along) for along in grid]
    floors, margin = _floors(channels, data), data.crop_margin
    bounds = _bounds(channels, floors) if data.foreground_crop else None
    if bounds is not None:
        near = [
            (math.floor((first - 1) / step), math.ceil((last + 1) / step))
            for (first, last), step in zip(bounds, steps, strict=True)
        ]
        start, size = _widened(near, margin, shape)
        values = _channels_at(channels, _part(grid, start, size))
        bounds = _bounds(values, floors)
        if bounds is not None:
            inner, size = _widened(bounds, margin, size)
            moved = tuple(s + i for s, i in zip(start, inner, strict=True))
            return moved, _cut(values, inner, size)
    return (0, 0, 0), _channels_at(channels, grid)


def _channels_at(channels: Sequence[Array], places: Places) -> Array:
    """:func:`linear_at` of channels (X, Y, Z), together (C, X, Y, Z) float32."""
    together = np.empty((len(channels), *[len(along) for along in places]), np.float32)
    for channel, result in zip(channels, together, strict=True):
        linear_at(channel, places, result)
    return together


def _floors(channels: Sequence[Array], data: TaskDataConfig) -> list[float]:
    """The stored value of each channel above which a voxel belongs to the foreground."""
    return [
        float(channel.min()) if window is None else window[0] * data.scale
        for channel, window in zip(channels, data.windows(len(channels)), strict=True)
    ]


def _bounds(channels: Iterable[Array], floors: Sequence[float]) -> list[tuple[int, int]] | None:
    """First and last plane along each axis with a value above its channel's floor, if any."""
    together = None
    for channel, floor in zip(channels, floors, strict=True):
        found = _occupied(channel, floor)
        pairs = zip(together or found, found, strict=True)
        together = [one | other for one, other in pairs]
    if together is None or not together[0].any():
        return None
    inside = [np.flatnonzero(planes) for planes in together]
    return [(int(planes[0]), int(planes[-1])) for planes in inside]


def _occupied(image: Array, floor: float) -> list[Array]:
    """Whether each plane along each axis has a value above ``floor``."""
    occupied: list[Array] = [np.zeros(n, bool) for n in image.shape]
    for box in slabs(image):
        mask = image[box] > floor
        part = (*box, *[slice(None)] * (3 - len(box)))
        for axis in range(3):
            occupied[axis][part[axis]] |= mask.any(axis=tuple(a for a in range(3) if a != axis))
    return occupied


def _widened(
    bounds: Sequence[tuple[int, int]], margin: int, shape: Sequence[int]
) -> tuple[Triple, Triple]:
    """Start and shape of the box from first to last planes, plus a margin inside ``shape``."""
    start = [max(first - margin, 0) for first, _ in bounds]
    stop = [min(last + margin + 1, n) for (_, last), n in zip(bounds, shape, strict=True)]
    return tuple(start), tuple(e - s for s, e in zip(start, stop, strict=True))


def _cut(values: Array, start: Triple, shape: Triple) -> Array:
    """A box (C, X, Y, Z) of a new array, moved to the front of its memory, as a copy would take as
    much again."""
    whole = (len(values), *shape)
    cut: Array = values.reshape(-1)[: math.prod(whole)].reshape(whole)
    for channel, moved in zip(values, cut, strict=True):
        inside = channel[_box(start, shape)]
        for plane in range(shape[0]):
            # Never behind what is still to be moved.
            moved[plane] = inside[plane]
    return cut


def _box(start: Sequence[int], shape: Sequence[int]) -> Box:
    return tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))


def _part(grid: Places, start: Sequence[int], shape: Sequence[int]) -> Places:
    return tuple(g[s : s + n] for g, s, n in zip(grid, start, shape, strict=True))


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
    return tuple(box), tuple(places)


def to_file_grid(prediction: Array, row: Mapping[str, Any]) -> tuple[Array, Array]:
    """Map a prediction as :func:`to_native` does, and its axes back to those of the original file.

    Returns:
        Classes (X, Y, Z) in the file's order and direction, and the file's affine (4, 4), voxel
        indices to mm in RAS+.
    """
    affine = np.array(row["affine"], dtype=np.float64).reshape(4, 4)
    return _turned_back(to_native(prediction, row), row), affine


def values_to_file_grid(values: Array, row: Mapping[str, Any], outside: float) -> Array:
    """Map values (X, Y, Z) on the prepared grid, such as probabilities, to the original file's.

    Args:
        values: mapped linearly.
        row: the volume's row of the store's table.
        outside: of what the crop left out.

    Returns:
        (X, Y, Z) float32 in the file's order and direction.
    """
    native = np.full([int(row[f"native_{a}"]) for a in "xyz"], outside, np.float32)
    box, places = _native_places(row, values.shape)
    native[box] = linear_at(values, places)
    return _turned_back(native, row)


def _turned_back(array: Array, row: Mapping[str, Any]) -> Array:
    """An array with axes as :func:`to_ras` leaves them, with the axes of the original file."""
    from nibabel import orientations

    # A file that states no orientation was never turned.
    if row["orientation"]:
        affine = np.array(row["affine"], dtype=np.float64).reshape(4, 4)
        back = orientations.ornt_transform(_RAS, orientations.io_orientation(affine))
        array = orientations.apply_orientation(array, back)
    return np.ascontiguousarray(array)


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
    return array, tuple(moved)


def _interpolated(array: Array, axis: int, places: Array) -> Array:
    """Interpolate along one of the last three axes at ``places`` inside the array."""
    size = array.shape[axis - 3]
    if len(places) == size and (places == np.arange(size)).all():
        return array
    below = places.astype(np.intp)
    weight = (places - below).astype(np.float32)
    low: Array = array.take(below, axis=axis - 3)
    high: Array = array.take(np.minimum(below + 1, size - 1), axis=axis - 3)
    # low + w (high - low) keeps a constant image constant to the last bit.
    high -= low
    high *= weight.reshape(-1, *[1] * (2 - axis))
    high += low
    return high
