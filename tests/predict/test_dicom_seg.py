"""Masks as DICOM-SEG objects."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from tests.helpers import trees
from tests.helpers.calling import Call
from tests.helpers.trained import Trained

_IS_THERE = importlib.util.find_spec("highdicom") is not None


def series(folder: Path) -> Path:
    """A bright box in air, on slices with all that the standard asks of them."""
    array = np.full((12, 10, 9), 974, np.int16)
    array[2:9, 2:8, 2:7] = 1400
    array[4:7, 4:6, 3:5] = 1700
    array += np.random.default_rng(0).integers(0, 40, array.shape).astype(np.int16)
    tags = {
        **{"PatientName": "A^B", "PatientBirthDate": "", "PatientSex": "", "StudyID": "1"},
        **{"StudyDate": "20200101", "StudyTime": "120000", "AccessionNumber": ""},
        **{"ReferringPhysicianName": "", "FrameOfReferenceUID": "1.2.3.4"},
        **{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SliceThickness": 2.5},
    }
    trees.dicom_series(folder, array, **tags)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID
        header.save_as(path)
    return folder


@pytest.mark.skipif(not _IS_THERE, reason="highdicom is not installed (voxseq[dicom-seg])")
def test_segments_are_the_mask_on_the_slices(
    trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    import highdicom

    given = series(tmp_path / "scan")
    call("predict", trained["segmentation"].folder, given, "-o", tmp_path / "out", "--dicom-seg")
    mask = np.asarray(nibabel.load(tmp_path / "out/scan.nii.gz").dataobj)
    assert mask.any()
    found = highdicom.seg.segread(tmp_path / "out/scan.dcm")
    assert [found.get_segment_description(n).segment_label for n in (1, 2)] == ["organ", "tumour"]
    volume = found.get_volume(combine_segments=True)
    # Slices of highdicom's volumes go along the first axis; the direction may differ.
    array = volume.array.transpose(2, 1, 0)
    assert array.sum() == mask.sum()
    places = np.argwhere(volume.array > 0)
    world = places @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    affine = nibabel.load(tmp_path / "out/scan.nii.gz").affine
    expected = np.argwhere(mask > 0) @ affine[:3, :3].T + affine[:3, 3]
    world[:, :2] *= -1  # DICOM's axes run left and posterior.
    for one in (world, expected):
        one[:] = one[np.lexsort(one.round(3).T)]
    np.testing.assert_allclose(world, expected, atol=1e-3)


@pytest.mark.parametrize("tag", ["SOPInstanceUID", "StudyInstanceUID"])
def test_slices_without_an_identifier_are_refused_and_nothing_is_written(
    trained: dict[str, Trained],
    tmp_path: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    tag: str,
) -> None:
    """Anonymisation empties them; the identifiers are looked at before highdicom is."""
    monkeypatch.setattr("voxseq.predict.dicom_seg.require_highdicom", lambda: None)
    given = series(tmp_path / "scan")
    for path in given.iterdir():
        header = pydicom.dcmread(path)
        setattr(header, tag, "")
        header.save_as(path)
    model = trained["segmentation"].folder
    said = call("predict", model, given, "-o", tmp_path / "out", "--dicom-seg", status=1)
    assert f"its slices have no {tag}" in said.err
    assert "0 of 1 images predicted" in said.out
    assert not list((tmp_path / "out").glob("scan*"))


@pytest.mark.skipif(_IS_THERE, reason="highdicom is installed")
def test_without_highdicom_it_says_what_to_install(
    trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    given = series(tmp_path / "scan")
    model = trained["segmentation"].folder
    said = call("predict", model, given, "-o", tmp_path / "out", "--dicom-seg", status=2).err
    assert "pip install 'voxseq[dicom-seg]'" in said
    assert not (tmp_path / "out").exists()
