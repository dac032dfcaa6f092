"""Reading one DICOM series of single slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset

from voxseq.base.errors import DataError
from voxseq.base.failures import read_named
from voxseq.base.paths import is_junk
from voxseq.data.readers.files import reading
from voxseq.data.volume import Array, Volume, affine_of_lps, scaling_affine

Values = Literal["stored", "hu"]
Order = Literal["position", "instance"]

#: Tags that say which series a file belongs to and how it lies.
_HEADER_TAGS = (
    *("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "StudyDate", "Modality"),
    *("SeriesNumber", "SeriesDescription", "InstanceNumber", "SliceThickness"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
)
#: Transfer syntaxes whose pixels are plain little-endian numbers.
_PLAIN = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})
#: Preamble and magic of a DICOM file.
_MAGIC_AT, _MAGIC = 128, b"DICM"
#: Bytes in which the transfer syntax stands, and the one of files that are packed as a whole.
_META, _DEFLATED = 2048, b"1.2.840.10008.1.2.1.99"
#: More pixels than any slice of a CT or MRI has.
_LARGEST_SLICE = 1 << 26
#: By so much the product of the two directions of a slice may differ from 1.
_SKEW = 0.05
#: A step between slices larger than this many usual steps is a missing slice.
_GAP = 1.5
_REPEAT = 0.1


@dataclass(frozen=True)
class Slice:
    """One slice as stored: its header and its pixels (rows, columns)."""

    path: str
    header: Dataset
    pixels: Array


def dicom_names(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of the files in ``folder`` that are DICOM by name (.dcm) or by their magic."""

    def has_magic(path: Path) -> bool:
        try:
            with read_named(path), path.open("rb") as file:
                return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
        except OSError:
            return False

    return [n for n in names if n.lower().endswith(".dcm") or has_magic(folder / n)]


def read_header(folder: Path, path: str) -> Dataset:
    """The tags of a file that say which series it belongs to and how it lies."""
    with reading(folder, path, "DICOM"):
        _refuse_deflated(folder / path)
        tags = [*_HEADER_TAGS]
        return pydicom.dcmread(folder / path, stop_before_pixels=True, specific_tags=tags)


def text(header: Dataset, tag: str) -> str:
    """A tag as text, "" where it is missing, empty or not of its type."""
    value = _value(header, tag)
    return "" if value is None else str(value).strip()


def _value(header: Dataset, tag: str) -> Any:
    try:
        return header.get(tag)
    except Exception:
        # pydicom looks into a value only when it is asked for, and raises what that runs into.
        return None


def _refuse_deflated(path: Path) -> None:
    """Refuse a file that is packed as a whole, which pydicom unpacks whatever its size."""
    with path.open("rb") as file:
        if _DEFLATED in file.read(_META):
            raise ValueError("the deflated transfer syntax is not supported")


def read_series(
    folder: Path, place: str, *, uid: str = "", order: Order = "position", values: Values = "hu"
) -> Volume:
    """Read the series in the folder ``place`` as one volume.

    Its axes are (column, row, slice) in order of position and (row, column, slice) in order of
    InstanceNumber.

    Args:
        folder: the data set's folder.
        place: folder of the series, relative to it.
        uid: series to take where the folder holds several; "" takes all files.
        order: of the slices: along their normal, with the affine that the files state; or by
            InstanceNumber as published for RICORD, with no orientation.
        values: stored values, or Hounsfield units by RescaleSlope and RescaleIntercept.

    Raises:
        DataError: a file is damaged, a slice is missing or repeated, or nothing is left.
    """
    names = sorted(
        p.name for p in (folder / place).iterdir() if p.is_file() and not is_junk(p.name)
    )
    paths = [str(PurePosixPath(place) / n) for n in dicom_names(folder / place, names)]
    slices = [_read_slice(folder, path) for path in paths]
    slices = [s for s in slices if not uid or text(s.header, "SeriesInstanceUID") == uid]
    # A tag that is not of its type raises only here, where it is used.
    with reading(folder, place, "DICOM series"):
        return _volume(slices, place, order, values)


def _volume(slices: list[Slice], place: str, order: Order, values: Values) -> Volume:
    if not slices:
        raise DataError(f"{place}: no DICOM slice found", "obtain the series again")
    # Series may hold a scout of another shape than most of their slices have.
    shapes = Counter(s.pixels.shape for s in slices)
    shape = max(shapes, key=lambda key: (shapes[key], key))
    slices = [s for s in slices if s.pixels.shape == shape]
    by_position = order == "position"
    if by_position:
        slices, affine = _by_position(slices, place)
    else:
        slices.sort(key=lambda item: (int(_number(item.header, "InstanceNumber")), item.path))
        column, row, step = _spacing(slices)
        affine = scaling_affine((row, column, step))
    convert = _stored if values == "stored" else _hounsfield
    # Types first: converted planes then go into their place one after the other.
    kinds = (convert(replace(s, pixels=s.pixels[:1])).dtype for s in slices)
    planes = np.empty((len(slices), *shape), np.result_type(*kinds))
    for number, item in enumerate(slices):
        planes[number] = convert(item)
    # The patient's x runs along the columns; without a patient the published order is kept.
    axes = (2, 1, 0) if by_position else (1, 2, 0)
    return Volume(planes.transpose(axes), affine, oriented=by_position)


def is_axial(header: Dataset) -> bool:
    """Whether the slices are nearer to axial than to coronal or sagittal; True if unstated."""
    directions = _numbers(_value(header, "ImageOrientationPatient"), 6)
    if directions is None:
        return True
    normal = np.abs(np.cross(directions[:3], directions[3:]))
    return bool(np.argmax(normal) == 2)


def _read_slice(folder: Path, path: str) -> Slice:
    with reading(folder, path, "DICOM image"):
        _refuse_deflated(folder / path)
        header = pydicom.dcmread(folder / path)
        if int(header.Rows) * int(header.Columns) > _LARGEST_SLICE:
            raise ValueError(f"{header.Rows} rows of {header.Columns} pixels")
        pixels = _pixels(folder / path, header)
        # The header would keep the packed pixels as well.
        del header.PixelData
    if pixels.ndim != 2:
        raise DataError(
            f"{path}: pixels of shape {pixels.shape}, expected one grey slice",
            "files with several frames or colours are left out",
        )
    return Slice(path, header, pixels)


def _pixels(path: Path, header: Dataset) -> Array:
    is_plain = (
        header.file_meta.get("TransferSyntaxUID") in _PLAIN
        and header.BitsAllocated == header.BitsStored == 16
        and header.get("SamplesPerPixel", 1) == 1
        and not header.get("NumberOfFrames")
    )
    if is_plain:
        # What pydicom's decoder does in this case, four times as fast.
        kind = "<i2" if header.PixelRepresentation else "<u2"
        shape = (header.Rows, header.Columns)
        return np.frombuffer(header.PixelData, kind, count=shape[0] * shape[1]).reshape(shape)
    try:
        return np.asarray(header.pixel_array)
    except (RuntimeError, NotImplementedError):
        # pydicom lacks a decoder for this compression; ITK's own reader has most of them.
        return _decoded_by_itk(path, header)


def _decoded_by_itk(path: Path, header: Dataset) -> Array:
    reader = sitk.ImageFileReader()
    # By its name: otherwise any format that the content resembles would be tried.
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    decoded = sitk.GetArrayFromImage(reader.Execute())[0].astype(np.float64)
    slope, intercept = _rescale(header)
    # ITK has applied the rescaling; the stored values are whole numbers.
    stored: Array = np.rint((decoded - intercept) / slope).astype(np.int32)
    return stored


def _rescale(header: Dataset) -> tuple[float, float]:
    return _number(header, "RescaleSlope") or 1.0, _number(header, "RescaleIntercept")


def _number(header: Dataset, tag: str) -> float:
    """A tag's number, 0 where it is missing or empty."""
    value = header.get(tag)
    return 0.0 if value in (None, "") else float(value)


def _stored(item: Slice) -> Array:
    return item.pixels


def _hounsfield(item: Slice) -> Array:
    slope, intercept = _rescale(item.header)
    if slope == 1.0 and intercept.is_integer():
        return item.pixels.astype(np.int32) + np.int32(intercept)
    return (item.pixels * slope + intercept).astype(np.float32)


def _numbers(value: Any, count: int) -> Array | None:
    if value is None or value == "" or isinstance(value, str) or not hasattr(value, "__len__"):
        return None
    numbers = np.array([float(v) for v in value])
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _spacing(slices: Sequence[Slice]) -> tuple[float, float, float]:
    first = slices[0].header
    stated = first.get("PixelSpacing")
    in_plane = _numbers(stated, 2)
    if stated and in_plane is None:
        raise DataError(f"{slices[0].path}: PixelSpacing is {stated}, expected two numbers")
    row, column = (1.0, 1.0) if in_plane is None else in_plane
    positions = [_numbers(s.header.get("ImagePositionPatient"), 3) for s in slices[:2]]
    step = 0.0
    if len(positions) == 2 and positions[0] is not None and positions[1] is not None:
        step = float(np.linalg.norm(positions[1] - positions[0]))
    if step <= 0.0:
        step = _number(first, "SliceThickness") or 1.0
    spacing = (float(column), float(row), step)
    if not all(0 < length < np.inf for length in spacing):
        raise DataError(
            f"{slices[0].path}: a spacing of {spacing} mm, expected numbers above 0",
            "leave the series out",
        )
    return spacing


def _by_position(slices: Sequence[Slice], place: str) -> tuple[list[Slice], Array]:
    """Slices sorted along their normal, and the affine (4, 4) in the RAS+ world of NIfTI."""
    directions = _numbers(slices[0].header.get("ImageOrientationPatient"), 6)
    corners = [_numbers(s.header.get("ImagePositionPatient"), 3) for s in slices]
    if directions is None or any(c is None for c in corners):
        raise DataError(
            f"{place}: ImagePositionPatient or ImageOrientationPatient is missing",
            "the slices cannot be put in order; leave the series out",
        )
    normal = np.cross(directions[:3], directions[3:])
    if not abs(float(np.linalg.norm(normal)) - 1.0) < _SKEW:
        raise DataError(
            f"{place}: ImageOrientationPatient {directions.tolist()} is not of two directions at "
            "right angles",
            "leave the series out",
        )
    stacked = np.array(corners, dtype=np.float64)
    depth = stacked @ normal
    order = np.argsort(depth, kind="stable")
    steps = np.diff(depth[order])
    usual = float(np.median(steps)) if len(steps) else 0.0
    if len(steps) and (usual <= 0 or steps.min() < _REPEAT * usual):
        raise DataError(f"{place}: several slices lie at the same place", "leave the series out")
    if len(steps) and steps.max() > _GAP * usual:
        raise DataError(
            f"{place}: a slice is missing (step of {steps.max():g} mm, usually {usual:g} mm)",
            "obtain the series again",
        )
    ordered = [slices[i] for i in order]
    column, row, thickness = _spacing(ordered)
    first, last, count = stacked[order[0]], stacked[order[-1]], len(ordered)
    step = (last - first) / (count - 1) if count > 1 else normal * thickness
    axes = np.column_stack([directions[:3] * column, directions[3:] * row, step])
    return ordered, affine_of_lps(axes, first)
