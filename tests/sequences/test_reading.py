"""From boxes to voxels: resizing, scaling, sliding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from voxseq.sequences.reading import resize, scale_percentiles, slide, start_count

SIDES = st.integers(1, 9)
SHAPES = st.tuples(SIDES, SIDES, SIDES)
VOLUMES = stn.arrays(np.int16, SHAPES, elements=st.integers(-2000, 2000))


@settings(deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 6))
def test_sliding_is_explicit_indexing(
    data: st.DataObject, stride: int, thickness: int, length: int, spare: int
) -> None:
    depth = stride * (length - 1) + thickness + spare
    start = data.draw(st.integers(0, spare))
    crop = np.random.default_rng(depth).random((2, 3, depth), dtype=np.float32)
    joined = slide(crop, start, stride, thickness, length)
    assert joined.shape == (2, 3, length * thickness)
    assert joined.flags.c_contiguous
    for i in range(length):
        for t in range(thickness):
            np.testing.assert_array_equal(
                joined[:, :, i * thickness + t], crop[:, :, start + i * stride + t]
            )


def test_published_geometry_by_hand() -> None:
    """Depth 160, stride 11, thickness 16 of length 4: the starts are 0..63 of the paper's code."""
    assert start_count(160, 11, 16, 4, 63) == 64
    depth = np.arange(20, dtype=np.float32).reshape(1, 1, 20)
    assert slide(depth, 3, 4, 2, 4).ravel().tolist() == [3, 4, 7, 8, 11, 12, 15, 16]
    assert slide(depth, 0, 1, 3, 3).ravel().tolist() == [0, 1, 2, 1, 2, 3, 2, 3, 4]


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_every_counted_start_fits_and_the_next_does_not(
    depth: int, stride: int, thickness: int, length: int
) -> None:
    count = start_count(depth, stride, thickness, length, None)
    crop = np.zeros((1, 1, depth), np.float32)
    for start in range(max(count, 0)):
        slide(crop, start, stride, thickness, length)
    for start in (-1, max(count, 0)):
        with pytest.raises(ValueError, match="windows reach"):
            slide(crop, start, stride, thickness, length)
    for most in range(4):
        assert start_count(depth, stride, thickness, length, most) == min(count, most + 1)


@settings(deadline=None)
@given(VOLUMES, SHAPES)
def test_resizing_is_that_of_monai(volume: np.ndarray, shape: tuple[int, int, int]) -> None:
    from monai.transforms import Resize

    reference = Resize(shape, mode="trilinear", align_corners=False)(
        torch.from_numpy(volume.astype(np.float32))[None]
    )
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
@given(VOLUMES)
def test_an_unchanged_shape_keeps_the_voxels(volume: np.ndarray) -> None:
    np.testing.assert_array_equal(resize(volume, volume.shape), volume.astype(np.float32))


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


@settings(deadline=None)
@given(VOLUMES, st.sampled_from([0.5, 2.0, 8.0]), st.integers(-50, 50))
def test_scaling_does_not_depend_on_units(volume: np.ndarray, factor: float, offset: int) -> None:
    values = volume.astype(np.float32)
    one = scale_percentiles(values, (1, 99.9))
    two = scale_percentiles(values * np.float32(factor) + np.float32(offset), (1, 99.9))
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_published_percentiles_by_hand() -> None:
    values = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)
    scaled = scale_percentiles(values, (1.0, 99.9)).ravel()
    assert scaled[:11].tolist() == [0] * 11
    assert scaled[999:].tolist() == [1, 1]
    assert scaled[10 + 989 // 2] == pytest.approx((989 // 2) / 989, rel=1e-5)


def test_a_constant_crop_becomes_zeros() -> None:
    assert not scale_percentiles(np.full((2, 2, 2), 7, np.float32), (1, 99.9)).any()
