"""Random views: ranges, shapes, what each step does, and that the generator decides everything."""

from __future__ import annotations

from time import process_time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import GaussianSmooth

from voxseq.transforms import views
from voxseq.transforms.spatial import Item, resize
from voxseq.transforms.views import (
    ViewRecipe,
    blur,
    flip_and_rotate,
    jitter,
    make_view,
    make_views,
    random_resized_crop,
    solarise,
)


def volume(shape=(12, 12, 12), seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def ramps(shape):
    """Three volumes whose voxels hold their own x, y and z."""
    return [grid.astype(np.float32) for grid in np.indices(shape)]


@given(
    seed=st.integers(0, 1000),
    shape=st.sampled_from([(12, 12, 12), (8, 12, 10), (5, 5, 20)]),
    target=st.sampled_from([(8, 8, 8), (4, 8, 12), (16, 16, 4)]),
    low=st.floats(0.01, 1.0),
)
def test_every_view_has_the_shape_and_the_range(seed, shape, target, low):
    recipe = ViewRecipe(target, (low, 1.0), jitter=1.0, blur=1.0, solarise=0.5)
    original = volume(shape, seed)
    before = original.copy()
    view = make_view(original, recipe, np.random.default_rng(seed))
    assert view.shape == target
    assert view.dtype == np.float32
    assert view.flags.c_contiguous
    assert 0 <= float(view.min()) <= float(view.max()) <= 1
    assert np.array_equal(original, before)
    again = make_view(original, recipe, np.random.default_rng(seed))
    assert np.array_equal(view, again)


def test_the_share_of_voxels_is_uniform_and_each_place_is_reached(monkeypatch):
    boxes = []
    monkeypatch.setattr(views, "resize", lambda box, shape: boxes.append(box) or box)
    rng = np.random.default_rng(0)
    x = ramps((40, 60, 80))[0]
    for _ in range(600):
        random_resized_crop(x, (8, 8, 8), (0.2, 0.9), rng)
    shares = np.array([box.size / x.size for box in boxes])
    assert 0.17 < shares.min() < 0.23
    assert 0.87 < shares.max() < 0.93
    assert np.quantile(shares, [0.25, 0.5, 0.75]) == pytest.approx([0.375, 0.55, 0.725], abs=0.04)
    sides = np.array([box.shape for box in boxes]) / x.shape
    assert np.abs(sides - sides.mean(axis=1, keepdims=True)).max() < 0.02
    starts = np.array([box.min() for box in boxes])
    room = np.array([40 - box.shape[0] for box in boxes])
    assert starts.min() == 0
    assert (starts == room).any()
    assert (starts <= room).all()


def test_the_whole_volume_is_only_resized():
    whole = random_resized_crop(volume(), (6, 6, 6), (1.0, 1.0), np.random.default_rng(0))
    assert np.array_equal(whole, resize(volume(), (6, 6, 6)))


def test_flips_and_turns_reach_all_sixteen_poses_and_keep_the_voxels():
    cube, rng = volume((3, 3, 3)), np.random.default_rng(0)
    seen = {}
    for _ in range(2000):
        moved = flip_and_rotate(cube, rng)
        assert np.array_equal(np.sort(moved, axis=None), np.sort(cube, axis=None))
        seen[moved.tobytes()] = seen.get(moved.tobytes(), 0) + 1
    # Four flips of the first two axes and eight turned ones are eight poses, times the third axis.
    assert len(seen) == 16
    x, y, z = ramps((3, 3, 3))
    for _ in range(50):
        state = rng.bit_generator.state
        turned = flip_and_rotate(z, rng)
        assert set(np.unique(turned[:, :, 0])) <= {0.0, 2.0}
        rng.bit_generator.state = state
        assert (np.ptp(flip_and_rotate(x, rng), axis=2) == 0).all()
        assert (np.ptp(flip_and_rotate(y, rng), axis=2) == 0).all()


def test_an_oblong_view_keeps_its_shape():
    rng = np.random.default_rng(0)
    assert {flip_and_rotate(volume((4, 6, 5)), rng).shape for _ in range(40)} == {(4, 6, 5)}


def test_jitter_scales_then_stretches_about_the_mean():
    view = 0.4 + 0.1 * volume()
    seen = []
    for seed in range(200):
        brightness, contrast = np.random.default_rng(seed).uniform(0.6, 1.4, 2)
        bright = view.astype(np.float64) * brightness
        expected = bright.mean() + contrast * (bright - bright.mean())
        assert 0 < expected.min() < expected.max() < 1
        actual = jitter(view, np.random.default_rng(seed))
        np.testing.assert_allclose(actual, expected, atol=1e-6)
        seen.append(float(actual.std() / view.std()))
    assert min(seen) < 0.5
    assert max(seen) > 1.7
    unchanged = jitter(view, np.random.default_rng(0), 0.0)
    np.testing.assert_allclose(unchanged, view, atol=1e-6)


def test_blur_is_that_of_monai_inside_and_leaves_no_dark_rim():
    side = 32
    view = volume((side, side, side))
    sigma = np.random.default_rng(3).uniform(0.1, 2.0, 3) * side / 96
    expected = GaussianSmooth(sigma.tolist())(torch.from_numpy(view)[None])[0].numpy()
    actual = blur(view, np.random.default_rng(3))
    inside = (slice(4, -4),) * 3
    np.testing.assert_allclose(actual[inside], expected[inside], atol=1e-5)
    flat = np.full((16, 16, 16), 0.7, dtype=np.float32)
    np.testing.assert_allclose(blur(flat, np.random.default_rng(0)), flat, atol=1e-5)
    assert float(actual.std()) < float(view.std())


def test_solarise_inverts_the_bright_half():
    view = np.array([0.0, 0.25, 0.4999, 0.5, 0.75, 1.0], dtype=np.float32)
    expected = np.array([0.0, 0.25, 0.4999, 0.5, 0.25, 0.0], dtype=np.float32)
    assert np.array_equal(solarise(view), expected)


@pytest.mark.parametrize("name", ["jitter", "blur", "solarise"])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_each_step_has_its_probability(monkeypatch, name, probability):
    counts = dict.fromkeys(("jitter", "blur", "solarise"), 0)

    def counted(step):
        def apply(view, *arguments):
            counts[step] += 1
            return view

        return apply

    for step in counts:
        monkeypatch.setattr(views, step, counted(step))
    chosen = dict.fromkeys(counts, 0.0) | {name: probability}
    recipe = ViewRecipe((4, 4, 4), (0.5, 1.0), **chosen)
    rng = np.random.default_rng(0)
    for _ in range(500):
        make_view(volume((4, 4, 4)), recipe, rng)
    assert counts[name] == pytest.approx(500 * probability, abs=35)
    assert sum(counts.values()) == counts[name]


def test_a_batch_has_one_view_of_each_item():
    items = [Item(np.full((8, 8, 8), level, dtype=np.float32)) for level in (0.1, 0.5, 0.9)]
    recipe = ViewRecipe((4, 4, 8), (0.3, 1.0), jitter=0.0, blur=0.0)
    batch = make_views(items, recipe, np.random.default_rng(0))
    assert batch.shape == (3, 1, 4, 4, 8)
    assert batch.dtype == torch.float32
    assert batch.flatten(1).mean(dim=1).tolist() == pytest.approx([0.1, 0.5, 0.9])


@pytest.mark.parametrize(
    "wrong", [{"scale": (0.0, 1.0)}, {"scale": (0.5, 0.4)}, {"scale": (0.5, 1.1)}, {"blur": 1.5}]
)
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ViewRecipe(**{"shape": (8, 8, 8), "scale": (0.5, 1.0)} | wrong)


def test_a_small_view_takes_at_most_a_millisecond():
    original, rng = volume((16, 16, 16)), np.random.default_rng(0)
    recipe = ViewRecipe((16, 16, 16), (0.2, 1.0), 1.0, 1.0, 1.0)
    make_view(original, recipe, rng)
    began = process_time()
    for _ in range(200):
        make_view(original, recipe, rng)
    assert (process_time() - began) / 200 < 1e-3
