"""Kinds of DICOM input: slices of an image are read, and the rest costs nothing but a word."""

from __future__ import annotations

import dataclasses
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from tests.helpers import trees
from tests.helpers.bad_dicom import each, enhanced, other_object
from tests.helpers.dicom_sets import FOLDERS, HU, READ, STORED, arrays, in_layout, seen, write
from voxseq import catalogue
from voxseq.base.errors import DataError, ResourceError
from voxseq.data import layouts
from voxseq.data.verify.presence import look

SAGITTAL = [0, 1, 0, 0, 0, -1]


@pytest.mark.kind("two series in one folder")
@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("count", [12, 5])
def test_two_series_in_one_folder(tmp_path: Path, name: str, count: int) -> None:
    folder = write(tmp_path / FOLDERS[name])
    write(folder, STORED[:, :, :count] + 7, "b", SeriesInstanceUID="1.2.8",
          ImageComments="second")  # fmt: skip
    found = seen(tmp_path, name)
    arrays(found, READ, HU[:, :, :count][:, :, ::-1] + 7)
    assert ("2 series" in found.said) == (name != "dicom_ct")
    entries = layouts.get("dicom_tree").scan(
        tmp_path / catalogue.get(name).folder, catalogue.get(name)
    )
    assert len({(entry.subject, entry.image) for entry in entries.entries}) == 2


OBJECTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "structures": (uid.RTStructureSetStorage, {"Modality": "RTSTRUCT"}, "RT Structure Set"),
    "report": (uid.XRayRadiationDoseSRStorage, {"Modality": "SR"}, "Dose SR"),
    "DICOMDIR": (uid.MediaStorageDirectoryStorage, {}, "DICOMDIR"),
    "dose": (uid.RTDoseStorage, {"Modality": "RTDOSE", "Rows": 7, "Columns": 8}, "RT Dose"),
    "capture": (uid.SecondaryCaptureImageStorage, {"Modality": "OT", "Rows": 7, "Columns": 8},
                "capture"),
    "PET": (uid.PositronEmissionTomographyImageStorage,
            {"Modality": "PT", "Rows": 7, "Columns": 8}, "Positron"),
    "MR": (uid.MRImageStorage, {"Modality": "MR", "Rows": 7, "Columns": 8}, "modality MR"),
    "screen": (uid.CTImageStorage, {"Modality": "CT", "Rows": 7, "Columns": 8,
               "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "capture"),
    "scout": (uid.CTImageStorage, {"Modality": "CT", "Rows": 7, "Columns": 8,
              "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
    "topogram": (uid.CTImageStorage, {"Modality": "CT", "Rows": 7, "Columns": 8,
                 "SeriesDescription": "Topogram 0.6"}, "localizer"),
}  # fmt: skip


@pytest.mark.kind("objects that are no slices beside them")
@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("case", OBJECTS)
def test_objects_that_are_no_slices(tmp_path: Path, name: str, case: str) -> None:
    folder = write(tmp_path / FOLDERS[name])
    kind, tags, said = OBJECTS[case]
    other_object(folder / "other.dcm", kind, **tags)
    # Of the same series, too: some archives copy its UID.
    other_object(folder / "again.dcm", kind, SeriesInstanceUID="1.2.3.45678", **tags)
    found = seen(tmp_path, name)
    arrays(found, READ)
    assert said in found.said
    assert "other.dcm" in found.said


@pytest.mark.kind("a data set of another modality")
def test_only_another_modality(tmp_path: Path) -> None:
    write(tmp_path / "dicom/s", Modality="MR", SOPClassUID=uid.MRImageStorage)
    with pytest.raises(DataError, match=r"no image found; .*left out.*modality MR"):
        seen(tmp_path)


@pytest.mark.kind("colours among grey slices")
def test_colours_in_the_series(tmp_path: Path) -> None:
    folder = write(tmp_path / "dicom/s")
    shutil.copyfile(folder / "IM003.dcm", folder / "colour.dcm")
    header = pydicom.dcmread(folder / "colour.dcm")
    header.SamplesPerPixel, header.PhotometricInterpretation = 3, "RGB"
    header.save_as(folder / "colour.dcm")
    found = seen(tmp_path)
    arrays(found, READ)
    assert "colour.dcm: colours" in found.said


@pytest.mark.kind("a broken file beside slices")
@pytest.mark.parametrize("name", ["dicom_ct", "rsna2022_csfd"])
def test_broken_files(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / FOLDERS[name])
    write(folder, STORED, "b", SeriesInstanceUID="1.2.8")
    path = folder / "bIM004.dcm"
    path.write_bytes(path.read_bytes()[:-40])
    (folder / "IM1.dcm").write_bytes(b"<html>not found</html>")
    found = seen(tmp_path, name)
    np.testing.assert_array_equal(found.volumes[0].array, READ)
    assert len(found.volumes) == 1
    assert "bIM004.dcm" in found.aside
    assert "IM1.dcm" in found.said


@pytest.mark.kind("views of another orientation in the series")
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("prefix", ["A", "z"])
def test_views_in_the_series(tmp_path: Path, count: int, prefix: str) -> None:
    folder = write(tmp_path / "dicom/s")
    write(folder, STORED[:, :, :count], prefix, ImageOrientationPatient=SAGITTAL)
    found = seen(tmp_path)
    arrays(found, READ)
    assert "another orientation" in found.said


@pytest.mark.kind("views alone")
def test_two_views_are_no_volume(tmp_path: Path) -> None:
    folder = write(tmp_path / "dicom/views", STORED[:, :, :1], SeriesInstanceUID="1.2.7")
    write(folder, STORED[:, :, :1], "b", SeriesInstanceUID="1.2.7",
          ImageOrientationPatient=SAGITTAL)  # fmt: skip
    write(tmp_path / "dicom/s")
    found = seen(tmp_path)
    arrays(found, READ)
    assert "another orientation" in found.said


PASSES: dict[str, list[dict[str, Any]]] = {
    "acquisitions": [{"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}],
    "kernels": [{"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B70s"}],
    "times": [{"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}],
}


@pytest.mark.kind("several passes in one series")
@pytest.mark.parametrize("case", PASSES)
@pytest.mark.parametrize("shift", [0, 1.25, 1.2, -4.7])
def test_passes_are_told_apart(tmp_path: Path, case: str, shift: float) -> None:
    one, other = PASSES[case]
    folder = write(tmp_path / "dicom/s", **one)
    write(folder, STORED + 9, "b", **other)
    for path in folder.glob("b*"):
        header = pydicom.dcmread(path)
        header.ImagePositionPatient[2] += shift
        header.InstanceNumber += 100
        header.save_as(path)
    found = seen(tmp_path)
    arrays(found, READ, READ + 9)
    assert "several stacks" in found.said


@pytest.mark.kind("passes that nothing tells apart")
@pytest.mark.parametrize("name", ["dicom_ct", "ricord"])
@pytest.mark.parametrize("first", [0, 100])
@pytest.mark.parametrize("shift", [0, 1.25, 1.2, -2.7])
def test_passes_without_a_number(tmp_path: Path, name: str, first: int, shift: float) -> None:
    if name == "ricord":
        trees.ricord(tmp_path, [("train", 1, STORED, "1A-1-2", {}),
                                ("test", 1, STORED + 1, "1A-1-3", {})])  # fmt: skip
        place, tags = tmp_path / "ricord/any/place0", {"SeriesInstanceUID": "1.2.3.55550"}
        tags |= {"SeriesNumber": 3, "PatientID": "MIDRC-RICORD-1A-1-2", "StudyDate": "20041019"}
    else:
        place, tags = write(tmp_path / "dicom/s"), {}
    write(place, STORED + 9, "b", **tags)
    for path in place.glob("b*"):
        header = pydicom.dcmread(path)
        header.ImagePositionPatient[2] += shift
        header.InstanceNumber += first
        header.save_as(path)
    found = seen(tmp_path, name)
    assert len(found.volumes) == (name == "ricord")
    assert place.name in found.aside


def test_one_acquisition_for_each_turn_of_the_tube_is_one_volume(tmp_path: Path) -> None:
    write(tmp_path / "dicom/s")
    each(tmp_path / "dicom/s", lambda h, n: setattr(h, "AcquisitionNumber", 1 + n // 4))
    arrays(seen(tmp_path), READ)


ENHANCED = {"CT": uid.EnhancedCTImageStorage, "MR": uid.EnhancedMRImageStorage,
            "converted": uid.LegacyConvertedEnhancedCTImageStorage}  # fmt: skip


def rescaled(array: np.ndarray) -> np.ndarray:
    return array * (1 + np.arange(array.shape[2]) % 2) - 1024


@pytest.mark.kind("enhanced multi-frame images")
@pytest.mark.parametrize("kind", ENHANCED)
@pytest.mark.parametrize("packed", [False, True])
def test_enhanced(tmp_path: Path, kind: str, packed: bool, monkeypatch: Any) -> None:
    if kind == "MR":
        of_mri = dataclasses.replace(catalogue.get("dicom_ct"), modality="MRI")
        monkeypatch.setitem(catalogue.CATALOGUE, "dicom_ct", of_mri)
    path = tmp_path / "dicom/s/image"
    path.parent.mkdir(parents=True)
    enhanced(path, STORED, ENHANCED[kind], lambda group, n: None)
    if packed:
        header = pydicom.dcmread(path)
        header.compress(uid.RLELossless)
        header.save_as(path)
    found = seen(tmp_path)
    arrays(found, rescaled(STORED))
    assert found.volumes[0].spacing == pytest.approx((0.75, 0.5, 2.5))
    np.testing.assert_allclose(found.volumes[0].affine[:3, 3], [-10, -20, 100])
    assert not found.said


@pytest.mark.kind("several stacks in an enhanced image")
@pytest.mark.parametrize("tag", ["TemporalPositionIndex", "StackID", "FrameAcquisitionNumber"])
def test_enhanced_with_two_stacks(tmp_path: Path, tag: str) -> None:
    path = tmp_path / "dicom/s/image"
    path.parent.mkdir(parents=True)

    def frame(group: Dataset, n: int) -> None:
        group.PlanePositionSequence[0].ImagePositionPatient[2] = 100 + 2.5 * (n % 6)
        value: Any = 1 + n // 6
        setattr(group.FrameContentSequence[0], tag, str(value) if tag == "StackID" else value)

    enhanced(path, STORED, ENHANCED["CT"], frame)
    found = seen(tmp_path)
    whole = rescaled(STORED)
    arrays(found, whole[:, :, :6], whole[:, :, 6:])


@pytest.mark.kind("frames without places")
def test_frames_that_nothing_places(tmp_path: Path) -> None:
    path = tmp_path / "dicom/s/image"
    path.parent.mkdir(parents=True)
    enhanced(path, STORED, ENHANCED["CT"], lambda group, n: delattr(group, "PlanePositionSequence"))
    assert "ImagePositionPatient" in seen(tmp_path).aside
    each(path.parent, lambda h, n: delattr(h, "PerFrameFunctionalGroupsSequence"))
    assert "12 frames" in seen(tmp_path).aside


@pytest.mark.kind("a series in several folders")
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("name", ["dicom_ct", "rsna2022_csfd", "ricord"])
def test_a_series_in_several_folders(tmp_path: Path, name: str, every: bool) -> None:
    folder = in_layout(tmp_path, name)
    for number, path in enumerate(sorted(folder.iterdir())):
        part = folder / f"part{number % 2 if every else number // 6}"
        part.mkdir(exist_ok=True)
        path.rename(part / path.name)
    found = seen(tmp_path, name)
    arrays(found, STORED.transpose(1, 0, 2) if name == "ricord" else READ)


@pytest.mark.kind("a series in several folders of a layout")
def test_parts_of_a_series_in_folders_of_images_are_named(tmp_path: Path) -> None:
    folder = in_layout(tmp_path, "rsna2020_ped")
    (folder.parent / "other").mkdir()
    for path in sorted(folder.iterdir())[6:]:
        path.rename(folder.parent / "other" / path.name)
    found = seen(tmp_path, "rsna2020_ped")
    assert len(found.volumes) == 2
    assert "same series" in found.said


@pytest.mark.parametrize("name", ["dicom_ct", "rsna2020_ped", "ricord"])
def test_a_look_opens_one_file_for_each_folder(tmp_path: Path, name: str, monkeypatch: Any) -> None:
    in_layout(tmp_path, name)
    opened: list[Path] = []
    whole = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda p, **how: opened.append(p) or whole(p, **how))
    assert look(catalogue.get(name), tmp_path).found == 1
    assert len(opened) == (12 if name == "dicom_ct" else 1)


@pytest.mark.kind("a slice stored twice")
@pytest.mark.parametrize("name", ["dicom_ct", "rsna2020_ped", "ricord"])
def test_copies_are_read_once(tmp_path: Path, name: str) -> None:
    folder = in_layout(tmp_path, name)
    shutil.copyfile(folder / "IM004.dcm", folder / "IM004 (1).dcm")
    found = seen(tmp_path, name)
    arrays(found, STORED.transpose(1, 0, 2) if name == "ricord" else READ)
    assert "a copy of" in found.said


def test_one_uid_for_different_series_in_two_folders(tmp_path: Path) -> None:
    write(tmp_path / "dicom/a")
    write(tmp_path / "dicom/b", STORED + 3)
    found = seen(tmp_path)
    arrays(found, READ, READ + 3)
    assert "several stacks" in found.said


@pytest.mark.kind("missing slices of a lesion")
def test_missing_slices_of_a_lesion(tmp_path: Path) -> None:
    folder = trees.lesions(tmp_path)
    for number in (5, 6):
        (folder / f"Images_png/000001_01_01/{number:03d}.png").unlink()
    found = seen(tmp_path, "deeplesion")
    assert not found.volumes
    assert "005.png: the file does not exist; 2 of the 4 slices" in found.aside


@pytest.mark.kind("a DICOM file that has gone since it was listed")
def test_a_file_that_has_gone(tmp_path: Path) -> None:
    folder = write(tmp_path / "dicom/s")
    layout, dataset = layouts.get("dicom_tree"), catalogue.get("dicom_ct")
    (entry,) = layout.scan(tmp_path / "dicom", dataset).entries
    (folder / "IM004.dcm").unlink()
    with pytest.raises(ResourceError, match=r"s/IM004\.dcm: .*gone"):
        layout.read_image(tmp_path / "dicom", entry)


@pytest.mark.kind("many series in one folder")
def test_reading_opens_only_the_files_of_its_series(tmp_path: Path, monkeypatch: Any) -> None:
    count, opened = 5, []
    for number in range(count):
        write(tmp_path / "dicom/all", STORED + number, f"{number}",
              SeriesInstanceUID=f"1.2.8.{number}")  # fmt: skip
    whole = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda p, **how: opened.append(p) or whole(p, **how))
    found = seen(tmp_path)
    arrays(found, *(READ + number for number in range(count)))
    # Once for the scan of the tree; for reading once for the order and once for the pixels.
    assert len(opened) == 3 * count * STORED.shape[2]


@pytest.mark.slow
def test_memory_is_that_of_one_series(tmp_path: Path) -> None:
    array = np.zeros((128, 128, 24), np.int32)
    array[0] = 7
    peaks = []
    for count in (1, 6):
        root = tmp_path / str(count)
        for number in range(count):
            write(root / "dicom/all", array, f"{number}", SeriesInstanceUID=f"1.2.8.{number}")
        # What other threads allocate meanwhile is counted too: the smallest figure is the work's.
        peaks.append(min(_peak_of_reading(root / "dicom") for _ in range(3)))
    assert peaks[1] < 1.5 * peaks[0]


def _peak_of_reading(folder: Path) -> int:
    """Bytes at most while the first series of a tree is found and read."""
    layout = layouts.get("dicom_tree")
    tracemalloc.start()
    try:
        entry, *_ = layout.scan(folder, catalogue.get("dicom_ct")).entries
        layout.read_image(folder, entry)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
