"""Random views: what is drawn, and what is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.transforms.test_blur import by_scipy
from voxseq.transforms.spatial import Triple, resize
from voxseq.transforms.views import DRAWN, ViewRecipe, jitter, turned

SHAPES = [(12, 12, 12), (8, 12, 10), (5, 5, 20)]
TARGETS = [(8, 8, 8), (4, 8, 12), (16, 16, 4)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def volumes(shape: Triple = (12, 12, 12), count: int = 1) -> Tensor:
    return torch.rand(count, 1, *shape, generator=torch.Generator().manual_seed(0))


def drawn_by(recipe: ViewRecipe, shape: Triple, count: int, seed: int = 0) -> np.ndarray:
    stream = rng(seed)
    return np.stack([recipe.draw(shape, stream) for _ in range(count)])


def plain(shape: Triple, **changes: Any) -> np.ndarray:
    """One record of a view that is the whole volume, but for ``changes``."""
    drawn = np.zeros(1, DRAWN)
    drawn["size"], drawn["brightness"], drawn["contrast"] = shape, 1.0, 1.0
    for name, value in changes.items():
        drawn[name] = value
    return drawn


def by_hand(volume: np.ndarray, shape: Triple, drawn: np.ndarray) -> np.ndarray:
    """One view of (X, Y, Z), step by step in NumPy."""
    box = tuple(
        slice(int(s), int(s + n)) for s, n in zip(drawn["start"], drawn["size"], strict=True)
    )
    view = np.flip(resize(volume[box], shape), np.flatnonzero(drawn["flips"]).tolist())
    view = np.rot90(view, int(drawn["turns"]), (0, 1))
    bright = np.minimum(view * np.float32(drawn["brightness"]), np.float32(1))
    mean = bright.mean(dtype=np.float32)
    view = np.clip((bright - mean) * np.float32(drawn["contrast"]) + mean, 0, 1)
    if drawn["sigma"].any():
        view = by_scipy(view, drawn["sigma"])
    if drawn["solarised"]:
        view = np.where(view >= 0.5, 1 - view, view)
    return np.clip(view, 0, 1)


@given(
    seed=st.integers(0, 1000),
    shape=st.sampled_from(SHAPES),
    target=st.sampled_from(TARGETS),
    low=st.floats(0.01, 1.0),
)
def test_a_view_is_what_was_drawn_of_it(
    seed: int, shape: Triple, target: Triple, low: float
) -> None:
    recipe = ViewRecipe(target, (low, 1.0), jitter=0.7, blur=0.7, solarise=0.4)
    source, drawn = volumes(shape, 3), drawn_by(recipe, shape, 3, seed)
    before = source.clone()
    views = recipe.make(source, drawn)
    assert torch.equal(source, before)
    assert views.shape == (3, 1, *target)
    assert views.dtype == torch.float32
    assert views.is_contiguous()
    assert 0 <= float(views.min()) <= float(views.max()) <= 1
    for view, volume, each in zip(views[:, 0].numpy(), source[:, 0].numpy(), drawn, strict=True):
        expected = by_hand(volume, target, each)
        # Rounding decides on which side of 0.5 a voxel is.
        far = np.abs(expected - 0.5) > 1e-4
        np.testing.assert_allclose(view[far], expected[far], atol=2e-6)


@given(st.integers(0, 1000), st.integers(2, 9), st.sampled_from(TARGETS))
def test_each_view_of_a_batch_is_the_one_made_alone(seed: int, count: int, target: Triple) -> None:
    recipe = ViewRecipe(target, (0.1, 1.0), jitter=0.5, blur=0.5, solarise=0.5)
    source, drawn = volumes(count=count), drawn_by(recipe, (12, 12, 12), count, seed)
    together = recipe.make(source, drawn)
    for row in range(count):
        alone = recipe.make(source[row : row + 1], drawn[row : row + 1])
        assert torch.equal(alone[0], together[row])


def test_the_stream_decides_what_is_drawn_and_nothing_else_is_random() -> None:
    recipe = ViewRecipe((8, 8, 8), (0.2, 1.0), 0.5, 0.5, 0.5)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first, again, other = (drawn_by(recipe, (12, 12, 12), 5, seed) for seed in (0, 0, 1))
    assert first.tobytes() == again.tobytes() != other.tobytes()
    made = [recipe.make(volumes(count=5), first) for _ in range(2)]
    assert torch.equal(*made)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_share_of_voxels_is_uniform_and_each_place_is_reached() -> None:
    recipe, shape = ViewRecipe((8, 8, 8), (0.2, 0.9)), (40, 60, 80)
    drawn = drawn_by(recipe, shape, 600)
    sizes, starts = drawn["size"], drawn["start"]
    shares = (sizes / shape).prod(axis=1)
    assert 0.17 < shares.min() < 0.23
    assert 0.87 < shares.max() < 0.93
    assert np.quantile(shares, [0.25, 0.5, 0.75]) == pytest.approx([0.375, 0.55, 0.725], abs=0.04)
    sides = sizes / shape
    assert np.abs(sides - sides.mean(axis=1, keepdims=True)).max() < 0.02
    assert (starts == np.round(starts)).all()
    room = shape - sizes
    assert (starts >= 0).all()
    assert (starts <= room).all()
    for axis in range(3):
        assert (starts[:, axis] == 0).any()
        assert (starts[:, axis] == room[:, axis]).any()
        places = starts[:, axis] / np.maximum(room[:, axis], 1)
        assert places.mean() == pytest.approx(0.5, abs=0.05)


def test_the_whole_volume_is_only_resized() -> None:
    recipe = ViewRecipe((6, 6, 6), (1.0, 1.0))
    view = recipe.make(volumes(), plain((12, 12, 12)))
    expected = resize(volumes()[0, 0].numpy(), (6, 6, 6))
    np.testing.assert_allclose(view[0, 0].numpy(), expected, atol=1e-6)
    drawn = drawn_by(ViewRecipe((6, 6, 6), (1.0, 1.0), jitter=0.0, blur=0.0), (12, 12, 12), 1)
    assert (drawn["size"] == 12).all()
    assert not drawn["start"].any()


def test_a_crop_of_the_view_s_shape_is_not_resized() -> None:
    recipe = ViewRecipe((8, 8, 8), (0.2, 1.0))
    source = volumes()
    view = recipe.make(source, plain((8, 8, 8), start=(3, 0, 4)))
    torch.testing.assert_close(view, source[:, :, 3:11, :8, 4:12], atol=1e-6, rtol=0)


def poses(shape: Triple, count: int) -> list[Tensor]:
    recipe = ViewRecipe(shape, (1.0, 1.0))
    drawn = drawn_by(recipe, shape, count)
    return [turned(volumes(shape)[0, 0], each) for each in drawn]


def test_flips_and_turns_reach_all_sixteen_poses_and_keep_the_voxels() -> None:
    cube = np.sort(volumes((3, 3, 3)).numpy(), axis=None)
    seen: dict[bytes, int] = {}
    for moved in poses((3, 3, 3), 2000):
        assert np.array_equal(np.sort(moved.numpy(), axis=None), cube)
        seen[moved.numpy().tobytes()] = seen.get(moved.numpy().tobytes(), 0) + 1
    # Four flips of the first two axes and eight turned ones are eight poses, times the third axis.
    assert len(seen) == 16


def test_the_third_axis_is_flipped_and_never_turned() -> None:
    recipe = ViewRecipe((3, 3, 3), (1.0, 1.0))
    x, y, z = (torch.from_numpy(grid.astype(np.float32)) for grid in np.indices((3, 3, 3)))
    for each in drawn_by(recipe, (3, 3, 3), 50):
        assert set(turned(z, each)[:, :, 0].unique().tolist()) <= {0.0, 2.0}
        for ramp in (x, y):
            assert (np.ptp(turned(ramp, each).numpy(), axis=2) == 0).all()


def test_each_axis_is_flipped_and_the_view_turned_half_of_the_time() -> None:
    drawn = drawn_by(ViewRecipe((4, 4, 6), (1.0, 1.0)), (4, 4, 6), 2000)
    assert drawn["flips"].mean(axis=0) == pytest.approx([0.5] * 3, abs=0.04)
    turns = [(drawn["turns"] == quarter).mean() for quarter in range(4)]
    assert turns == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6], abs=0.04)


def test_an_oblong_view_keeps_its_shape() -> None:
    assert {tuple(moved.shape) for moved in poses((4, 6, 5), 40)} == {(4, 6, 5)}
    drawn = drawn_by(ViewRecipe((4, 6, 5), (1.0, 1.0)), (4, 6, 5), 400)
    assert set(drawn["turns"].tolist()) == {0.0, 2.0}


def test_jitter_scales_then_stretches_about_the_mean() -> None:
    recipe = ViewRecipe((12, 12, 12), (1.0, 1.0), jitter=1.0)
    drawn = drawn_by(recipe, (12, 12, 12), 200)
    views = (0.4 + 0.1 * volumes(count=200))[:, 0]
    source = views.double().numpy()
    jitter(views, drawn)
    seen = []
    for actual, view, each in zip(views.numpy(), source, drawn, strict=True):
        bright = view * each["brightness"]
        expected = bright.mean() + each["contrast"] * (bright - bright.mean())
        assert 0 < expected.min() < expected.max() < 1
        np.testing.assert_allclose(actual, expected, atol=1e-6)
        seen.append(float(actual.std() / view.std()))
    assert min(seen) < 0.5
    assert max(seen) > 1.7
    for name in ("brightness", "contrast"):
        assert 0.6 <= drawn[name].min() < 0.62
        assert 1.38 < drawn[name].max() <= 1.4
        assert drawn[name].mean() == pytest.approx(1.0, abs=0.05)


def test_jitter_clips_after_each_of_its_two_steps() -> None:
    view = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    jitter(view, plain((3, 1, 1), brightness=1.4, contrast=1.4))
    # 0, 0.7, 1 of mean 0.5667, stretched.
    expected = np.clip(0.56667 + 1.4 * (np.array([0, 0.7, 1]) - 0.56667), 0, 1)
    assert view.flatten().tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_views_without_a_change_of_intensity_keep_their_voxels() -> None:
    views = volumes(count=2)[:, 0]
    before = views.clone()
    jitter(views, np.concatenate([plain((12, 12, 12))] * 2))
    torch.testing.assert_close(views, before, atol=1e-6, rtol=0)


def test_widths_of_the_blur_are_in_proportion_to_the_view() -> None:
    recipe = ViewRecipe((48, 96, 12), (1.0, 1.0), blur=1.0)
    sigma = drawn_by(recipe, (96, 96, 96), 500)["sigma"] * (96 / np.array([48, 96, 12]))
    assert sigma.min() == pytest.approx(0.1, abs=0.02)
    assert sigma.max() == pytest.approx(2.0, abs=0.02)
    assert sigma.mean(axis=0) == pytest.approx([1.05] * 3, abs=0.1)
    assert np.abs(sigma[:, 0] - sigma[:, 1]).max() > 1


def test_views_without_blur_keep_their_details() -> None:
    """A batch of both kinds: only those that were drawn are blurred."""
    drawn = np.concatenate([plain((8, 8, 8)), plain((8, 8, 8), sigma=(0.1, 0.1, 0.15))])
    source = volumes((8, 8, 8), 2)
    views = ViewRecipe((8, 8, 8), (1.0, 1.0)).make(source, drawn)
    torch.testing.assert_close(views[0], source[0], atol=1e-6, rtol=0)
    assert float((views[1] - source[1]).abs().max()) > 1e-5


def test_solarise_inverts_the_bright_half() -> None:
    values = torch.tensor([0.0, 0.25, 0.4999, 0.5, 0.75, 1.0]).view(1, 1, 6, 1, 1)
    recipe = ViewRecipe((6, 1, 1), (1.0, 1.0))
    view = recipe.make(values, plain((6, 1, 1), solarised=1.0))
    expected = [0.0, 0.25, 0.4999, 0.5, 0.25, 0.0]
    assert view.flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["jitter", "blur", "solarise"])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_each_step_has_its_probability(name: str, probability: float) -> None:
    chosen = dict.fromkeys(("jitter", "blur", "solarise"), 0.0) | {name: probability}
    drawn = drawn_by(ViewRecipe((4, 4, 4), (0.5, 1.0), **chosen), (4, 4, 4), 500)
    happened = {
        "jitter": (drawn["brightness"] != 1) & (drawn["contrast"] != 1),
        "blur": (drawn["sigma"] > 0).all(axis=1),
        "solarise": drawn["solarised"] == 1,
    }
    for step, marks in happened.items():
        assert marks.sum() == pytest.approx(500 * chosen[step], abs=35)


def test_a_batch_has_one_view_of_each_item() -> None:
    levels = torch.tensor([0.1, 0.5, 0.9])
    recipe = ViewRecipe((4, 4, 8), (0.3, 1.0), jitter=0.0, blur=0.0)
    source = levels.view(3, 1, 1, 1, 1).expand(3, 1, 8, 8, 8)
    views = recipe.make(source, drawn_by(recipe, (8, 8, 8), 3))
    assert views.shape == (3, 1, 4, 4, 8)
    assert views.flatten(1).mean(dim=1).tolist() == pytest.approx(levels.tolist())


def test_white_and_black_stay_in_range() -> None:
    """Kernels and trilinear weights sum to 1 up to rounding only."""
    recipe = ViewRecipe((9, 9, 9), (0.2, 1.0), jitter=0.0, blur=1.0)
    for level in (0.0, 1.0):
        source = torch.full((4, 1, 12, 12, 12), level)
        views = recipe.make(source, drawn_by(recipe, (12, 12, 12), 4))
        assert 0 <= float(views.min()) <= float(views.max()) <= 1
        assert F.mse_loss(views, torch.full_like(views, level)) < 1e-9


@pytest.mark.parametrize(
    "wrong", [{"scale": (0.0, 1.0)}, {"scale": (0.5, 0.4)}, {"scale": (0.5, 1.1)}, {"blur": 1.5}]
)
def test_impossible_recipes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ViewRecipe(**{"shape": (8, 8, 8), "scale": (0.5, 1.0)} | wrong)
