"""Boxes, resampling and corruption of PCRLv2's views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training import phantom
from voxseq.pretrain.pcrlv2_views import (
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


def test_views_differ_in_turn_scale_and_flip():
    box = random_box((0.5, 0.5), rng(1))
    matrices = np.stack([view_matrix(box, rng(seed)) for seed in range(200)])
    determinants = np.linalg.det(matrices[:, :, :3] / (2 * box.half[:, None]))
    scales = np.cbrt(np.abs(determinants))
    assert scales.min() >= 0.9 - 1e-9
    assert scales.max() <= 1.1 + 1e-9
    assert 0.35 < (determinants < 0).mean() < 0.65
    assert np.allclose(matrices[:, :, 3], 2 * box.centre - 1)
    angles = matrices[:, :, :3] / (2 * box.half[:, None]) / scales[:, None, None]
    assert np.abs(np.abs(np.diagonal(angles, axis1=1, axis2=2))).min() > np.cos(np.deg2rad(17.5))


@given(st.integers(0, 10_000), st.integers(0, 30))
def test_swapping_blocks_moves_voxels_and_keeps_them_all(seed, swaps):
    view = np.arange(8 * 6 * 10, dtype=np.float32).reshape(8, 6, 10)
    before = view.copy()
    swapped = swap_blocks(view, swaps, (2, 1, 3), rng(seed))
    assert np.array_equal(view, before)
    assert np.array_equal(np.sort(swapped.ravel()), before.ravel())


def test_one_swap_exchanges_two_whole_blocks():
    view = np.arange(4 * 4 * 4, dtype=np.float32).reshape(4, 4, 4)
    for seed in range(20):
        moved = np.argwhere(swap_blocks(view, 1, (2, 2, 2), rng(seed)) != view)
        assert len(moved) in (0, 16)


def test_corruption_standardises_and_is_seeded():
    view = phantom(0)
    made = Corruption(2.0, 0.25, 10, (2, 1, 2))(view, rng(0))
    assert made.dtype == np.float32
    assert abs(made.mean()) < 1e-5
    assert made.std() == pytest.approx(1.0, abs=1e-4)
    assert np.array_equal(made, Corruption(2.0, 0.25, 10, (2, 1, 2))(view, rng(0)))
    assert not np.array_equal(made, Corruption(2.0, 0.25, 10, (2, 1, 2))(view, rng(1)))


def test_a_constant_view_stays_finite():
    made = Corruption(0.0, 0.0)(np.zeros((4, 4, 4), dtype=np.float32), rng(0))
    assert np.array_equal(made, np.zeros((4, 4, 4)))
