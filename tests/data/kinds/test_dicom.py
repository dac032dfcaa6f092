"""Kinds of DICOM input: what belongs to an image is read, and the rest costs nothing but a word."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from tests.helpers import trees
from tests.helpers.bad_dicom import each, enhanced, other_object
from voxseq import catalogue
from voxseq.base.errors import DataError, ResourceError
from voxseq.data import layouts
from voxseq.data.volume import Volume

#: HU (columns, rows, slices); written from the top down, so that the last slice lies lowest.
HU = trees.image((8, 7, 12), seed=5).astype(np.int32)
STORED = HU + 1024
READ = HU[:, :, ::-1]
SAGITTAL = [0, 1, 0, 0, 0, -1]
#: Folder of one series in each layout with one folder for each image.
FOLDERS = {"dicom_ct": "dicom/s", "rsna2022_csfd": "rsna2022_csfd/train_images/s",
           "rsna2020_ped": "rsna2020_ped/train/p/s"}  # fmt: skip
Change = Callable[[Dataset, int], object]


class Seen(NamedTuple):
    """Volumes, and what is said of the set: reasons of what is set aside, remarks."""

    volumes: list[Volume]
    aside: str
    said: str


def seen(root: Path, name: str = "dicom_ct") -> Seen:
    """What a scan and a reading of every image make of a data set."""
    dataset = catalogue.get(name)
    layout, folder = layouts.get(dataset.layout), root / dataset.folder
    found = layout.scan(folder, dataset)
    aside, volumes = [reason for _, reason in found.rejected], []
    remarks = [*found.remarks]
    for entry in found.entries:
        try:
            volumes.append(layout.read_image(folder, entry))
        except DataError as error:
            aside.append(error.what)
        else:
            remarks += volumes[-1].remarks
    said = "\n".join(f"{remark.path}: {remark.reason}" for remark in remarks)
    return Seen(volumes, "\n".join(aside), said)


def arrays(found: Seen, *expected: np.ndarray) -> None:
    """The volumes are exactly these."""
    assert not found.aside
    assert len(found.volumes) == len(expected)
    for volume, array in zip(found.volumes, expected, strict=True):
        np.testing.assert_array_equal(volume.array, array)


def write(folder: Path, array: np.ndarray = STORED, prefix: str = "", **tags: Any) -> Path:
    """Write a series into a folder that may hold others."""
    place = folder.with_name(folder.name + "-new")
    trees.dicom_series(place, array, **tags)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(place.iterdir()):
        path.rename(folder / f"{prefix}{path.name}")
    place.rmdir()
    return folder


def set_to(tag: str, value: Any, numbers: range | None = None) -> Change:
    return lambda h, n: setattr(h, tag, value) if numbers is None or n in numbers else None


def at(*height: float, along: tuple[float, float] = (10, 20)) -> Change:
    """Slices at heights in mm."""
    return lambda h, n: setattr(h, "ImagePositionPatient", [*along, height[n]])


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


HEIGHTS: dict[str, tuple[list[float], str]] = {
    "one of many": ([0, 2.5, 5, 10, 12.5], "missing"),
    "one of three": ([0, 2.5, 7.5], "missing"),
    "thin slices": ([0, 0.6, 1.2, 2.4, 3.0], "missing"),
    "twice": ([0, 2.5, 2.5, 5], "same place"),
    "all twice": ([0, 0, 5, 5], "same place"),
    "two distances": ([0, 2.5, 5, 7.5, 11.1, 14.7, 18.3], "uneven"),
    "growing distances": ([0, 1, 2.2, 3.6, 5.0, 6.4, 7.8], "uneven"),
    "a gap between passes": ([0, 2.5, 5, 8.4, 10.9, 13.4], "uneven"),
}


@pytest.mark.kind("missing, repeated or unevenly placed slices")
@pytest.mark.parametrize("name", ["dicom_ct", "rsna2020_ped", "ricord"])
@pytest.mark.parametrize("case", HEIGHTS)
def test_steps(tmp_path: Path, name: str, case: str) -> None:
    heights, said = HEIGHTS[case]
    array = STORED[:, :, : len(heights)]
    if name == "ricord":
        trees.ricord(tmp_path, [("train", 1, array, "1A-1-2", {})])
        folder = tmp_path / "ricord/any/place0"
    else:
        folder = write(tmp_path / FOLDERS[name], array)
    each(folder, at(*heights))
    found = seen(tmp_path, name)
    assert not found.volumes
    assert said in found.aside


@pytest.mark.parametrize("step", [0.625, 1.25, 2.5, 3.75])
@pytest.mark.parametrize("digits", [1, 2])
def test_rounded_positions_are_even(tmp_path: Path, step: float, digits: int) -> None:
    write(tmp_path / "dicom/s")
    each(tmp_path / "dicom/s", at(*(round(100 - n * step, digits) for n in range(12))))
    found = seen(tmp_path)
    arrays(found, READ)
    assert not found.said


@pytest.mark.kind("slightly uneven steps")
def test_slightly_uneven_steps_are_named(tmp_path: Path) -> None:
    write(tmp_path / "dicom/s")
    each(tmp_path / "dicom/s", at(*(100 - 5 * n - 0.7 * (n > 5) for n in range(12))))
    found = seen(tmp_path)
    arrays(found, READ)
    assert "uneven steps" in found.said


@pytest.mark.kind("every other slice only")
def test_every_other_slice(tmp_path: Path) -> None:
    folder = write(tmp_path / "dicom/s", SliceThickness=2.5)
    for path in sorted(folder.iterdir())[1::2]:
        path.unlink()
    found = seen(tmp_path)
    arrays(found, READ[:, :, 1::2])
    assert "missing" in found.said


UNLIKE: dict[str, tuple[Change, str]] = {
    "pixel spacing": (set_to("PixelSpacing", [0.25, 0.4], range(6, 12)), "PixelSpacing"),
    "slightly other spacing": (set_to("PixelSpacing", [0.5, 0.76], range(8, 12)), "PixelSpacing"),
    "one other spacing": (set_to("PixelSpacing", [1, 1.5], range(3, 4)), "PixelSpacing"),
    "place": (lambda h, n: n > 5 and at(*[100 - 2.5 * n] * 12, along=(16, 20))(h, n), "displaced"),
    "one displaced": (lambda h, n: n == 4 and at(*[90] * 12, along=(10, 22))(h, n), "displaced"),
    "kind of pixels": (set_to("PhotometricInterpretation", "MONOCHROME1", range(4)), "Photometric"),
    "no spacing": (lambda h, n: delattr(h, "PixelSpacing"), "PixelSpacing is missing"),
    "one without spacing": (lambda h, n: n == 5 and delattr(h, "PixelSpacing"), "PixelSpacing"),
    "a place less": (lambda h, n: n == 5 and delattr(h, "ImagePositionPatient"), "Position"),
    "a direction less": (lambda h, n: n == 5 and delattr(h, "ImageOrientationPatient"), "Orien"),
    "turned a little": (set_to("ImageOrientationPatient", [0.9998, 0.02, 0, -0.02, 0.9998, 0],
                               range(6)), "ImageOrientationPatient"),
}  # fmt: skip


@pytest.mark.kind("slices that differ in size, spacing, place or direction")
@pytest.mark.parametrize("name", ["dicom_ct", "ricord"])
@pytest.mark.parametrize("case", UNLIKE)
def test_slices_that_differ(tmp_path: Path, name: str, case: str) -> None:
    change, said = UNLIKE[case]
    if name == "ricord":
        trees.ricord(tmp_path, [("train", 1, STORED, "1A-1-2", {})])
        folder = tmp_path / "ricord/any/place0"
    else:
        folder = write(tmp_path / "dicom/s")
    each(folder, change)
    found = seen(tmp_path, name)
    assert not found.volumes
    assert said in found.aside


def test_halves_of_two_sizes_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "dicom/s", STORED[:, :, :6])
    write(folder, STORED[:, :6, :6], "b")
    each(folder, at(*(100 - 2.5 * n for n in range(12))))
    assert "rows and columns" in seen(tmp_path).aside


@pytest.mark.kind("gantry tilt")
@pytest.mark.parametrize("degrees", [-25, -12, 8, 20])
@pytest.mark.parametrize("axis", [0, 1])
def test_gantry_tilt_is_sheared_back(tmp_path: Path, degrees: float, axis: int) -> None:
    t = np.deg2rad(degrees)
    directions = [1, 0, 0, 0, np.cos(t), np.sin(t)] if axis else [np.cos(t), 0, np.sin(t), 0, 1, 0]
    directions = [float(round(d, 6)) for d in directions]
    column, row = np.array(directions[:3]), np.array(directions[3:])
    corners = np.array([[10, 20, 100 - 2.5 * n] for n in range(12)])
    places = (
        corners[None, None]
        + 0.75 * np.arange(20)[:, None, None, None] * column
        + 0.5 * np.arange(24)[None, :, None, None] * row
    )
    # Linear in the world, so that linear interpolation gives the values themselves.
    slope = np.array([9.0, -7.0, 4.0])
    write(tmp_path / "dicom/s", np.rint(places @ slope + 1024).astype(np.int32),
          ImageOrientationPatient=directions)  # fmt: skip
    each(tmp_path / "dicom/s", at(*corners[:, 2]))
    found = seen(tmp_path)
    (volume,) = found.volumes
    assert "tilted" in found.said
    axes = volume.affine[:3, :3] / volume.spacing
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-5)
    assert volume.spacing == pytest.approx((0.75, 0.5, 2.5 * np.cos(t)), rel=1e-4)
    index = np.stack(np.indices(volume.array.shape), axis=-1)
    world = (index @ volume.affine[:3, :3].T + volume.affine[:3, 3]) * [-1, -1, 1]
    inside = volume.array > -1024
    off = np.abs(volume.array - world @ slope)[inside]
    assert off.max() < 1.2
    # Nothing of the slices is lost but the pixels at their rim.
    assert inside.sum() >= 12 * 19 * 23


@pytest.mark.kind("gantry tilt in RICORD")
def test_gantry_tilt_in_ricord_is_named(tmp_path: Path) -> None:
    directions = [1, 0, 0, 0, float(np.cos(0.3)), float(-np.sin(0.3))]
    tags = {"ImageOrientationPatient": directions}
    trees.ricord(tmp_path, [("train", 1, STORED, "1A-1-2", tags)])
    each(tmp_path / "ricord/any/place0", at(*(100 - 2.5 * n for n in range(12))))
    found = seen(tmp_path, "ricord")
    arrays(found, STORED.transpose(1, 0, 2))
    assert "tilted" in found.said


@pytest.mark.kind("padding outside the field of view")
@pytest.mark.parametrize(
    ("padding", "intercept", "signed"),
    [(-2000, 0, 1), (-3024, 0, 1), (-32768, 0, 1), (63536, -1024, 0), (65535, -1024, 0),
     (-2000, -1024, 0), (0, -1024, 0), (0, 0, 1), (4095, -1024, 0)],
)  # fmt: skip
def test_padding_becomes_air(tmp_path: Path, padding: int, intercept: int, signed: int) -> None:
    hu = np.where(np.abs(HU) < 3, 5, HU)
    outside = np.zeros(hu.shape, bool)
    outside[:2], outside[:, :1], outside[6:, 5:] = True, True, True
    stored = hu - intercept
    stored[outside] = padding
    # A tissue of the same value as the padding, away from the border.
    if -1000 < padding + intercept < 3000:
        stored[4, 3] = padding
        hu[4, 3] = padding + intercept
    write(tmp_path / "dicom/s", stored & 0xFFFF, RescaleIntercept=intercept,
          PixelRepresentation=signed)  # fmt: skip
    kind = "SS" if padding < 0 else "US"
    each(tmp_path / "dicom/s", lambda h, n: h.add_new("PixelPaddingValue", kind, padding))
    arrays(seen(tmp_path), np.where(outside, -1024, hu)[:, :, ::-1])


def test_a_range_of_padding_becomes_air(tmp_path: Path) -> None:
    hu = HU.copy()
    hu[0], hu[1] = -2000, -1990
    write(tmp_path / "dicom/s", hu & 0xFFFF, RescaleIntercept=0, PixelRepresentation=1,
          PixelPaddingRangeLimit=-1980)  # fmt: skip
    each(tmp_path / "dicom/s", lambda h, n: h.add_new("PixelPaddingValue", "SS", -2000))
    arrays(seen(tmp_path), np.where(hu < -1500, -1024, hu)[:, :, ::-1])


@pytest.mark.kind("padding among stored values")
@pytest.mark.parametrize(("padding", "becomes"), [(63536, 0), (0, 0)])
def test_padding_of_ricord(tmp_path: Path, padding: int, becomes: int) -> None:
    stored = STORED.copy()
    stored[:2] = padding
    tags = {"PixelPaddingValue": padding}
    trees.ricord(tmp_path, [("train", 1, stored, "1A-1-2", tags)])
    expected = np.where(stored == padding, becomes, stored)
    arrays(seen(tmp_path, "ricord"), expected.transpose(1, 0, 2))


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
    if name == "ricord":
        trees.ricord(tmp_path, [("train", 1, STORED, "1A-1-2", {})])
        folder = tmp_path / "ricord/any/place0"
    else:
        folder = write(tmp_path / FOLDERS[name])
    for number, path in enumerate(sorted(folder.iterdir())):
        part = folder / f"part{number % 2 if every else number // 6}"
        part.mkdir(exist_ok=True)
        path.rename(part / path.name)
    found = seen(tmp_path, name)
    arrays(found, STORED.transpose(1, 0, 2) if name == "ricord" else READ)


@pytest.mark.kind("a slice stored twice")
@pytest.mark.parametrize("name", ["dicom_ct", "rsna2020_ped", "ricord"])
def test_copies_are_read_once(tmp_path: Path, name: str) -> None:
    if name == "ricord":
        trees.ricord(tmp_path, [("train", 1, STORED, "1A-1-2", {})])
        folder = tmp_path / "ricord/any/place0"
    else:
        folder = write(tmp_path / FOLDERS[name])
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


@pytest.mark.kind("no or repeated InstanceNumber in RICORD")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h, n: n == 3 and delattr(h, "InstanceNumber"), "InstanceNumber is missing"),
        (lambda h, n: n == 3 and setattr(h, "InstanceNumber", 3), "InstanceNumber 3"),
        (lambda h, n: n < 2 and setattr(h, "InstanceNumber", 2 - n), "order of InstanceNumber"),
        (lambda h, n: unplaced(h, n), "after InstanceNumber 3 is missing"),
    ],
)
def test_numbers_that_give_no_order(tmp_path: Path, change: Change, said: str) -> None:
    trees.ricord(tmp_path, [("train", 1, STORED, "1A-1-2", {})])
    each(tmp_path / "ricord/any/place0", change)
    found = seen(tmp_path, "ricord")
    assert not found.volumes
    assert said in found.aside


def unplaced(header: Dataset, number: int) -> None:
    """Slices that state no place, of which one is missing by its number."""
    del header.ImagePositionPatient, header.ImageOrientationPatient
    header.InstanceNumber = number + 1 + (number > 2)


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
