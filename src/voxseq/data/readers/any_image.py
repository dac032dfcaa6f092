"""Reading an image of whatever format: by the ending of its name, or a series of DICOM slices."""

from __future__ import annotations

from pathlib import Path

from voxseq.base.errors import DataError
from voxseq.base.paths import IMAGES, NIFTI, ending_of
from voxseq.data.readers import nifti
from voxseq.data.volume import Entry, Volume

#: Endings of the files that are read.
ENDINGS = (*NIFTI, ".mha", ".nrrd")


def read(folder: Path, path: str) -> Volume:
    """Read ``folder / path``: NIfTI, MetaImage or NRRD.

    Raises:
        DataError: damaged, or of another format.
    """
    ending = ending_of(path, IMAGES).lower()
    if ending in NIFTI:
        return nifti.read(folder, path)
    if ending not in ENDINGS:
        raise DataError(
            f"{path}: this format cannot be read; expected {', '.join(ENDINGS)}",
            "convert it, such as by SimpleITK.WriteImage, or leave it out",
        )
    from voxseq.data.readers import itk

    return itk.read(folder, path)


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read one image (X, Y, Z); of several channels the first."""
    if not entry.files:
        return read(folder, entry.path)
    from voxseq.data.readers.dicom_volume import read_volume

    return read_volume(folder, entry)


def read_label(folder: Path, entry: Entry) -> Volume | None:
    """Read its segmentation on the same grid; None where it has none."""
    return read(folder, entry.label_path) if entry.label_path else None
