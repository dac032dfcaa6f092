"""DICOM series that are wrong in one way each."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset

from tests.helpers.bad_nifti import BOMB, SHAPE, Case, Maker, packed_zeros, trees


def series(edit: Callable[[list[Dataset]], object]) -> Maker:
    """A DICOM series of seven slices whose headers were edited."""

    def make(folder: Path) -> None:
        trees.dicom_series(folder, np.abs(trees.image(SHAPE, 3)))
        paths = sorted(folder.iterdir())
        headers = [pydicom.dcmread(path) for path in paths]
        edit(headers)
        for path, header in zip(paths, headers, strict=True):
            header.save_as(path)

    return make


def each(folder: Path, change: Callable[[Dataset, int], object]) -> None:
    """Change the slices of a written series, by their number in order of the names."""
    for number, path in enumerate(sorted(folder.iterdir())):
        header = pydicom.dcmread(path)
        change(header, number)
        header.save_as(path)


def other_object(path: Path, kind: str, **tags: Any) -> None:
    """An object of another class beside or instead of slices; without pixels unless tagged."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = kind
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.2.9.1"
    header.PatientID, header.StudyInstanceUID = "patient", "1.2"
    header.SeriesInstanceUID = "1.2.9"
    for tag, value in tags.items():
        setattr(header, tag, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)


def enhanced(path: Path, array: Any, kind: str, frame: Callable[[Dataset, int], object]) -> None:
    """Write (columns, rows, frames) as one enhanced CT or MR; ``frame`` changes a frame's groups.

    Frames are 2.5 mm apart, upwards; pixels 0.75 mm along rows and 0.5 mm along columns.
    """
    trees.dicom_series(path.parent / "one", array[:, :, :1])
    one = path.parent / "one/IM000.dcm"
    header = pydicom.dcmread(one)
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(header, tag)
    del header.RescaleSlope, header.RescaleIntercept
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = kind
    header.Modality = "CT" if "CT" in pydicom.uid.UID(kind).name else "MR"
    header.NumberOfFrames = array.shape[2]
    shared = Dataset()
    _group(shared, "PixelMeasuresSequence", PixelSpacing=[0.5, 0.75], SliceThickness=2.5)
    _group(shared, "PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    header.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number in range(array.shape[2]):
        group = Dataset()
        place = [10, 20, 100 + 2.5 * number]
        _group(group, "PlanePositionSequence", ImagePositionPatient=place)
        _group(group, "FrameContentSequence", StackID="1", InStackPositionNumber=number + 1)
        values = {"RescaleIntercept": -1024, "RescaleSlope": 1 + number % 2, "RescaleType": "HU"}
        _group(group, "PixelValueTransformationSequence", **values)
        frame(group, number)
        frames.append(group)
    header.PerFrameFunctionalGroupsSequence = frames
    stored = np.ascontiguousarray(array.transpose(2, 1, 0)).astype("<u2")
    header.PixelData = stored.tobytes()
    header.save_as(path, enforce_file_format=True)
    one.unlink()
    one.parent.rmdir()


def _group(groups: Dataset, name: str, **tags: Any) -> None:
    item = Dataset()
    for tag, value in tags.items():
        setattr(item, tag, value)
    setattr(groups, name, [item])


def tagged(**tags: Any) -> Maker:
    """A series in which every slice has these tags; None removes one."""

    def edit(headers: list[Dataset]) -> None:
        for header in headers:
            for tag, value in tags.items():
                if value is None:
                    delattr(header, tag)
                else:
                    setattr(header, tag, value)

    return series(edit)


def raw(tag: str, value: bytes) -> Maker:
    """A series with the bytes of a decimal tag as given, which pydicom would refuse to write."""

    def make(folder: Path) -> None:
        stand_in = re.sub(rb"[^\\]", b"1", value).decode()
        tagged(**{tag: stand_in.split("\\") if "\\" in stand_in else stand_in})(folder)
        number = pydicom.tag.Tag(tag)
        start = struct.pack(
            "<HH2sH", number.group, number.element, b"DS", len(value) + len(value) % 2
        )
        for path in folder.iterdir():
            content = path.read_bytes()
            assert content.count(start + stand_in.encode()) == 1
            path.write_bytes(content.replace(start + stand_in.encode(), start + value))

    return make


def files(change: Callable[[bytes], bytes]) -> Maker:
    """A series whose files were changed byte-wise."""

    def make(folder: Path) -> None:
        trees.dicom_series(folder, np.abs(trees.image(SHAPE, 3)))
        for path in folder.iterdir():
            path.write_bytes(change(path.read_bytes()))

    return make


def deflated_bomb(folder: Path) -> None:
    """A file of the deflated transfer syntax that unpacks to gigabytes."""
    trees.dicom_series(folder, np.abs(trees.image((9, 8, 1), 3)))
    path = next(folder.iterdir())
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    header.save_as(path)
    content = path.read_bytes()
    group = struct.pack("<HH2sH", 2, 0, b"UL", 4)
    place = content.index(group) + len(group)
    start = place + 4 + struct.unpack("<I", content[place : place + 4])[0]
    path.write_bytes(content[:start] + packed_zeros(BOMB, -15))


#: Series of a DICOM data set.
SERIES: Mapping[str, Case] = {
    "no number of rows": tagged(Rows=None),
    "no pixels": tagged(PixelData=None),
    "no rows": tagged(Rows=0),
    "no columns": tagged(Columns=0),
    "65535 rows": tagged(Rows=65535, Columns=65535),
    "7 bits": tagged(BitsAllocated=7, BitsStored=7),
    "64 bits": tagged(BitsAllocated=64, BitsStored=64),
    "too few pixels": tagged(PixelData=b"\1\2" * 10),
    "colours": tagged(SamplesPerPixel=3, PhotometricInterpretation="RGB"),
    "several frames": tagged(NumberOfFrames=4, Rows=2),
    "a spacing of words": raw("PixelSpacing", b"one\\two"),
    "a negative spacing": (tagged(PixelSpacing=[-1, 1]), "spacing"),
    "a spacing of zero": (tagged(PixelSpacing=[0, 1]), "spacing"),
    "an infinite spacing": raw("PixelSpacing", b"inf\\1"),
    "positions of words": raw("ImagePositionPatient", b"a\\b\\c"),
    "no positions": (tagged(ImagePositionPatient=None), "ImagePositionPatient"),
    "positions of no number": raw("ImagePositionPatient", b"nan\\0\\0"),
    "one position for all": (tagged(ImagePositionPatient=[0, 0, 0]), "same place"),
    "no orientation": (tagged(ImageOrientationPatient=None), "ImageOrientationPatient"),
    "an orientation of zeros": tagged(ImageOrientationPatient=[0] * 6),
    "an orientation along a line": tagged(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
    "a slope of words": raw("RescaleSlope", b"steep"),
    "a slope of no number": raw("RescaleSlope", b"nan"),
    "an infinite intercept": raw("RescaleIntercept", b"inf"),
    "an intercept beyond 32 bits": tagged(RescaleIntercept=1e12),
    "a compression that is none": files(
        lambda c: c.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1)
    ),
    "an unknown transfer syntax": series(
        lambda headers: [setattr(h.file_meta, "TransferSyntaxUID", "1.2.3") for h in headers]
    ),
    "files cut in the header": files(lambda content: content[:250]),
    "files cut in the pixels": files(lambda content: content[:-60]),
    "files of zeros": files(lambda content: bytes(len(content))),
    "a magic and rubbish": files(lambda c: c[:132] + bytes(range(256)) * 4),
    "lengths beyond the file": files(
        lambda c: c.replace(b"LO\x08\x00patient", b"LO\xff\xffpatient", 1)
    ),
    "a deflated bomb": (deflated_bomb, "deflated"),
}
