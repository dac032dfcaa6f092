"""Reading the slices of one DICOM series as a volume.

Padding outside the field of view becomes air. The stack of a tilted gantry is sheared back to a
grid with right angles, as users of dcm2niix know it. Pixels are read slice by slice, into place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from voxseq.base.errors import DataError
from voxseq.data.readers.dicom import CLASSES, SliceHeader, left_out, read_headers, read_slices
from voxseq.data.readers.files import check_size, reading, stacked
from voxseq.data.readers.series import stacks
from voxseq.data.readers.stack import Order, Stack, arrange
from voxseq.data.volume import Array, Entry, Volume

Values = Literal["stored", "hu"]
#: Value in HU of pixels outside the field of view; in images without HU it is 0.
AIR = -1024.0
#: Values in HU between which a padding value may be that of tissue as well.
_TISSUE = (-1000.0, 3071.0)
#: Pixels by which rounding may move a slice.
_NO_SHIFT = 1e-4


def read_volume(
    folder: Path, entry: Entry, *, order: Order = "position", values: Values = "hu"
) -> Volume:
    """Read the slices that an entry names.

    Its axes are (column, row, slice) in order of position and (row, column, slice) in order of
    InstanceNumber.

    Args:
        folder: the data set's folder.
        entry: with ``files``; its locator names the stack, where they hold several.
        order: see :func:`voxseq.data.readers.stack.arrange`.
        values: stored values, or Hounsfield units by RescaleSlope and RescaleIntercept.

    Raises:
        DataError: a file is damaged, or the slices are not those of one even stack.
        ResourceError: the machine failed, or a file has gone since it was listed.
    """
    place = entry.path
    headers = [h for path in entry.paths for h in read_headers(folder, path)]
    if any(header.frames > 1 for header in headers):
        headers = _of_stack(headers, entry)
    stack = arrange(headers, place, order)
    count, (rows, columns) = len(stack.slices), stack.slices[0].size
    check_size(place, (rows, columns, count))
    with reading(folder, place, "DICOM series"):
        planes = stacked(_planes(folder, stack, values), count)
    # The patient's x runs along the columns; without a patient the published order is kept.
    by_position = order == "position"
    axes = (2, 1, 0) if by_position else (1, 2, 0)
    return Volume(planes.transpose(axes), stack.affine, by_position, stack.remarks)


def _of_stack(headers: list[SliceHeader], entry: Entry) -> list[SliceHeader]:
    """Frames of the stack that the entry means."""
    frames = [header for header in headers if not left_out(header, {*CLASSES.values()})]
    found = stacks(frames)[0] if frames else {}
    wanted = found.get(entry.locator) or (next(iter(found.values())) if len(found) == 1 else None)
    if wanted is None:
        raise DataError(
            f"{entry.path}: its frames are of the stacks {', '.join(found) or 'none'}, "
            f"expected {entry.locator or 'one'}",
            "look whether the file has changed",
        )
    return wanted


def _planes(folder: Path, stack: Stack, values: Values) -> Iterator[tuple[str, Array]]:
    """Path and values (rows, columns) of each slice, on the stack's grid."""
    rows, columns = stack.slices[0].size
    more = (0, 0)
    if stack.shifts is not None:
        down, right = np.ceil(stack.shifts.max(axis=0) - _NO_SHIFT).astype(int)
        more = (int(down), int(right))
        check_size(stack.slices[0].path, (rows + down, columns + right, len(stack.slices)))
    for number, (header, pixels) in enumerate(read_slices(folder, stack.slices)):
        with reading(folder, header.path, "DICOM image"):
            plane = converted(header, pixels, values)
        if stack.shifts is not None:
            plane = _shifted(plane, more, stack.shifts[number], _air(header))
        yield header.path, plane


def _shifted(plane: Array, more: tuple[int, int], shift: Array, air: float) -> Array:
    """A slice on a larger grid, moved by pixels along rows and columns, with air around it."""
    wide = np.pad(plane.astype(np.float64), [(0, n) for n in more], mode="edge")
    moved: Array = ndimage.shift(wide, shift, order=1, mode="nearest")
    for axis, length in enumerate(plane.shape):
        place = np.arange(moved.shape[axis]) - shift[axis]
        beside = (place < -_NO_SHIFT) | (place > length - 1 + _NO_SHIFT)
        np.moveaxis(moved, axis, 0)[beside] = air
    if plane.dtype.kind in "ui":
        moved = np.rint(moved)
    return moved.astype(plane.dtype)


def _air(header: SliceHeader) -> float:
    return AIR if header.modality in ("CT", "") else 0.0


def converted(header: SliceHeader, pixels: Array, values: Values) -> Array:
    """Stored values or HU (rows, columns) of a slice, with air where it states padding.

    Stored values stay as published, unless padding is stored as a number above that of any tissue.
    """
    stated = _stated_padding(header, pixels)
    if values == "stored" and stated is None:
        return pixels
    rescaled = _rescaled(header, pixels)
    plane = pixels if values == "stored" else rescaled
    if stated is None:
        return plane
    outside = _outside(header, stated, rescaled)
    fill = _air(header)
    if values == "stored":
        outside &= rescaled > _TISSUE[1]
        slope, intercept = header.rescale
        limits = np.iinfo(pixels.dtype)
        fill = float(np.clip(round((AIR - intercept) / slope), limits.min, limits.max))
    if outside.any():
        plane = plane.copy()
        plane[outside] = fill
    return plane


def _rescaled(header: SliceHeader, pixels: Array) -> Array:
    slope, intercept = header.rescale
    if slope == 1.0 and intercept.is_integer():
        return pixels.astype(np.int32) + np.int32(intercept)
    return (pixels * slope + intercept).astype(np.float32)


def _stated_padding(header: SliceHeader, pixels: Array) -> Array | None:
    """Pixels (rows, columns) with a value that the header calls padding; None without any."""
    if header.padding is None:
        return None
    # As stored: some files state the value of unsigned pixels with a sign, or the other way round.
    low, high = min(header.padding), max(header.padding)
    numbers = 1 << header.bits
    if high - low >= numbers:
        return None
    stated: Array = (pixels.astype(np.int64) - low) % numbers <= high - low
    return stated if stated.any() else None


def _outside(header: SliceHeader, stated: Array, rescaled: Array) -> Array:
    """Pixels (rows, columns) outside the field of view.

    A padding value that tissue may have too counts where it reaches the border of the slice.
    """
    low_tissue, high_tissue = _TISSUE if _air(header) == AIR else (0.0, np.inf)
    impossible: Array = stated & ((rescaled < low_tissue) | (rescaled > high_tissue))
    border = np.ones_like(stated)
    border[1:-1, 1:-1] = False
    reached: Array = ndimage.binary_propagation(stated & border, mask=stated)
    return impossible | reached
