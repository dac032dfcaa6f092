"""Writing arrays on the grid of an input, with what its header says."""

from __future__ import annotations

import gzip
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813

from voxseq.base.files import atomic_path
from voxseq.base.paths import NIFTI
from voxseq.data.readers.nifti import read_header
from voxseq.data.volume import Array, Volume

#: Endings of the files that are written.
Format = Literal[".nii.gz", ".nii", ".mha", ".nrrd"]
FORMATS: tuple[Format, ...] = Format.__args__  # type: ignore[attr-defined]
_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Place:
    """The grid of an input.

    Attributes:
        affine: (4, 4) voxel indices to mm in RAS+.
        oriented: whether the file states an orientation.
        path: of the file, whose header is kept where it has the format that is written; None of an
            image that comes from no single file.
    """

    affine: Array
    oriented: bool
    path: Path | None = None

    @classmethod
    def of(cls, volume: Volume, path: Path | None = None) -> Place:
        """That of a volume."""
        return cls(volume.affine, volume.oriented, path)


def write_volume(path: Path, array: Array, place: Place) -> None:
    """Write an array (X, Y, Z) on a grid; the same array gives the same bytes.

    A NIfTI file of a NIfTI input keeps its header: both forms with their codes, units and
    description; a MetaImage or NRRD file of such an input its origin, spacing and directions.

    Args:
        path: ends in one of :data:`FORMATS`.
        array: in the order and direction of the input.
        place: the grid.
    """
    with atomic_path(path) as temporary:
        if path.name.endswith(NIFTI):
            content = _nifti(array, place)
            is_packed = path.name.endswith(".gz")
            temporary.write_bytes(gzip.compress(content, mtime=0) if is_packed else content)
        else:
            _write_by_itk(temporary, path.suffix, array, place)


def _nifti(array: Array, place: Place) -> bytes:
    source = place.path
    if source is None or not source.name.lower().endswith(NIFTI):
        image = nibabel.Nifti1Image(array, place.affine)
        # No orientation is stated where none is known.
        image.set_sform(place.affine, code=1 if place.oriented else 0)
        image.set_qform(None, code=0)
        return bytes(image.to_bytes())
    header = read_header(source)
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    # Windows and scales are of the image's values.
    header["cal_min"] = header["cal_max"] = 0
    header.set_slope_inter(1, 0)
    is_second = isinstance(header, nibabel.Nifti2Header)
    kind: Any = nibabel.Nifti2Image if is_second else nibabel.Nifti1Image
    return bytes(kind(array, header.get_best_affine(), header).to_bytes())


def _write_by_itk(temporary: Path, ending: str, array: Array, place: Place) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    source = place.path
    if source is not None and not source.name.lower().endswith(NIFTI):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(source))
        reader.ReadImageInformation()
        image.SetOrigin(reader.GetOrigin())
        image.SetSpacing(reader.GetSpacing())
        image.SetDirection(reader.GetDirection())
    else:
        axes = _LPS @ place.affine[:3, :3]
        spacing = np.sqrt((axes**2).sum(axis=0))
        image.SetOrigin((_LPS @ place.affine[:3, 3]).tolist())
        image.SetSpacing(spacing.tolist())
        image.SetDirection((axes / spacing).ravel().tolist())
    # ITK tells the format by the ending, which a temporary name does not have.
    with tempfile.TemporaryDirectory(dir=temporary.parent, prefix=".") as folder:
        written = Path(folder) / f"x{ending}"
        sitk.WriteImage(image, str(written), useCompression=True)
        written.replace(temporary)
