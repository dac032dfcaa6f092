"""An image as a task's recipe wants it: the same code for the volume store and for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from voxseq.base.errors import DataError
from voxseq.config.data import TaskDataConfig, Window
from voxseq.data import grid
from voxseq.data.channels import require_one_grid
from voxseq.data.index import orientation
from voxseq.data.plausible import LEAST_INSIDE
from voxseq.data.slabs import slabs, standard_deviation
from voxseq.data.volume import Array, Volume

#: Least standard deviation that a z-score divides by.
_LEAST_SD = 1e-6


class NothingShownError(DataError):
    """An image from which nothing can be learnt as it is prepared; says why."""


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image on its prepared grid.

    Attributes:
        image: (C, X, Y, Z) float32, normalised.
        places: of its voxels along each axis, in voxels of the image that was turned to RAS.
        columns: of the store's row: what :func:`voxseq.data.grid.to_native`,
            :func:`voxseq.data.grid.to_file_grid` and others of that module read.
    """

    image: Array
    places: grid.Places
    columns: dict[str, Any]


def prepare_image(volumes: Sequence[Volume], data: TaskDataConfig) -> PreparedImage:
    """Turn an image to RAS, bring it to the task's grid and normalise its intensities.

    Args:
        volumes: the image's channels on one grid, in the order of the task's channels.
        data: the recipe; with several windows, one for each channel.

    Raises:
        DataError: the channels have different grids.
        NothingShownError: no channel shows anything after it.
        ValueError: the recipe has another number of windows.
    """
    first = volumes[0]
    for number, volume in enumerate(volumes[1:], start=1):
        require_one_grid(first, volume, f"channel {number}")
    # Of nearly equal grids the first one's turns all.
    turned = [grid.to_ras(replace(first, array=volume.array)) for volume in volumes]
    images, spacing = [array for array, _ in turned], turned[0][1]
    native = images[0].shape
    regridded = grid.regrid(images, spacing, data)
    prepared = regridded.image
    _normalise_in_place(prepared, data)
    _require_contrast(prepared, data)
    columns = {
        "affine": [float(n) for n in first.affine.ravel()],
        "orientation": orientation(first),
        **geometry_columns(prepared.shape[1:], regridded.box, native, spacing),
    }
    return PreparedImage(prepared, regridded.places, columns)


def place_label(label: Array, prepared: PreparedImage) -> tuple[Array, Array]:
    """Classes of an image, turned to RAS, and on its prepared grid.

    It is the image's affine that orients them: some labels state no orientation, or a slightly
    different one.

    Args:
        label: (X, Y, Z) on the grid of the image's file.
        prepared: the image.
    """
    columns = prepared.columns
    affine = np.array(columns["affine"]).reshape(4, 4)
    turned, _ = grid.to_ras(Volume(label, affine, oriented=bool(columns["orientation"])))
    return turned, grid.nearest_at(turned, prepared.places)


def normalise(image: Array, data: TaskDataConfig) -> Array:
    """Intensities (C, X, Y, Z) as the task's recipe wants them: a new array, float32."""
    values = np.array(image, dtype=np.float32, order="C")
    _normalise_in_place(values, data)
    return values


def _normalise_in_place(image: Array, data: TaskDataConfig) -> None:
    for channel, window in zip(image, data.windows(len(image)), strict=True):
        _normalise_channel(channel, window, data)


def _normalise_channel(values: Array, window: Window | None, data: TaskDataConfig) -> None:
    values /= np.float32(data.scale)
    if window is not None:
        low, high = window
        values -= np.float32(low)
        values /= np.float32(high - low)
        np.clip(values, 0.0, 1.0, out=values)
    elif data.normalise == "zscore":
        mean, sd = values.mean(dtype=np.float64), standard_deviation(values)
        values -= np.float32(mean)
        values /= np.float32(max(sd, _LEAST_SD))


def _require_contrast(image: Array, data: TaskDataConfig) -> None:
    """Refuse a prepared image (C, X, Y, Z) none of whose channels shows anything."""
    windows = data.windows(len(image))
    reasons = [_emptiness(*pair, data.scale) for pair in zip(image, windows, strict=True)]
    if all(reasons):
        raise NothingShownError(reasons[0])


def _emptiness(channel: Array, window: Window | None, scale: float) -> str:
    """Why a prepared channel (X, Y, Z) shows nothing; "" where it shows something.

    It is constant, or nearly all of it lies at the edges of the window.
    """
    low, high = float(channel.min()), float(channel.max())
    if low == high:
        return "prepared as the task asks, every voxel has one value"
    if window is None:
        return ""
    bright = sum(int(np.count_nonzero(channel[box] >= 1)) for box in slabs(channel))
    dark = sum(int(np.count_nonzero(channel[box] <= 0)) for box in slabs(channel))
    if bright + dark <= (1 - LEAST_INSIDE) * channel.size:
        return ""
    shown = " to ".join(f"{end * scale:g}" for end in window)
    return (
        f"prepared, {dark / channel.size:.1%} of its voxels lie below and "
        f"{bright / channel.size:.1%} above the task's window {shown}: it shows nothing else"
    )


def geometry_columns(
    prepared: Sequence[int],
    box: tuple[Sequence[float], Sequence[float]],
    native: Sequence[int],
    spacing: Sequence[float],
) -> dict[str, int | float]:
    """Columns that describe the way from the image's own grid, in RAS, to the prepared one."""
    columns: dict[str, int | float] = {}
    for axis, start, size, n, whole, mm in zip("xyz", *box, prepared, native, spacing, strict=True):
        columns[f"p_{axis}"] = int(n)
        columns[f"crop_start_{axis}"] = float(start)
        columns[f"crop_shape_{axis}"] = float(size)
        columns[f"native_{axis}"] = int(whole)
        columns[f"p_spacing_{axis}"] = float(mm) * size / n
    return columns
