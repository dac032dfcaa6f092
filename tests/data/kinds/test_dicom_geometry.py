"""Kinds of DICOM input: places and values of slices that make a volume, or do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.helpers import trees
from tests.helpers.bad_dicom import each
from tests.helpers.dicom_sets import (
    HU,
    READ,
    STORED,
    Change,
    arrays,
    in_layout,
    seen,
    write,
)


def set_to(tag: str, value: Any, numbers: range | None = None) -> Change:
    return lambda h, n: setattr(h, tag, value) if numbers is None or n in numbers else None


def at(*height: float, along: tuple[float, float] = (10, 20)) -> Change:
    """Slices at heights in mm."""
    return lambda h, n: setattr(h, "ImagePositionPatient", [*along, height[n]])


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
    folder = in_layout(tmp_path, name, array)
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
    folder = in_layout(tmp_path, name)
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


def unplaced(header: Dataset, number: int) -> None:
    """Slices that state no place, of which one is missing by its number."""
    del header.ImagePositionPatient, header.ImageOrientationPatient
    header.InstanceNumber = number + 1 + (number > 2)


@pytest.mark.kind("no or repeated InstanceNumber in RICORD")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h, n: n == 3 and delattr(h, "InstanceNumber"), "InstanceNumber is missing"),
        (lambda h, n: n == 3 and setattr(h, "InstanceNumber", 3), "InstanceNumber 3"),
        (lambda h, n: n < 2 and setattr(h, "InstanceNumber", 2 - n), "order of InstanceNumber"),
        (unplaced, "after InstanceNumber 3 is missing"),
    ],
)
def test_numbers_that_give_no_order(tmp_path: Path, change: Change, said: str) -> None:
    trees.ricord(tmp_path, [("train", 1, STORED, "1A-1-2", {})])
    each(tmp_path / "ricord/any/place0", change)
    found = seen(tmp_path, "ricord")
    assert not found.volumes
    assert said in found.aside
