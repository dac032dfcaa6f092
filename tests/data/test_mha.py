"""Our reader of MetaImage against ITK's, on sound files; NRRD is read by ITK."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from voxseq.base.errors import DataError
from voxseq.data.layouts import metaimage
from voxseq.data.readers.mha import read_mha
from voxseq.data.volume import Entry

TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64")


def image(kind: str, seed: int = 0) -> sitk.Image:
    rng = np.random.default_rng(seed)
    made = sitk.GetImageFromArray((rng.normal(size=(5, 6, 7)) * 50).astype(kind))
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    made.SetDirection(turned.ravel().tolist())
    made.SetSpacing([0.5, 0.75, 2.5])
    made.SetOrigin([-100.25, 3.5, 1e3])
    return made


@pytest.mark.parametrize(("kind", "packed"), itertools.product(TYPES, [False, True]))
def test_sound_files_read_as_by_itk(tmp_path: Path, kind: str, packed: bool) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(image(kind, len(kind)), str(path), useCompression=packed)
    expected = sitk.ReadImage(str(path))
    volume = metaimage.read_image(tmp_path, Entry("s", "i", path.name))
    array = sitk.GetArrayFromImage(expected).transpose(2, 1, 0)
    assert volume.array.dtype == array.dtype
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_array_equal(volume.affine, metaimage.affine_of(expected))


def test_big_endian_files(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(image("int16"), str(path), useCompression=False)
    head, voxels = path.read_bytes().split(b"LOCAL\n")
    array, _ = read_mha(tmp_path, path.name)
    swapped = np.frombuffer(voxels, "<i2").astype(">i2").tobytes()
    path.write_bytes(head.replace(b"MSB = False", b"MSB = True") + b"LOCAL\n" + swapped)
    again, _ = read_mha(tmp_path, path.name)
    np.testing.assert_array_equal(array, again)
    assert again.dtype == np.int16


@pytest.mark.parametrize("encoding", [False, True])
def test_sound_nrrd_files_are_read(tmp_path: Path, encoding: bool) -> None:
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(image("int16"), str(path), useCompression=encoding)
    volume = metaimage.read_image(tmp_path, Entry("s", "i", path.name))
    np.testing.assert_array_equal(
        volume.array, sitk.GetArrayFromImage(image("int16")).transpose(2, 1, 0)
    )


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
        NRRD,
        b"",
        b"ObjectType = Image\n",
    ],
)
def test_malformed_nrrd_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.raw").write_bytes(bytes(16))
    (tmp_path / "a.nrrd").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nrrd: "):
        metaimage.read_image(tmp_path, Entry("s", "i", "a.nrrd"))
