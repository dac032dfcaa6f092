"""What makes an image or a label unusable."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from voxseq.base.errors import DataError
from voxseq.data.headers import (
    GRID_TOLERANCE,
    LARGEST_SHEAR,
    corner_distance,
    shear,
)
from voxseq.data.slabs import class_counts, slabs
from voxseq.data.volume import Array, Remark, Volume

#: Labels beyond this are no class numbers of any data set here.
_MOST_CLASSES = 255
#: What to do about classes that are not there.
_LOOK = (
    "open the segmentation over its image in ITK-SNAP or 3D Slicer: nothing to repair if that is "
    "meant"
)
#: Voxels that are hashed at a time: many, because in files the first axis often runs fastest.
_HASHED = 1 << 24


@dataclass(frozen=True)
class Measured:
    """What reading an image tells about it."""

    minimum: float
    maximum: float
    content_hash: str


def check_image(volume: Volume, path: str) -> Measured:
    """Check the voxels and the grid of an image, and measure it.

    Raises:
        DataError: naming ``path`` and the reason.
    """
    minimum, maximum = require_usable(volume, path)
    return Measured(minimum, maximum, content_hash(volume.array))


def require_usable(volume: Volume, path: str) -> tuple[float, float]:
    """Check the voxels and the grid of an image; returns its least and largest value.

    Raises:
        DataError: naming ``path`` and the reason.
    """
    array, matrix = volume.array, volume.affine
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(f"{path}: no voxels, shape {array.shape}")
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise DataError(f"{path}: the affine holds NaN or infinite numbers")
    spacing = np.array(volume.spacing)
    # A determinant is judged relative to the spacing: it is tiny for fine grids as well.
    if (spacing <= 0).any() or abs(np.linalg.det(matrix[:3, :3])) < 1e-3 * spacing.prod():
        raise DataError(
            f"{path}: the affine is singular, it maps the voxels onto a plane or a line"
        )
    if shear(matrix) > LARGEST_SHEAR:
        raise DataError(
            f"{path}: its grid is sheared by {shear(matrix):.0f} degrees, expected right angles"
        )
    minimum, maximum = float(array.min()), float(array.max())
    if not (np.isfinite(minimum) and np.isfinite(maximum)):
        # NaN survives min and max; counting is only needed for the message.
        bad = int(array.size - np.isfinite(array).sum())
        raise DataError(
            f"{path}: {bad} of {array.size} voxels are NaN or infinite",
            "give them a number, such as that of air, or leave the image out",
        )
    if minimum == maximum:
        raise DataError(f"{path}: every voxel has the value {minimum:g}")
    if max(abs(minimum), abs(maximum)) > np.finfo(np.float32).max:
        raise DataError(f"{path}: values up to {maximum:g} do not fit 32 bits")
    return minimum, maximum


def check_label(label: Volume, image: Volume, path: str, allowed: Collection[int]) -> list[int]:
    """Check that a segmentation belongs to its image and holds known classes.

    Returns:
        The classes that it holds.

    Raises:
        DataError: as :func:`count_label`, or values that are not in ``allowed``.
    """
    values = list(count_label(label, image, path))
    unknown = [value for value in values if value not in allowed]
    if unknown:
        shown = ", ".join(str(v) for v in unknown[:5])
        expected = ", ".join(str(v) for v in sorted(allowed))
        raise DataError(f"{path}: unknown label values {shown}, expected {expected}")
    return values


def count_label(label: Volume, image: Volume, path: str) -> dict[int, int]:
    """Check that a segmentation belongs to its image, and count the voxels of each value.

    Returns:
        Value → its voxels, values in rising order.

    Raises:
        DataError: another shape or grid, or values that are no class numbers.
    """
    array = label.array
    if array.ndim != 3:
        raise DataError(f"{path}: the label has {array.ndim} axes, shape {array.shape}, expected 3")
    if array.shape != image.array.shape:
        raise DataError(
            f"{path}: the label's shape {array.shape} is not that of its image, {image.array.shape}"
        )
    if label.oriented and image.oriented:
        _check_same_grid(label, image, path)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= _MOST_CLASSES):
        raise DataError(f"{path}: unknown label values from {low:g} to {high:g}")
    counts = np.zeros(_MOST_CLASSES + 1, np.int64)
    for box in slabs(array):
        whole = array[box].astype(np.uint8)
        if array.dtype.kind == "f" and not np.array_equal(whole, array[box]):
            raise DataError(f"{path}: label values are not whole numbers")
        counts += class_counts(whole)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def empty_label(values: Collection[int], path: str) -> list[Remark]:
    """A remark on a segmentation whose only value is 0."""
    if any(values):
        return []
    return [Remark(path, "the segmentation is empty: no foreground class in any voxel", _LOOK)]


def absent_classes(held: Iterable[Collection[float]], wanted: Mapping[int, str]) -> list[Remark]:
    """Remarks on classes that no case of a whole data set has.

    Args:
        held: classes of each case.
        wanted: value → name.
    """
    cases = list(held)
    shown = {value for values in cases for value in values}
    return [
        Remark("", f"none of the {len(cases)} cases has class {value} ({name})", _LOOK)
        for value, name in (wanted.items() if cases else ())
        if value not in shown
    ]


def _check_same_grid(label: Volume, image: Volume, path: str) -> None:
    distance = corner_distance(label.affine, image.affine, image.array.shape)
    if not distance <= GRID_TOLERANCE * min(image.spacing):
        raise DataError(
            f"{path}: the label's grid is not that of its image, their corners lie up to "
            f"{distance:.3g} mm apart"
        )


def joined_hash(hashes: Iterable[str]) -> str:
    """Content hashes of the channels of an image as one word of the index; see single_hashes."""
    return " ".join(hashes)


def single_hashes(joined: str) -> list[str]:
    """Content hash of each channel of an image."""
    return joined.split()


def content_hash(array: Array) -> str:
    """SHA-256 of the voxel values as float32 in C order, and of the shape."""
    digest = hashlib.sha256(repr(tuple(int(n) for n in array.shape)).encode())
    for box in slabs(array, axis=0, voxels=_HASHED):
        digest.update(np.ascontiguousarray(array[box], dtype=np.float32).data)
    return digest.hexdigest()
