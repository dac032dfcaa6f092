"""Predictions mapped back to the grid of the original file.

There and back: the file's axes are turned to RAS, the foreground is cut out, and it is resampled;
:func:`to_native` undoes the last two, :func:`to_file_grid` all three.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from voxseq.base.files import atomic_path
from voxseq.data import grid as resample
from voxseq.data.grid import Places
from voxseq.data.slabs import Box
from voxseq.data.volume import Array


def to_native(prediction: Array, row: Mapping[str, Any]) -> Array:
    """Map a prediction on the prepared grid back to the image's reoriented, uncropped grid.

    Args:
        prediction: classes (X, Y, Z), mapped by the nearest voxel; or class probabilities
            (C, X, Y, Z), background first, mapped linearly.
        row: the volume's row of the store's table.

    Returns:
        The same kind of array with the native shape; what the crop left out is background, with
        probability 1.
    """
    native = [int(row[f"native_{a}"]) for a in "xyz"]
    prepared = tuple(int(row[f"p_{a}"]) for a in "xyz")
    if prediction.shape[-3:] != prepared or prediction.ndim not in {3, 4}:
        raise ValueError(f"a prediction of shape {prediction.shape}, expected {prepared}")
    box, places = native_places(row, prepared)
    if prediction.ndim == 3:
        classes = np.zeros(native, prediction.dtype)
        classes[box] = resample.nearest_at(prediction, places)
        return classes
    probabilities = np.zeros((len(prediction), *native), np.float32)
    probabilities[0] = 1.0
    probabilities[(slice(None), *box)] = resample.linear_at(prediction, places)
    return probabilities


def native_places(row: Mapping[str, Any], prepared: Sequence[int]) -> tuple[Box, Places]:
    """The native voxels whose centres the prepared grid covers, and their places on that grid.

    Args:
        row: the volume's row of the store's table.
        prepared: shape of the prepared grid.
    """
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
    """Map a prediction on the prepared grid back to the voxels of the original file.

    Args:
        prediction: as for :func:`to_native`.
        row: the volume's row of the store's table.

    Returns:
        The same kind of array with axes in the file's order and direction, and the file's affine
        (4, 4), voxel indices to mm in RAS+.
    """
    native = to_native(prediction, row)
    affine = np.array(row["affine"], dtype=np.float64).reshape(4, 4)
    if row["orientation"]:
        # A file that states no orientation was never turned.
        turned = nibabel.orientations.io_orientation(affine)
        back = nibabel.orientations.ornt_transform(_RAS, turned)
        lead = native.ndim - 3
        planes = native.reshape(-1, *native.shape[lead:])
        native = np.stack([nibabel.orientations.apply_orientation(p, back) for p in planes])
        native = native.reshape(*prediction.shape[:lead], *native.shape[1:])
    return np.ascontiguousarray(native), affine


#: Of places, in voxels.
_ROUNDING = 1e-6
#: Axes right, anterior, superior, none of them flipped.
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


def save_prediction(path: Path, prediction: Array, row: Mapping[str, Any]) -> None:
    """Write a prediction as NIfTI on the grid of the original file, the same bytes each time.

    Args:
        path: ends in ``.nii.gz`` or ``.nii``.
        prediction: classes (X, Y, Z) from 0 to 255 on the prepared grid, or class probabilities
            (C, X, Y, Z), of which the most probable class is written.
        row: the volume's row of the store's table.
    """
    array, affine = to_file_grid(prediction, row)
    classes = array.argmax(axis=0) if array.ndim == 4 else array
    image = nibabel.Nifti1Image(classes.astype(np.uint8), affine)
    # As in the original, no orientation is stated where none is known.
    image.set_sform(affine, code=1 if row["orientation"] else 0)
    image.set_qform(None, code=0)
    content = image.to_bytes()
    with atomic_path(path) as temporary:
        is_packed = path.name.endswith(".gz")
        temporary.write_bytes(gzip.compress(content, mtime=0) if is_packed else content)
