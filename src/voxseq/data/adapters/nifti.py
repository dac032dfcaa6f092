"""Reading one NIfTI file."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np

from voxseq.data.adapters.files import unreadable
from voxseq.data.types import Array, Volume
from voxseq.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"


def read(folder: Path, path: str) -> Volume:
    """Read ``folder / path``, values scaled as the header says.

    A compressed file is unpacked to its end, so that its checksum is verified: readers that stop
    after the last voxel miss damage.

    Raises:
        DataError: unreadable, not three-dimensional, or not of real numbers.
    """
    try:
        content = (folder / path).read_bytes()
        if content[:2] == _GZIP_MAGIC:
            content = gzip.decompress(content)
        image = _parse(content)
        array = np.asanyarray(image.dataobj)
        affine = np.asarray(image.affine, dtype=np.float64)
        oriented = _states_orientation(image)
    except Exception as error:
        # Readers of damaged files raise whatever their inner steps raise.
        raise unreadable(folder, path, "NIfTI", error) from None
    if 0 in image.shape:
        raise DataError(f"{path}: no voxels, shape {image.shape}")
    return Volume(_three_axes(array, path), affine, oriented)


def _parse(content: bytes) -> nibabel.Nifti1Image:
    kind = nibabel.Nifti2Image if content[:4] in _NIFTI2_SIZES else nibabel.Nifti1Image
    return kind.from_bytes(content)


#: The first four bytes of NIfTI-2: its header size, 540, in both byte orders.
_NIFTI2_SIZES = (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")


def _states_orientation(image: nibabel.Nifti1Image) -> bool:
    header = image.header
    return bool(int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0)


def _three_axes(array: Array, path: str) -> Array:
    if array.dtype.kind not in "buif":
        raise DataError(f"{path}: voxels of type {array.dtype}, expected real numbers")
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise DataError(
            f"{path}: the image has {array.ndim} axes, shape {array.shape}, expected 3",
            "four-dimensional images are left out, as in the published code",
        )
    return array
