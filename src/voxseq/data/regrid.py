"""From an image's own grid to that of a task: foreground crop, and resampling.

Resampling to a spacing follows the published chain: the whole image first, on the grid that
MONAI's ``Spacing`` makes, then the foreground of the result. Resizing to a shape takes the
foreground of the image as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxseq.config.data import TaskDataConfig
from voxseq.data import grid as resample
from voxseq.data.grid import Places, Triple
from voxseq.data.slabs import Box, slabs
from voxseq.data.volume import Array


@dataclass(frozen=True, eq=False)
class Regridded:
    """An image on its prepared grid.

    Attributes:
        image: (X, Y, Z) float32, values as stored.
        places: of its voxels along each axis, in voxels of the image's own grid.
        box: start and shape of what its voxels cover, in the same.
    """

    image: Array
    places: Places
    box: tuple[Sequence[float], Sequence[float]]


def regrid(image: Array, spacing: Sequence[float], data: TaskDataConfig) -> Regridded:
    """Bring an image (X, Y, Z) with ``spacing`` in mm to the grid of a task's recipe."""
    if data.resize is not None:
        return _resized(image, data.resize, data)
    steps = [t / s for s, t in zip(spacing, data.spacing or spacing, strict=True)]
    grid = resample.spaced(image.shape, steps)
    start, values = _foreground(image, grid, steps, data)
    edges = [s * step + (1 - step) / 2 for s, step in zip(start, steps, strict=True)]
    covered = [n * step for n, step in zip(values.shape, steps, strict=True)]
    return Regridded(values, _part(grid, start, values.shape), (edges, covered))


def foreground_box(image: Array, data: TaskDataConfig) -> tuple[Triple, Triple]:
    """Start and shape of the smallest box around the foreground, plus the margin.

    Foreground is what lies above the window's lower end (above zero after windowing, as published)
    or, without a window, above the image's minimum. An image without any is taken whole.
    """
    bounds = _bounds(image, _floor(image, data)) if data.foreground_crop else None
    if bounds is None:
        return (0, 0, 0), _triple(image.shape)
    return _widened(bounds, data.crop_margin, image.shape)


def _resized(image: Array, target: Triple, data: TaskDataConfig) -> Regridded:
    start, shape = foreground_box(image, data)
    x, y, z = (p + s for p, s in zip(resample.covering(shape, target), start, strict=True))
    return Regridded(resample.linear(image[_box(start, shape)], target), (x, y, z), (start, shape))


def _foreground(
    image: Array, grid: Places, steps: Sequence[float], data: TaskDataConfig
) -> tuple[Triple, Array]:
    """Start on the grid, and the values there, of the foreground with its margin.

    Values above the floor come only next to voxels that have one; only these are computed.
    """
    shape = [len(along) for along in grid]
    floor, margin = _floor(image, data), data.crop_margin
    bounds = _bounds(image, floor) if data.foreground_crop else None
    if bounds is not None:
        near = [
            (math.floor((first - 1) / step), math.ceil((last + 1) / step))
            for (first, last), step in zip(bounds, steps, strict=True)
        ]
        start, size = _widened(near, margin, shape)
        values = resample.linear_at(image, _part(grid, start, size))
        bounds = _bounds(values, floor)
        if bounds is not None:
            inner, size = _widened(bounds, margin, size)
            moved = _triple([s + i for s, i in zip(start, inner, strict=True)])
            return moved, _cut(values, inner, size)
    return (0, 0, 0), resample.linear_at(image, grid)


def _floor(image: Array, data: TaskDataConfig) -> float:
    """The stored value above which a voxel belongs to the foreground."""
    if data.normalise == "window" and data.window is not None:
        return data.window[0] * data.scale
    return float(image.min())


def _bounds(image: Array, floor: float) -> list[tuple[int, int]] | None:
    """First and last plane along each axis with a value above ``floor``; None where none is."""
    occupied = [np.zeros(n, bool) for n in image.shape]
    for box in slabs(image):
        mask = image[box] > floor
        part = (*box, *[slice(None)] * (3 - len(box)))
        for axis in range(3):
            occupied[axis][part[axis]] |= mask.any(axis=tuple(a for a in range(3) if a != axis))
    if not occupied[0].any():
        return None
    inside = [np.flatnonzero(planes) for planes in occupied]
    return [(int(planes[0]), int(planes[-1])) for planes in inside]


def _widened(
    bounds: Sequence[tuple[int, int]], margin: int, shape: Sequence[int]
) -> tuple[Triple, Triple]:
    """Start and shape of the box from first to last planes, plus a margin inside ``shape``."""
    start = [max(first - margin, 0) for first, _ in bounds]
    stop = [min(last + margin + 1, n) for (_, last), n in zip(bounds, shape, strict=True)]
    return _triple(start), _triple([e - s for s, e in zip(start, stop, strict=True)])


def _cut(values: Array, start: Triple, shape: Triple) -> Array:
    """A box of a new array, moved to the front of its memory: a copy would take as much again."""
    cut: Array = values.reshape(-1)[: math.prod(shape)].reshape(shape)
    for plane in range(shape[0]):
        # Never behind what is still to be moved.
        cut[plane] = values[_box(start, shape)][plane]
    return cut


def _box(start: Sequence[int], shape: Sequence[int]) -> Box:
    return tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))


def _part(grid: Places, start: Sequence[int], shape: Sequence[int]) -> Places:
    x, y, z = (g[s : s + n] for g, s, n in zip(grid, start, shape, strict=True))
    return (x, y, z)


def _triple(values: Sequence[int]) -> Triple:
    x, y, z = (int(v) for v in values)
    return (x, y, z)
