"""Boxes, resampling and corruption of PCRLv2's views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.training import phantom
from voxseq.transforms.pcrlv2 import (
    Box,
    Corruption,
    box_near,
    intersection_over_union,
    overlapping_boxes,
    random_box,
    resample,
    swap_blocks,
    view_matrix,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(0, 10_000), st.floats(0.1, 1.0), st.floats(0.0, 1.0))
def test_boxes_lie_in_the_volume_and_overlap_as_asked(seed, low, more):
    side = (low, low + more * (1 - low))
    one, other = overlapping_boxes(side, 0.3, rng(seed))
    near = box_near((one, other), side, rng(seed))
    assert intersection_over_union(one, other) > 0.3
    for box in (one, other, near):
        assert (box.ends()[0] >= -1e-12).all()
        assert (box.ends()[1] <= 1 + 1e-12).all()
        assert side[0] - 1e-12 <= 2 * box.half[0] <= side[1] + 1e-12


def test_intersection_over_union_by_hand():
    one = Box(np.array([0.25, 0.5, 0.5]), np.array([0.25, 0.5, 0.5]))
    other = Box(np.array([0.5, 0.5, 0.5]), np.array([0.25, 0.5, 0.5]))
    assert intersection_over_union(one, other) == pytest.approx(0.25 / 0.75)
    apart = Box(np.array([0.9, 0.5, 0.5]), np.array([0.1, 0.5, 0.5]))
    assert intersection_over_union(one, apart) == 0.0
    assert intersection_over_union(one, one) == pytest.approx(1.0)


def test_a_small_box_lies_near_the_union_of_the_large_ones():
    corner = Box(np.full(3, 0.2), np.full(3, 0.2))
    for seed in range(50):
        centre = box_near((corner, corner), (0.1, 0.1), rng(seed)).centre
        assert (centre <= 0.4).all()


def test_a_plain_matrix_reads_the_box():
    volume = torch.from_numpy(phantom(0))[None, None]
    linear = np.concatenate([np.eye(3) * 0.5, np.array([[-0.5], [0.5], [0.0]])], axis=1)
    view = resample(volume, linear[None], (8, 8, 8))
    assert torch.allclose(view[0, 0], volume[0, 0, :8, 8:, 4:12], atol=1e-5)


def test_views_differ_in_turn_size_and_flip():
    box = random_box((0.5, 0.5), rng(1))
    matrices = np.stack([view_matrix(box, rng(seed)) for seed in range(300)])
    assert np.allclose(matrices[:, :, 3], 2 * box.centre - 1)
    linear = matrices[:, :, :3] / (2 * box.half[:, None])
    # Columns are a turned frame, each divided by the size of its own axis.
    sizes = 1 / np.linalg.norm(linear, axis=1)
    assert 0.9 - 1e-9 <= sizes.min() < 0.91
    assert 1.09 < sizes.max() <= 1.1 + 1e-9
    assert np.abs(sizes[:, 0] - sizes[:, 1]).max() > 0.1
    frames = linear * sizes[:, None]
    assert np.allclose(frames.transpose(0, 2, 1) @ frames, np.eye(3))
    flipped = np.linalg.det(frames) < 0
    assert 0.4 < flipped.mean() < 0.6
    diagonals = np.diagonal(frames, axis1=1, axis2=2)
    # Three turns of 10° leave each axis within 17.5° of itself; only the first one is flipped.
    assert ((diagonals[:, 0] < 0) == flipped).all()
    assert np.abs(diagonals).min() > np.cos(np.deg2rad(17.5))
    assert (diagonals[:, 1:] > 0).all()


def test_a_flip_reverses_the_first_axis():
    volume = torch.from_numpy(phantom(0))[None, None]
    flip = np.diag([-1.0, 1.0, 1.0, 0.0])[None, :3]
    assert torch.allclose(resample(volume, flip, (16, 16, 16)), volume.flip(2), atol=1e-5)


@given(st.integers(0, 10_000), st.integers(0, 30))
def test_swapping_blocks_moves_voxels_within_a_view_and_keeps_them_all(seed, swaps):
    views = np.arange(3 * 8 * 6 * 10, dtype=np.float32).reshape(3, 8, 6, 10)
    before = views.copy()
    swapped = swap_blocks(views, swaps, (2, 1, 3), rng(seed))
    assert np.array_equal(views, before)
    assert np.array_equal(np.sort(swapped.reshape(3, -1)), before.reshape(3, -1))


def test_one_swap_exchanges_two_whole_blocks():
    views = np.arange(20 * 4 * 5 * 6, dtype=np.float32).reshape(20, 4, 5, 6)
    places = set()
    for view, swapped in zip(views, swap_blocks(views, 1, (2, 2, 2), rng(0)), strict=True):
        moved = np.argwhere(swapped != view)
        assert len(moved) in (0, 16)
        if len(moved):
            one = moved[0] + np.argwhere(np.ones((2, 2, 2)))
            other = np.array([m for m in moved if not (m == one).all(axis=1).any()])
            assert np.array_equal(swapped[tuple(one.T)], view[tuple(other.T)])
            assert np.array_equal(swapped[tuple(other.T)], view[tuple(one.T)])
            places.add((*one[0], *other[0]))
    assert len(places) > 10


def test_a_hundred_swaps_disturb_the_source_s_share_of_a_view_at_any_size():
    def moved(shape, swaps, block):
        views = np.arange(4 * np.prod(shape), dtype=np.float32).reshape(4, *shape)
        return (swap_blocks(views, swaps, block, rng(0)) != views).mean()

    source = moved((64, 64, 32), 100, (8, 4, 4))
    assert moved((96, 96, 96), 100, (12, 6, 12)) == pytest.approx(source, abs=0.02)
    assert moved((12, 12, 12), 42, (2, 1, 2)) == pytest.approx(source, abs=0.03)


def test_corruption_standardises_each_view_and_is_seeded():
    views = np.stack([phantom(seed) for seed in range(3)])
    before = views.copy()
    corruption = Corruption(2.0, 64, 0.25, 10, (2, 1, 2))
    made = corruption(views, rng(0))
    assert np.array_equal(views, before)
    assert made.dtype == np.float32
    assert np.abs(made.mean(axis=(1, 2, 3))).max() < 1e-5
    assert made.std(axis=(1, 2, 3)) == pytest.approx(1.0, abs=1e-4)
    assert np.array_equal(made, corruption(views, rng(0)))
    assert not np.array_equal(made, corruption(views, rng(1)))


def test_blur_is_in_proportion_to_the_view():
    block = np.zeros((1, 16, 16, 16), dtype=np.float32)
    block[:, 4:12, 4:12, 4:12] = 1
    sharp, blurred = (
        Corruption(1e-3, 16, 0.0)(block, rng(3)),
        Corruption(2.0, 16, 0.0)(block, rng(3)),
    )
    weak = Corruption(2.0, 64, 0.0)(block, rng(3))
    assert np.abs(blurred - sharp).mean() > 3 * np.abs(weak - sharp).mean()


def test_gamma_lies_in_its_range():
    flat = np.full((200, 6, 6, 6), 0.5, dtype=np.float32)
    flat[:, 0] = 0.25
    flat[:, 1] = 1.0
    levels = Corruption(0.0, 64, 0.0)(flat, rng(0))[:, :3, 0, 0]
    ratio = (levels[:, 2] - levels[:, 0]) / (levels[:, 1] - levels[:, 0])
    gammas = np.array([np.exp(-0.3), 1.0, np.exp(0.3)])
    low, middle, high = sorted((0.5**gammas - 0.25**gammas) / (1 - 0.25**gammas))
    assert low - 1e-3 <= ratio.min() < middle < ratio.max() <= high + 1e-3


def test_noise_lies_in_its_range(monkeypatch):
    monkeypatch.setattr("voxseq.transforms.pcrlv2._LOG_GAMMA", 0.0)
    halves = np.full((200, 8, 8, 8), 0.25, dtype=np.float32)
    halves[:, 4:] = 0.75
    made = Corruption(0.0, 64, 0.25)(halves, rng(0)).reshape(200, 2, -1)
    low, high = made.mean(axis=2).T
    deviations = made[:, 0].std(axis=1) / (high - low) * 0.5
    assert deviations.min() < 0.01
    assert 0.22 < deviations.max() < 0.29
    assert deviations.mean() == pytest.approx(0.125, abs=0.02)
