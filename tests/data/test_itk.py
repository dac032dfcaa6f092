"""MetaImage and NRRD against ITK's own reader and NIfTI; malformed NRRD is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from voxseq.base.errors import DataError
from voxseq.data.readers import itk, nifti

TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64")
#: 64-bit whole numbers are no type of NRRD that is read.
CASES = [
    (kind, suffix, packed)
    for kind, suffix, packed in itertools.product(TYPES, (".mha", ".nrrd"), (False, True))
    if (kind, suffix) != ("int64", ".nrrd")
]


def image(kind: str, seed: int = 0) -> sitk.Image:
    rng = np.random.default_rng(seed)
    made = sitk.GetImageFromArray((rng.normal(size=(5, 6, 7)) * 50).astype(kind))
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    made.SetDirection(turned.ravel().tolist())
    made.SetSpacing([0.5, 0.75, 2.5])
    made.SetOrigin([-100.25, 3.5, 1e3])
    return made


@pytest.mark.parametrize(("kind", "suffix", "packed"), CASES)
def test_sound_files_read_as_by_itk_and_lie_where_nifti_puts_them(
    tmp_path: Path, kind: str, suffix: str, packed: bool
) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image(kind, len(kind)), str(path), useCompression=packed)
    sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / "a.nii"))
    volume = itk.read(tmp_path, path.name)
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose(2, 1, 0)
    assert volume.array.dtype == array.dtype
    np.testing.assert_array_equal(volume.array, array)
    affine = nifti.read(tmp_path, "a.nii").affine
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)


@pytest.mark.parametrize(
    ("suffix", "end", "little", "big"),
    [
        (".mha", b"LOCAL\n", b"MSB = False", b"MSB = True"),
        (".nrrd", b"\n\n", b"endian: little", b"endian: big"),
    ],
)
def test_big_endian_files(
    tmp_path: Path, suffix: str, end: bytes, little: bytes, big: bytes
) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image("int16"), str(path), useCompression=False)
    head, voxels = path.read_bytes().split(end, 1)
    array = itk.read(tmp_path, path.name).array
    swapped = np.frombuffer(voxels, "<i2").astype(">i2").tobytes()
    path.write_bytes(head.replace(little, big) + end + swapped)
    again = itk.read(tmp_path, path.name).array
    np.testing.assert_array_equal(array, again)
    assert again.dtype == np.int16


NRRD = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nendian: little\n"


@pytest.mark.parametrize(
    "content",
    [
        NRRD + b"data file: other.raw\n\n",
        NRRD + b"datafile: /etc/hostname\n\n",
        NRRD + b"Data File: LIST\nother.raw\n\n",
        NRRD.replace(b"2 2 2", b"90000 90000 90000") + b"\n" + bytes(16),
        NRRD.replace(b"2 2 2", b"2 2 200") + b"\n" + bytes(16),
        NRRD.replace(b"2 2 2", b"2 2") + b"\n" + bytes(16),
        NRRD.replace(b"raw", b"gzip") + b"\n" + bytes(16),
        NRRD.replace(b"short", b"poem") + b"\n" + bytes(16),
        NRRD.replace(b"endian: little\n", b"") + b"\n" + bytes(16),
        NRRD + b"sizes: 1 2 2\n\n" + bytes(16),
        NRRD + b"kinds: vector domain domain\n\n" + bytes(16),
        NRRD,
        b"",
        b"ObjectType = Image\n",
    ],
)
def test_malformed_nrrd_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.raw").write_bytes(bytes(16))
    (tmp_path / "a.nrrd").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nrrd: "):
        itk.read(tmp_path, "a.nrrd")
