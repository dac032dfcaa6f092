"""Image files with the same bytes for the same content: no time stamps, no file names inside.

CT series in DICOM have deterministic identifiers and dates.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec

import h5py
import nibabel
import numpy as np
import SimpleITK
from nibabel import orientations as axes
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from voxseq.base.failures import write_named
from voxseq.phantoms.shapes import Field, Rng, Spacing

Array = NDArray[Any]
P = ParamSpec("P")
#: Class identifier of the writer, below pydicom's public root for examples.
_WRITER_UID = "1.2.826.0.1.3680043.10.474.1.1"


def _writer(write: Callable[Concatenate[Path, P], None]) -> Callable[Concatenate[Path, P], None]:
    """A writer that makes the file's folder, and whose failures name the file."""

    @wraps(write)
    def named(path: Path, /, *args: P.args, **kwargs: P.kwargs) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_named(path):
            write(path, *args, **kwargs)

    return named


@_writer
def write_nifti(path: Path, array: Array, spacing: Spacing, orientation: str = "RAS") -> None:
    """Write a .nii.gz whose voxels are stored in ``orientation``.

    Args:
        path: the new file.
        array: (X, Y, Z) in RAS+ order; its dtype is kept. The first voxel is at the origin.
        spacing: mm of a voxel along x, y and z.
        orientation: axis codes of the stored array, such as "LPS".
    """
    change = axes.ornt_transform(axes.axcodes2ornt("RAS"), axes.axcodes2ornt(orientation))
    stored = np.ascontiguousarray(axes.apply_orientation(array, change))
    affine = np.diag([*spacing, 1.0]) @ axes.inv_ornt_aff(change, array.shape)
    image = nibabel.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=raw, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())


@_writer
def write_mha(path: Path, array: Array, spacing: Spacing) -> None:
    """Write a compressed MetaImage; ``array`` (X, Y, Z) in RAS+ order is stored as LPS+."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array[::-1, ::-1].T))
    image.SetSpacing([float(s) for s in spacing])
    SimpleITK.WriteImage(image, str(path), useCompression=True)


@_writer
def write_png16(path: Path, slice_hu: Array) -> None:
    """Write one slice (X, Y) in RAS+ order as a 16-bit PNG of HU + 32768: rows run to the back,
    columns to the patient's left."""
    pixels = np.round(slice_hu[::-1, ::-1].T + 32768).clip(0, 65535).astype(np.uint16)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG", compress_level=4)


@_writer
def write_h5(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as gzip-compressed data sets of an h5 file."""
    with h5py.File(path, "w", track_order=False) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip", track_times=False)


@_writer
def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a compressed npz."""
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@_writer
def write_text(path: Path, text: str) -> None:
    """Write text with Unix line ends."""
    path.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, keys in the given order."""
    write_text(path, json.dumps(value, indent=1) + "\n")


@_writer
def write_table(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ","
) -> None:
    """Write a delimited table; cells that hold the delimiter are quoted."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


@_writer
def write_apple_double(path: Path) -> None:
    """Write the ``._`` companion that macOS leaves in archives: not an image."""
    path.write_bytes(bytes.fromhex("00051607000200004d6163204f5320582020202020202020") + bytes(96))


class Series(NamedTuple):
    """Identity of a series and storage of its values."""

    patient: str
    study_uid: str
    series_uid: str  #: instances append their number
    date: str  #: yyyymmdd
    number: int
    description: str = ""
    intercept: int = -1024  #: the slope is 1 and stored values are HU − intercept
    signed: bool = False  #: whether stored values are signed


def make_uid(rng: Rng, root: str, digits: int = 20) -> str:
    """A unique identifier below ``root``, drawn from ``rng``."""
    number = [str(int(rng.integers(1, 10)))]
    number += [str(int(d)) for d in rng.integers(0, 10, digits - 1)]
    return f"{root}.{''.join(number)}"


def write_series(
    folder: Path, series: Series, image: Field, spacing: Spacing, names: Sequence[str]
) -> None:
    """Write an axial series, instance 1 at the head.

    Args:
        folder: gets one file for each slice.
        series: identifiers.
        image: (X, Y, Z) HU in RAS+ order.
        spacing: mm of a voxel.
        names: of the files, from the head down.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = image[::-1, ::-1, ::-1] - series.intercept
    kind = "<i2" if series.signed else "<u2"
    pixels = np.ascontiguousarray(stored.transpose(2, 1, 0)).round().astype(kind)
    top = spacing[2] * (len(pixels) - 1)
    corner = [-(n - 1) / 2 * s for n, s in zip(image.shape[:2], spacing[:2], strict=True)]
    header = _header(series, pixels, spacing)
    for index, (plane, name) in enumerate(zip(pixels, names, strict=True)):
        height = top - index * spacing[2]
        uid = f"{series.series_uid}.{index + 1}"
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = uid
        header.InstanceNumber = index + 1
        header.ImagePositionPatient = [round(v, 4) for v in (*corner, height)]
        header.SliceLocation = round(height, 4)
        header.add_new("PixelData", "OW", plane.tobytes())
        with write_named(folder / name):
            header.save_as(folder / name, enforce_file_format=True)


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
