"""Boxes, resampling and corruption of PCRLv2's views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tests.helpers.training import phantom
from voxseq.transforms import pcrlv2
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


@pytest.mark.parametrize("shape", [(12, 12, 12), (9, 16, 5)])
@pytest.mark.parametrize("piece", [1, 3, 32])
def test_resampling_is_that_of_an_affine_grid(monkeypatch, piece, shape):
    """However many views are read at a time, and each as it is read alone."""
    monkeypatch.setattr(pcrlv2, "PIECE", piece)
    volumes = torch.from_numpy(np.stack([phantom(seed) for seed in range(7)]))[:, None]
    stream = rng(1)
    matrices = np.stack([view_matrix(random_box((0.3, 1.0), stream), stream) for _ in range(7)])
    theta = torch.from_numpy(matrices[:, ::-1][:, :, [2, 1, 0, 3]].copy()).float()
    grid = F.affine_grid(theta, [7, 1, *shape], align_corners=False)
    expected = F.grid_sample(volumes, grid, padding_mode="border", align_corners=False)
    views = resample(volumes, matrices, shape)
    torch.testing.assert_close(views, expected, atol=1e-5, rtol=0)
    for row in range(7):
        alone = resample(volumes[row : row + 1], matrices[row : row + 1], shape)
        assert torch.equal(alone[0], views[row])


def swapped_by_hand(view, starts, block):
    """One pair of blocks after the other; pairs that overlap are left out."""
    made = view.copy()
    for one, other in starts.astype(int):
        if (np.abs(one - other) >= block).any():
            here, there = (
                tuple(slice(s, s + n) for s, n in zip(c, block, strict=True)) for c in (one, other)
            )
            kept = made[here].copy()
            made[here] = made[there]
            made[there] = kept
    return made


def starts_of(shape, block, count, swaps, seed):
    return rng(seed).integers(0, np.subtract(shape, block) + 1, (count, swaps, 2, 3))


@given(st.integers(0, 10_000), st.integers(0, 30), st.sampled_from([(2, 1, 3), (4, 4, 4)]))
def test_swapping_blocks_is_the_plain_loop(seed, swaps, block):
    shape = (8, 6, 10)
    views = np.arange(3 * np.prod(shape), dtype=np.float32).reshape(3, *shape)
    starts = starts_of(shape, block, 3, swaps, seed)
    made = torch.from_numpy(views.copy())
    swap_blocks(made, starts, block)
    for swapped, view, each in zip(made.numpy(), views, starts, strict=True):
        assert np.array_equal(swapped, swapped_by_hand(view, each, block))
        assert np.array_equal(np.sort(swapped, axis=None), view.ravel())


def test_a_hundred_swaps_disturb_the_source_s_share_of_a_view_at_any_size():
    def moved(shape, swaps, block):
        corruption = Corruption(shape, 0.0, 64, 0.0, swaps, block)
        views = torch.arange(4.0 * np.prod(shape)).reshape(4, *shape)
        made = views.clone()
        starts = np.stack([corruption.draw(rng(seed))["starts"] for seed in range(4)])
        swap_blocks(made, starts.astype(np.int64), block)
        return float((made != views).float().mean())

    source = moved((64, 64, 32), 100, (8, 4, 4))
    assert moved((96, 96, 96), 100, (12, 6, 12)) == pytest.approx(source, abs=0.02)
    assert moved((12, 12, 12), 42, (2, 1, 2)) == pytest.approx(source, abs=0.03)


SIDE = 16
CORRUPTIONS = [
    Corruption((SIDE,) * 3, 2.0, 64, 0.25, 10, (2, 1, 2)),
    Corruption((SIDE,) * 3, 2.0, 16, 0.25),
    Corruption((8, SIDE, 12), 1.0, 8, 0.0, 25, (4, 4, 4)),
]


def phantoms(shape=(SIDE,) * 3, count=3):
    views = np.stack([phantom(seed) for seed in range(count)])
    return torch.from_numpy(views[:, None, : shape[0], : shape[1], : shape[2]].copy())


def drawn_by(corruption, count=3, seed=0):
    return np.stack([corruption.draw(rng(seed + n)) for n in range(count)])


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_corruption_is_that_of_the_plain_way(corruption):
    """SciPy's blur, noise, gamma, exchanges and standardisation of each view by itself."""
    views, drawn = phantoms(corruption.shape), drawn_by(corruption)
    before = views.clone()
    made = corruption(views, drawn)
    assert torch.equal(views, before)
    assert made.dtype == torch.float32
    for found, view, each in zip(made[:, 0].numpy(), views[:, 0].numpy(), drawn, strict=True):
        expected = ndimage.gaussian_filter(view, each["sigma"], mode="nearest", truncate=3.0)
        noise = torch.Generator().manual_seed(int(each["seed"]))
        noise = torch.randn(corruption.shape, generator=noise).numpy()
        expected = expected + np.float32(each["noise"]) * noise
        expected = np.sign(expected) * np.abs(expected) ** np.float32(each["gamma"])
        expected = swapped_by_hand(expected, each["starts"], corruption.block)
        expected = (expected - expected.mean()) / expected.std()
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_each_view_is_corrupted_as_it_is_alone(corruption):
    views, drawn = phantoms(corruption.shape, 5), drawn_by(corruption, 5)
    together = corruption(views, drawn)
    for row in range(5):
        alone = corruption(views[row : row + 1], drawn[row : row + 1])
        assert torch.equal(alone[0], together[row])


def test_what_is_drawn_is_seeded_and_so_is_the_noise():
    corruption, views = CORRUPTIONS[0], phantoms()
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first, again, other = (corruption(views, drawn_by(corruption, 3, s)) for s in (0, 0, 9))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    drawn = drawn_by(corruption)
    drawn["seed"][1] = drawn["seed"][0]
    drawn["seed"][2] += 1
    changed = corruption(views, drawn)
    assert torch.equal(changed[0], first[0])
    assert not torch.equal(changed[1], first[1])
    assert not torch.equal(changed[2], first[2])


def test_corruption_standardises_each_view():
    made = CORRUPTIONS[0](phantoms(), drawn_by(CORRUPTIONS[0]))
    assert float(made.mean(dim=(1, 2, 3, 4)).abs().max()) < 1e-5
    assert made.std(dim=(1, 2, 3, 4), correction=0).tolist() == pytest.approx([1.0] * 3, abs=1e-4)


def test_flat_views_stay_finite():
    corruption = Corruption((SIDE,) * 3, 2.0, 64, 0.0, 4, (2, 2, 2))
    made = corruption(torch.full((3, 1, *(SIDE,) * 3), 0.5), drawn_by(corruption))
    assert made.isfinite().all()
    assert float(made.abs().max()) < 10


def test_widths_of_the_blur_are_in_proportion_to_the_view():
    drawn = drawn_by(Corruption((32, 64, 16), 2.0, 64, 0.0), 600)["sigma"]
    largest = np.array([1.0, 2.0, 0.5])
    assert (drawn <= largest).all()
    assert drawn.max(axis=0) == pytest.approx(largest, rel=0.03)
    assert drawn.mean(axis=0) == pytest.approx(largest / 2, rel=0.1)
    assert np.abs(drawn[:, 0] / 1.0 - drawn[:, 1] / 2.0).max() > 0.5


def test_powers_noise_and_blocks_lie_in_their_ranges():
    corruption = Corruption((8, 12, 10), 1.0, 64, 0.25, 4, (2, 1, 3))
    drawn = drawn_by(corruption, 600)
    logarithm = np.log(drawn["gamma"])
    assert -0.3 <= logarithm.min() < -0.29
    assert 0.29 < logarithm.max() <= 0.3
    assert logarithm.mean() == pytest.approx(0.0, abs=0.03)
    assert 0 <= drawn["noise"].min() < 0.01
    assert 0.24 < drawn["noise"].max() <= 0.25
    assert drawn["noise"].mean() == pytest.approx(0.125, abs=0.01)
    assert drawn["starts"].min(axis=(0, 1, 2)).tolist() == [0, 0, 0]
    # Blocks end with the view.
    assert drawn["starts"].max(axis=(0, 1, 2)).tolist() == [6, 11, 7]
    assert len(np.unique(drawn["seed"])) == 600
    assert (drawn["seed"] == np.round(drawn["seed"])).all()
