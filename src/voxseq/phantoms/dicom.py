"""CT series as DICOM files with deterministic identifiers and dates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from voxseq.base.failures import write_named
from voxseq.phantoms.shapes import Field, Spacing

#: Class identifier of the writer, below pydicom's public root for examples.
_WRITER_UID = "1.2.826.0.1.3680043.10.474.1.1"


@dataclass(frozen=True)
class Series:
    """What identifies a series and how its values are stored.

    Attributes:
        patient: PatientID.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID; instances append their number.
        date: StudyDate, yyyymmdd.
        number: SeriesNumber.
        description: SeriesDescription, may be empty.
        intercept: RescaleIntercept; the slope is 1 and stored values are HU − intercept.
        signed: whether stored values are signed.
    """

    patient: str
    study_uid: str
    series_uid: str
    date: str
    number: int
    description: str = ""
    intercept: int = -1024
    signed: bool = False


def make_uid(rng: np.random.Generator, root: str, digits: int = 20) -> str:
    """A unique identifier below ``root``, drawn from ``rng``."""
    number = [str(int(rng.integers(1, 10)))]
    number += [str(int(d)) for d in rng.integers(0, 10, digits - 1)]
    return f"{root}.{''.join(number)}"


def write_series(
    folder: Path,
    series: Series,
    image: Field,
    spacing: Spacing,
    file_name: Callable[[int], str],
) -> None:
    """Write an axial series, instance 1 at the head.

    Args:
        folder: gets one file for each slice.
        series: identifiers.
        image: (X, Y, Z) HU in RAS+ order.
        spacing: mm of a voxel.
        file_name: instance number → file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = image[::-1, ::-1, ::-1] - series.intercept
    kind = "<i2" if series.signed else "<u2"
    pixels = np.ascontiguousarray(stored.transpose(2, 1, 0)).round().astype(kind)
    top = spacing[2] * (image.shape[2] - 1)
    corner = [-(n - 1) / 2 * s for n, s in zip(image.shape[:2], spacing[:2], strict=True)]
    header = _header(series, pixels, spacing)
    common, meta = _encode(header), _encode(header.file_meta)
    for index in range(len(pixels)):
        height = top - index * spacing[2]
        uid = f"{series.series_uid}.{index + 1}"
        single = Dataset()
        single.SOPInstanceUID = uid
        single.InstanceNumber = index + 1
        single.ImagePositionPatient = [round(v, 4) for v in (*corner, height)]
        single.SliceLocation = round(height, 4)
        single.add_new("PixelData", "OW", pixels[index].tobytes())
        of_meta = Dataset()
        of_meta.MediaStorageSOPInstanceUID = uid
        content = _join(meta | _encode(of_meta), group_length=True)
        content += _join(common | _encode(single))
        path = folder / file_name(index + 1)
        with write_named(path):
            path.write_bytes(bytes(128) + b"DICM" + content)


def _encode(dataset: Dataset) -> dict[int, bytes]:
    """Each element as bytes by its tag. Most elements are the same in all slices of a series and
    encoding them is what takes the time, so it is done once."""
    encoded = {}
    for element in dataset:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element)
        encoded[int(element.tag)] = buffer.getvalue()
    return encoded


def _join(elements: dict[int, bytes], group_length: bool = False) -> bytes:
    body = b"".join(elements[tag] for tag in sorted(elements))
    if not group_length:
        return body
    length = Dataset()
    length.FileMetaInformationGroupLength = len(body)
    return _join(_encode(length)) + body


def _header(series: Series, pixels: NDArray[np.integer], spacing: Spacing) -> Dataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _WRITER_UID
    meta.ImplementationVersionName = "VOXSEQ_PHANTOM"
    header = Dataset()
    header.file_meta = meta
    header.SOPClassUID = CTImageStorage
    header.Modality = "CT"
    header.PatientID = header.PatientName = series.patient
    header.StudyInstanceUID = series.study_uid
    header.SeriesInstanceUID = series.series_uid
    header.StudyDate = header.SeriesDate = series.date
    header.SeriesNumber = series.number
    header.SeriesDescription = series.description
    header.FrameOfReferenceUID = f"{series.study_uid}.1"
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.PixelSpacing = [round(spacing[1], 4), round(spacing[0], 4)]
    header.SliceThickness = round(spacing[2], 4)
    header.Rows, header.Columns = pixels.shape[1:]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit = 15
    header.PixelRepresentation = int(series.signed)
    header.RescaleIntercept = series.intercept
    header.RescaleSlope = 1
    header.RescaleType = "HU"
    return header
