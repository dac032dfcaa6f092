"""Reading one DICOM file: the headers of its slices, and their pixels.

A file holds one slice, or, as enhanced CT and MR do, many frames with a place of their own. Each
frame is a slice here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import pixel_array
from pydicom.tag import Tag

from voxseq.base.errors import DataError, ResourceError
from voxseq.base.failures import read_named
from voxseq.data.readers.files import reading
from voxseq.data.volume import Array

T = TypeVar("T")
#: Tags that say what a file is, which series it belongs to and how its slices lie.
_TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "PatientID", "StudyInstanceUID"),
    *("SeriesInstanceUID", "StudyDate", "SeriesNumber", "SeriesDescription", "InstanceNumber"),
    *("AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers", "ConvolutionKernel"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("NumberOfFrames", "BitsAllocated", "BitsStored", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
#: Classes of objects that hold slices, with the modality of each.
CLASSES: Mapping[str, str] = {
    uid.CTImageStorage: "CT",
    uid.EnhancedCTImageStorage: "CT",
    uid.LegacyConvertedEnhancedCTImageStorage: "CT",
    uid.MRImageStorage: "MR",
    uid.EnhancedMRImageStorage: "MR",
    uid.LegacyConvertedEnhancedMRImageStorage: "MR",
}
#: Words of ImageType for pictures of a screen.
_CAPTURES = {"SCREEN SAVE", "SCREENSAVE", "SCREEN CAPTURE"}
#: Transfer syntaxes whose pixels are plain little-endian numbers.
_PLAIN = frozenset({uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian})
#: Preamble and magic of a DICOM file.
_MAGIC_AT, _MAGIC = 128, b"DICM"
#: Bytes in which the transfer syntax stands, and the one of files that are packed as a whole.
_META, _DEFLATED = 2048, b"1.2.840.10008.1.2.1.99"
#: More pixels than any slice of a CT or MRI has, and more frames than any file.
_LARGEST_SLICE, _MOST_FRAMES = 1 << 26, 1 << 16


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What a file states about one slice; texts are "" where it states nothing.

    Attributes:
        path: of the file, relative to the data set's folder.
        frame: number of the slice in its file, from 0.
        frames: slices in the file.
        fault: the first tag that is needed and cannot be understood.
        kind: class of the object (SOP class).
        passes: what tells passes through one place apart: echo, time, b-value, acquisition, kernel.
        stack: of the frame, where a file holds several stacks.
        size: rows and columns; 0 where they are missing.
        position: (3,) centre of the first pixel, mm in LPS+.
        orientation: (6,) directions along a row and along a column.
        spacing: (2,) mm between rows and between columns.
        thickness: mm, of the slice; 0 where it is missing.
        step: mm between the slices that the series had; 0 where it is missing.
        rescale: slope and intercept.
        padding: lowest and highest stored value of pixels outside the field of view.
        bits: that a stored value has.
    """

    path: str
    frame: int
    frames: int
    fault: str
    kind: str
    image_type: tuple[str, ...]
    modality: str
    patient: str
    study: str
    series: str
    date: str
    number: str
    description: str
    instance: int | None
    passes: tuple[tuple[str, str], ...]
    stack: str
    size: tuple[int, int]
    photometric: str
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float
    step: float
    rescale: tuple[float, float]
    padding: tuple[int, int] | None
    bits: int

    @property
    def is_colour(self) -> bool:
        """Whether its pixels are colours, or numbers of colours."""
        return self.photometric not in ("", "MONOCHROME1", "MONOCHROME2")


def dicom_names(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of the files in ``folder`` that are DICOM by name (.dcm) or by their magic."""

    def has_magic(path: Path) -> bool:
        try:
            with read_named(path), path.open("rb") as file:
                return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
        except OSError:
            return False

    return [n for n in names if n.lower().endswith(".dcm") or has_magic(folder / n)]


def read_headers(folder: Path, path: str) -> list[SliceHeader]:
    """The headers of the slices in a file: one, or one per frame of an enhanced image.

    Raises:
        DataError: the file is no DICOM file, or cut short in its header.
    """
    with _opened(folder, path):
        header = pydicom.dcmread(folder / path, stop_before_pixels=True, specific_tags=[*_TAGS])
        frames = header.get("PerFrameFunctionalGroupsSequence") or ()
        if len(frames) > _MOST_FRAMES:
            raise ValueError(f"{len(frames)} frames")
        if not frames:
            only = _header(path, [header, header.file_meta], 0, 1)
            if not (only.kind or only.modality or all(only.size)):
                raise ValueError("it states neither class nor modality nor size")
            return [only]
        shared = _flat(header.get("SharedFunctionalGroupsSequence") or ())
        layers = [*shared, header, header.file_meta]
        return [
            _header(path, [*_flat([frame]), *layers], number, len(frames))
            for number, frame in enumerate(frames)
        ]


@contextmanager
def _opened(folder: Path, path: str) -> Iterator[None]:
    """Word errors of a file that was listed; one that has gone since is the machine's.

    Raises:
        DataError: it is damaged, or a link that leads nowhere.
        ResourceError: the machine failed, or the file has gone.
    """
    try:
        with reading(folder, path, "DICOM image"):
            _refuse_deflated(folder / path)
            yield
    except DataError:
        if not os.path.lexists(folder / path):
            raise ResourceError(
                f"{path}: the file was there a moment ago and is gone",
                "find out what moves or removes files there, then start again",
            ) from None
        raise


def _refuse_deflated(path: Path) -> None:
    """Refuse a file that is packed as a whole, which pydicom unpacks whatever its size."""
    with path.open("rb") as file:
        if _DEFLATED in file.read(_META):
            raise ValueError("the deflated transfer syntax is not supported")


def _flat(groups: Iterable[Dataset]) -> list[Dataset]:
    """The first item of every sequence in functional groups."""
    return [element.value[0] for group in groups for element in group if element.value]


@lru_cache(maxsize=1 << 14)
def _shared(value: T) -> T:
    """One object for equal values: the slices of a series have most of them in common."""
    return value


#: Number of a tag, which pydicom would look up each time.
_number_of = lru_cache(maxsize=None)(Tag)


class _Tags:
    """Tags of a slice; those of its frame go before those of the whole file."""

    def __init__(self, layers: Sequence[Dataset]) -> None:
        self.layers, self.fault = layers, ""

    def _raw(self, tag: str) -> Any:
        number = _number_of(tag)
        for layer in self.layers:
            if number in layer:
                return layer[number].value
        return None

    def _as(self, convert: Callable[[Any], T], tag: str, expected: str = "") -> T | None:
        """A converted value; None where it is missing, or is not of its type.

        Where something is ``expected``, a value of another type is a fault.
        """
        try:
            # pydicom looks into a value only when it is asked for, and raises what it runs into.
            value = self._raw(tag)
            return None if value is None or value in ("", []) else _shared(convert(value))
        except Exception as error:
            if expected and not self.fault:
                said = " ".join(str(error).split())[:100]
                self.fault = f"{tag} is not of {expected} ({said})"
            return None

    def text(self, tag: str) -> str:
        return self._as(lambda value: str(value).strip(), tag) or ""

    def texts(self, tag: str) -> tuple[str, ...]:
        return self._as(lambda value: tuple(str(v).strip() for v in _items(value)), tag) or ()

    def whole(self, tag: str, *, needed: bool = False) -> int | None:
        return self._as(int, tag, "one whole number" if needed else "")

    def numbers(self, tag: str, count: int, *, needed: bool = True) -> tuple[float, ...] | None:
        def convert(value: Any) -> tuple[float, ...]:
            numbers = tuple(float(v) for v in _items(value))
            if len(numbers) != count or not all(math.isfinite(n) for n in numbers):
                raise ValueError(f"found {numbers}")
            return numbers

        return self._as(convert, tag, f"{count} finite numbers" if needed else "")

    def number(self, tag: str, *, needed: bool = False) -> float:
        return (self.numbers(tag, 1, needed=needed) or (0.0,))[0]


def _items(value: Any) -> Iterable[Any]:
    return value if isinstance(value, MultiValue | list | tuple) else [value]


def _header(path: str, layers: Sequence[Dataset], frame: int, frames: int) -> SliceHeader:
    tags = _Tags(layers)
    rows, columns = (tags.whole(tag, needed=True) or 0 for tag in ("Rows", "Columns"))
    stored = tags.whole("NumberOfFrames", needed=True) or 1
    low, high = tags.whole("PixelPaddingValue"), tags.whole("PixelPaddingRangeLimit")
    values = {
        "kind": tags.text("SOPClassUID") or tags.text("MediaStorageSOPClassUID"),
        "image_type": tags.texts("FrameType") or tags.texts("ImageType"),
        "modality": tags.text("Modality"),
        "patient": tags.text("PatientID"),
        "study": tags.text("StudyInstanceUID"),
        "series": tags.text("SeriesInstanceUID"),
        "date": tags.text("StudyDate"),
        "number": tags.text("SeriesNumber"),
        "description": tags.text("SeriesDescription"),
        "instance": frame + 1 if frames > 1 else tags.whole("InstanceNumber"),
        "passes": _shared(
            (
                ("echo", tags.text("EffectiveEchoTime") or tags.text("EchoNumbers")),
                ("time", tags.text("TemporalPositionIndex")
                 or tags.text("TemporalPositionIdentifier")),
                ("b", tags.text("DiffusionBValue")),
                ("acquisition", tags.text("FrameAcquisitionNumber")
                 or tags.text("AcquisitionNumber")),
                ("kernel", " ".join(tags.texts("ConvolutionKernel"))),
            )
        ),
        "stack": tags.text("StackID"),
        "size": _shared((rows, columns)),
        "photometric": tags.text("PhotometricInterpretation"),
        "position": tags.numbers("ImagePositionPatient", 3),
        "orientation": tags.numbers("ImageOrientationPatient", 6),
        "spacing": tags.numbers("PixelSpacing", 2),
        "thickness": tags.number("SliceThickness"),
        "step": tags.number("SpacingBetweenSlices"),
        "rescale": _shared(
            (
                tags.number("RescaleSlope", needed=True) or 1.0,
                tags.number("RescaleIntercept", needed=True),
            )
        ),
        "padding": None if low is None else _shared((low, low if high is None else high)),
        "bits": tags.whole("BitsStored") or 16,
    }  # fmt: skip
    fault = tags.fault
    if not rows or not columns or rows * columns > _LARGEST_SLICE:
        fault = fault or f"{rows} rows of {columns} pixels"
    if stored != frames:
        fault = fault or (
            f"{stored} frames and {frames if frames > 1 else 'no'} places for them; only enhanced "
            "images with a place for every frame are read"
        )
    return SliceHeader(path=path, frame=frame, frames=frames, fault=fault, **values)


def left_out(header: SliceHeader, modalities: Collection[str]) -> str:
    """Why a file holds no slice of an image of these modalities; "" where it holds one.

    Reports, structures, plans, DICOMDIR, secondary captures, localizers, other modalities. Files
    that claim to be slices and cannot be used are slices: their series is set aside with the fault.
    """
    name, expected = uid.UID(header.kind).name, " or ".join(sorted(modalities))
    if header.kind not in CLASSES and (reason := _other_object(header, name, expected)):
        return reason
    of_class = CLASSES.get(header.kind, "")
    wrong = {found for found in (header.modality, of_class) if found and found not in modalities}
    if wrong:
        return f"of modality {' and '.join(sorted(wrong))}, expected {expected}"
    words = {word.upper() for word in header.image_type}
    stated = "ImageType " + "\\".join(header.image_type)
    if "LOCALIZER" in words:
        return f"a localizer ({stated})"
    return f"a capture, no slice ({stated})" if words & _CAPTURES else ""


def _other_object(header: SliceHeader, name: str, expected: str) -> str:
    """What an object is whose class is none of CT or MR; "" where a class of its own may be."""
    if header.kind == uid.MediaStorageDirectoryStorage:
        return "a DICOMDIR, which lists files"
    if "Secondary Capture" in name:
        return f"a capture, no slice ({name})"
    modality = f"modality {header.modality or 'unknown'}"
    if not all(header.size):
        return f"no image ({name or 'of no class'}, {modality})"
    return f"no {expected} ({name}, {modality})" if header.kind and name != header.kind else ""


def read_slices(
    folder: Path, headers: Sequence[SliceHeader]
) -> Iterator[tuple[SliceHeader, Array]]:
    """Yield each slice with its stored values (rows, columns); see :func:`read_headers`.

    A file is read once where its slices follow each other.
    """
    path, dataset = "", Dataset()
    for header in headers:
        with _opened(folder, header.path):
            if header.path != path:
                path, dataset = header.path, pydicom.dcmread(folder / header.path)
            pixels = _pixels(folder / path, dataset, header)
            if pixels.shape != header.size:
                raise ValueError(f"pixels of shape {pixels.shape}, expected {header.size}")
        yield header, pixels


def _pixels(path: Path, dataset: Dataset, header: SliceHeader) -> Array:
    is_plain = (
        dataset.file_meta.get("TransferSyntaxUID") in _PLAIN
        and dataset.BitsAllocated == dataset.BitsStored == 16
        and dataset.get("SamplesPerPixel", 1) == 1
    )
    if is_plain:
        # What pydicom's decoder does in this case, four times as fast.
        kind = "<i2" if dataset.PixelRepresentation else "<u2"
        count = math.prod(header.size)
        place = header.frame * count * np.dtype(kind).itemsize
        return np.frombuffer(dataset.PixelData, kind, count, place).reshape(header.size)
    try:
        index = header.frame if header.frames > 1 else None
        return np.asarray(pixel_array(dataset, index=index))
    except (RuntimeError, NotImplementedError):
        # pydicom lacks a decoder for this compression; ITK's own reader has most of them.
        return decoded_by_itk(path, header)


def decoded_by_itk(path: Path, header: SliceHeader) -> Array:
    """Stored values (rows, columns) of one slice, decoded by ITK."""
    reader = sitk.ImageFileReader()
    # By its name: otherwise any format that the content resembles would be tried.
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    decoded = sitk.GetArrayFromImage(reader.Execute())[header.frame].astype(np.float64)
    slope, intercept = header.rescale
    # ITK has applied the rescaling; the stored values are whole numbers.
    stored: Array = np.rint((decoded - intercept) / slope).astype(np.int32)
    return stored
