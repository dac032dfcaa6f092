"""From boxes to voxels: starts of windows, resizing, scaling."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from benchmarks.earlier_voxels import resize_all, scale, scale_percentiles
from voxseq.sequences.raw import start_count
from voxseq.transforms import intensity
from voxseq.transforms.intensity import intensity_range
from voxseq.transforms.spatial import resize

SIDES = st.integers(1, 9)
SHAPES = st.tuples(SIDES, SIDES, SIDES)
VOLUMES = stn.arrays(np.int16, SHAPES, elements=st.integers(-2000, 2000))


def test_published_starts_by_hand() -> None:
    """Depth 160, stride 11, thickness 16 of length 4: the starts are 0..63 of the paper's code."""
    assert start_count(160, 11, 16, 4, 63) == 64


@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_every_counted_start_fits_and_the_next_does_not(
    depth: int, stride: int, thickness: int, length: int
) -> None:
    count = start_count(depth, stride, thickness, length, None)
    fits = [start + stride * (length - 1) + thickness <= depth for start in range(depth)]
    assert sum(fits) == max(count, 0)
    for most in range(4):
        assert start_count(depth, stride, thickness, length, most) == min(count, most + 1)


@settings(deadline=None)
@given(VOLUMES, SHAPES)
def test_resizing_is_that_of_monai(volume: np.ndarray, shape: tuple[int, int, int]) -> None:
    from monai.transforms import Resize

    reference = Resize(shape, mode="trilinear", align_corners=False)(
        torch.from_numpy(volume.astype(np.float32))[None]
    )
    np.testing.assert_array_equal(resize(volume, volume.shape), volume.astype(np.float32))
    resized = resize(volume, shape)
    assert resized.shape == shape
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, reference[0].numpy(), rtol=1e-5, atol=1e-2)
    assert resized.min() >= volume.min() - 1e-2
    assert resized.max() <= volume.max() + 1e-2


def test_resizing_by_hand() -> None:
    """Voxel edges are aligned: twice the voxels sit a quarter of the old spacing off centre."""
    line = np.array([0, 4, 8], np.int16).reshape(1, 1, 3)
    assert resize(line, (1, 1, 6)).ravel().tolist() == [0, 1, 3, 5, 7, 8]
    assert resize(line, (2, 1, 3))[1].ravel().tolist() == [0, 4, 8]
    pair = np.array([0, 4], np.float32).reshape(2, 1, 1)
    assert resize(pair, (1, 1, 1)).item() == 2


@settings(deadline=None)
@given(VOLUMES, st.floats(0, 40), st.floats(60, 100))
def test_percentiles_map_to_the_unit_interval(volume: np.ndarray, low: float, high: float) -> None:
    values = volume.astype(np.float32)
    scaled = scale_percentiles(values, (low, high))
    assert scaled.shape == values.shape
    assert scaled.dtype == np.float32
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    bottom, top = np.percentile(values, (low, high))
    if top > bottom:
        assert (scaled[values <= bottom] == 0).all()
        assert (scaled[values >= top] == 1).all()
        order = np.argsort(values, axis=None, kind="stable")
        assert (np.diff(scaled.ravel()[order]) >= 0).all()
        inside = (values > bottom) & (values < top)
        expected = (values[inside] - bottom) / (top - bottom)
        np.testing.assert_allclose(scaled[inside], expected, rtol=1e-5, atol=1e-6)
    else:
        assert not scaled.any()


PERCENTILES = st.one_of(st.floats(0, 100), st.sampled_from([0.0, 1.0, 50.0, 99.9, 100.0]))


@pytest.mark.parametrize("counted", [0, intensity._COUNTED])
@settings(deadline=None)
@given(
    st.one_of(
        VOLUMES,
        stn.arrays(np.int16, SHAPES, elements=st.integers(-(2**15), 2**15 - 1)),
        stn.arrays(np.float32, SHAPES, elements=st.floats(-2000, 2000, width=32)),
        stn.arrays(np.float32, SHAPES, elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    ),
    PERCENTILES,
    PERCENTILES,
)
def test_ranges_are_numpys_percentiles_to_the_bit(
    counted: int, volume: np.ndarray, one: float, two: float
) -> None:
    """However many voxels there are from which on they are counted."""
    wanted = (min(one, two), max(one, two))
    before = volume.copy()
    # int16 is widened, as it always is before it is scaled: its differences may overflow.
    expected = np.percentile(volume.astype(np.float32), wanted).tolist()
    with mock.patch.object(intensity, "_COUNTED", counted):
        assert list(intensity_range(volume, wanted)) == expected
    np.testing.assert_array_equal(volume, before)


def many_voxels(values: str) -> np.ndarray:
    """Volumes of as many voxels as are counted where they are whole numbers."""
    volume = np.random.default_rng(0).normal(0, 300, (94, 65, 66))
    match values:
        case "ties":
            volume[:63] = 0
        case "both zeros":
            volume[:, ::2] = 0.0
            volume[:, 1::2] = -0.0
        case "tiny range":
            volume = 4096 + volume * 1e-6
        case "constant":
            volume[:] = -7
    return volume


@pytest.mark.parametrize("values", ["noise", "ties", "both zeros", "tiny range", "constant"])
def test_ranges_of_many_voxels(values: str) -> None:
    volume = many_voxels(values)
    for kind in (np.int16, np.float32):
        whole = volume.astype(kind)
        for crop in (whole, whole[3:84, :, ::-2]):
            expected = np.percentile(crop.astype(np.float32), (1, 99.9)).tolist()
            assert list(intensity_range(crop, (1, 99.9))) == expected


@pytest.mark.parametrize("offset", [0, 1e5, 1e7])
def test_a_narrow_range_far_from_zero_keeps_its_digits(offset: float) -> None:
    volume = np.linspace(offset, offset + 64, 9 * 9 * 9, dtype=np.float32).reshape(9, 9, 9)
    exact = volume.astype(np.float64)
    low, high = np.percentile(exact, (1, 99))
    expected = np.clip((exact - low) / (high - low), 0, 1)
    scaled = scale(volume, float(low), float(high))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=2e-6)


def test_scaling_leaves_its_input_alone_and_gives_contiguous_memory() -> None:
    crop = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    for part in (crop, crop[:, :, 1:4], crop.T, crop.astype(np.float32)):
        before = part.copy()
        scaled = scale(part, 0, 60)
        assert scaled.flags.c_contiguous
        assert not np.shares_memory(scaled, part)
        np.testing.assert_array_equal(part, before)


@given(SHAPES, SHAPES, SHAPES, st.sampled_from([np.int16, np.float32]), st.integers(0, 99))
def test_several_are_resized_as_each_is_alone_to_the_last_bit(
    one: tuple[int, int, int],
    other: tuple[int, int, int],
    shape: tuple[int, int, int],
    number: type[np.generic],
    seed: int,
) -> None:
    """Of one shape, of several, and those that need no resizing."""
    rng = np.random.default_rng(seed)
    for sides in ([one] * 4, [one, other], [shape] * 2, [one, shape]):
        volumes = [rng.normal(0, 500, side).astype(number) for side in sides]
        for found, volume in zip(resize_all(volumes, shape), volumes, strict=True):
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, resize(volume, shape))
