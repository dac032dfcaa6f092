"""MetaImage files (.mha), as STOIC publishes them. Options: ``patterns``, as for NIfTI trees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from voxseq.data.adapters import nifti_tree
from voxseq.data.adapters.files import unreadable
from voxseq.data.catalogue import DataSet
from voxseq.data.types import Array, Entry, Scan, Volume
from voxseq.errors import DataError

#: ITK's world is LPS+, that of NIfTI is RAS+.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the files whose path fits a pattern; see :class:`Scan`."""
    return nifti_tree.scan(folder, dataset)


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read one file; ITK's (z, y, x) becomes (x, y, z)."""
    try:
        image = sitk.ReadImage(str(folder / entry.path))
    except RuntimeError as error:
        raise unreadable(folder, entry.path, "MetaImage", error) from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(
            f"{entry.path}: {image.GetDimension()} axes and "
            f"{image.GetNumberOfComponentsPerPixel()} values a voxel, expected 3 and 1"
        )
    array = np.ascontiguousarray(sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    return Volume(array, affine_of(image))


def read_label(folder: Path, entry: Entry) -> Volume | None:
    """These data sets come without segmentations."""
    return None


def affine_of(image: sitk.Image) -> Array:
    """Affine (4, 4) of an ITK image in the RAS+ world of NIfTI."""
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = directions * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return _LPS_TO_RAS @ affine
