"""Reading one NIfTI file."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from voxseq.base.errors import DataError
from voxseq.base.files import require_regular
from voxseq.data.headers import (
    COMPARE,
    GRID_TOLERANCE,
    RIGHT_ANGLE,
    SPACING_TOLERANCE,
    corner_distance,
    product,
    shear,
)
from voxseq.data.readers.files import MOST_PACKED, check_size, read_exactly, reading
from voxseq.data.slabs import slabs
from voxseq.data.volume import Array, Remark, Volume

_GZIP_MAGIC = b"\x1f\x8b"
#: Bytes that are converted at a time.
_PIECE = 1 << 24
#: Bytes of a NIfTI-2 header, the longer one.
_LONGEST_HEADER = 540
#: The first four bytes of NIfTI-2: its header size, in both byte orders.
_NIFTI2_SIZES = (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")
#: Units of length by the lowest bits of xyzt_units, beside millimetres (2) and none (0). ITK
#: converts a spacing from them, nibabel does not: no reader agrees with all others.
_OTHER_UNITS = {1: "metre", 3: "micrometre"}


def read(folder: Path, path: str) -> Volume:
    """Read ``folder / path``, (X, Y, Z) or (X, Y, Z, C), values scaled as the header says.

    A compressed file is unpacked to its end, so that its checksum is verified: readers that stop
    after the last voxel miss damage. It is unpacked piece by piece into the array; scaled whole
    numbers stay whole numbers where scale and offset are, instead of taking 64 bits each.

    Raises:
        DataError: unreadable, of fewer than three or more than four axes, or not of real numbers.
    """
    with reading(folder, path, "NIfTI"):
        require_regular(folder / path)
        with (folder / path).open("rb") as file:
            size = (folder / path).stat().st_size
            stream = _unpacked(file)
            is_packed = stream is not file
            image, header = _parse(stream)
            shape = _axes(image, path)
            array = _voxels(image, stream, size * MOST_PACKED if is_packed else size)
            # To the end, where the checksum is; a little may stand behind the voxels.
            if is_packed and stream.read(_PIECE) and stream.read(1):
                raise OSError(f"more than {_PIECE} bytes behind the voxels")
        affine = np.asarray(image.affine, dtype=np.float64)
        oriented = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
        reasons = _contradictions(header, affine, shape[:3])
    remarks = tuple(Remark(path, reason, COMPARE) for reason in reasons)
    return Volume(array.reshape(shape, order="F"), affine, oriented, remarks)


def read_header(path: Path) -> nibabel.Nifti1Header:
    """The header of a file as it is stored; NIfTI-2 has a class of its own.

    Raises:
        DataError: unreadable.
        ResourceError: the machine failed.
    """
    with reading(path.parent, path.name, "NIfTI"):
        require_regular(path)
        with path.open("rb") as file:
            return _header(_unpacked(file))[1]


def _unpacked(file: BinaryIO) -> IO[bytes]:
    """The file itself, or its content where it is packed, whatever its name says."""
    is_packed = cast(io.BufferedReader, file).peek(2)[:2] == _GZIP_MAGIC
    return cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_packed else file


def _header(stream: IO[bytes]) -> tuple[type[nibabel.Nifti1Image], nibabel.Nifti1Header]:
    start = stream.read(_LONGEST_HEADER)
    kind = nibabel.Nifti2Image if start[:4] in _NIFTI2_SIZES else nibabel.Nifti1Image
    length = kind.header_class.template_dtype.itemsize
    return kind, kind.header_class(start[:length], check=False)


def _parse(stream: IO[bytes]) -> tuple[nibabel.Nifti1Image, nibabel.Nifti1Header]:
    """The image, and the header as it is stored: nibabel replaces impossible values in its own."""
    kind, header = _header(stream)
    _check_fields(header)
    stream.seek(0)
    return kind.from_stream(stream), header


def _check_fields(header: nibabel.Nifti1Header) -> None:
    """Refuse a scale or a spacing that a reader would have to invent.

    Raises:
        ValueError: naming it.
    """
    scale = (float(header["scl_slope"]), float(header["scl_inter"]))
    # NaN stands for "not scaled" in files that nibabel has written.
    if np.isinf(scale).any():
        raise ValueError(f"values are scaled by {scale[0]} and {scale[1]}")
    spacing = header["pixdim"][1:4].astype(float)
    if int(header["sform_code"]) <= 0 and not ((spacing > 0) & np.isfinite(spacing)).all():
        raise ValueError(f"a spacing of {spacing.tolist()} mm, expected numbers above 0")


def _contradictions(
    header: nibabel.Nifti1Header, affine: Array, shape: Sequence[int]
) -> Iterator[str]:
    """Yield where the header contradicts itself, or lacks what a reader then makes up.

    Args:
        header: as it is stored.
        affine: (4, 4), by which the image is read: that of the sform where there is one.
        shape: of the image.
    """
    unit = _OTHER_UNITS.get(int(header["xyzt_units"]) & 7)
    if unit:
        yield f"its unit of length (xyzt_units) is the {unit}: its numbers are taken as mm"
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if not has_sform and not has_qform:
        yield "it states no orientation (codes of sform and qform are 0): axes stay as stored"
    stated = header["pixdim"][1:4].astype(float)
    if not has_sform:
        return
    if not (np.isfinite(stated) & (stated > 0)).all():
        yield f"the header states a spacing of {product(stated)} mm beside a valid affine"
        return
    used = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    # Neither pixdim nor a qform can state a sheared grid, which is named as such.
    if not np.isfinite(affine).all() or not used.all() or shear(affine) > RIGHT_ANGLE:
        return
    if (np.abs(stated - used) > SPACING_TOLERANCE * used).any():
        yield (
            f"the header states two spacings: pixdim {product(stated)} mm, sform {product(used)} "
            "mm, which is used"
        )
    elif has_qform:
        yield from _two_forms(header, affine, shape)


def _two_forms(header: nibabel.Nifti1Header, affine: Array, shape: Sequence[int]) -> Iterator[str]:
    """Yield how the qform differs from the affine of the sform, if it does."""
    try:
        other = header.get_qform()
    except (HeaderDataError, ValueError) as error:
        yield f"its qform is no rotation ({error}), its sform is used"
        return
    distance = corner_distance(other, affine, shape)
    if distance <= GRID_TOLERANCE * np.sqrt((affine[:3, :3] ** 2).sum(axis=0)).min():
        return
    one, two = ("".join(nibabel.aff2axcodes(form)) for form in (affine, other))
    axes = f"axes of {one} and {two}, " if one != two else ""
    yield (
        f"sform and qform disagree: {axes}corners up to {distance:.3g} mm apart; the sform is used"
    )


def _axes(image: nibabel.Nifti1Image, path: str) -> tuple[int, ...]:
    """Shape without trailing axes of length 1; nothing has been read of the voxels."""
    shape, dtype = image.shape, image.dataobj.dtype
    if 0 in shape:
        raise DataError(f"{path}: no voxels, shape {shape}")
    if dtype.kind not in "buif":
        raise DataError(f"{path}: voxels of type {dtype}, expected real numbers")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4):
        raise DataError(f"{path}: the image has {len(shape)} axes, shape {shape}, expected 3")
    check_size(path, shape)
    return tuple(int(n) for n in shape)


def _voxels(image: nibabel.Nifti1Image, stream: IO[bytes], most: int) -> Array:
    """The voxels in one piece, scaled; stored and scaled ones never lie side by side as a whole."""
    proxy = image.dataobj
    count, dtype = int(np.prod(proxy.shape, dtype=object)), proxy.dtype
    if count * dtype.itemsize > most:
        raise OSError(f"the header promises {count} voxels, more than the file can hold")
    stream.seek(proxy.offset)
    slope, intercept = float(proxy.slope), float(proxy.inter)
    is_whole = dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
    if is_whole or (slope, intercept) == (1.0, 0.0):
        stored = read_exactly(stream, count * dtype.itemsize, most).view(dtype)
        return stored if (slope, intercept) == (1.0, 0.0) else _scaled(stored, slope, intercept)
    step = _PIECE // dtype.itemsize
    scaled = np.empty(0)
    for start in range(0, count, step):
        size = min(step, count - start) * dtype.itemsize
        piece = _by_nibabel(read_exactly(stream, size, most).view(dtype), slope, intercept)
        if start == 0:
            scaled = np.empty(count, piece.dtype)
        scaled[start : start + len(piece)] = piece
    return scaled


def _scaled(stored: Array, slope: float, intercept: float) -> Array:
    """Whole numbers by whole numbers, in the least type that holds the result."""
    ends = sorted(int(end) * int(slope) + int(intercept) for end in (stored.min(), stored.max()))
    for kind in (np.dtype(np.int16), np.dtype(np.int32)):
        if np.iinfo(kind).min <= ends[0] and ends[1] <= np.iinfo(kind).max:
            scaled = np.empty(stored.shape, kind)
            for box in slabs(stored):
                scaled[box] = stored[box].astype(np.int64) * int(slope) + int(intercept)
            return scaled
    return _by_nibabel(stored, slope, intercept)


def _by_nibabel(stored: Array, slope: float, intercept: float) -> Array:
    """Scaled with 64 bits, or more where the values ask for it."""
    return cast(Array, apply_read_scaling(stored, np.float64(slope), np.float64(intercept)))
