"""Sizes that follow from images and machine."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.study.conftest import Seen
from voxseq.study.look import Shape, Spacing
from voxseq.study.machine import Machine
from voxseq.study.presets import (
    PRESETS,
    choose,
    class_weights,
    geometry,
    median_spacing,
    pretraining_steps,
    segmentation_steps,
    window,
)

CPU = Machine(2, "", 24 * 10**9, 1e11, 1e11)
HIPPOCAMPUS = ((36, 51, 35), (1.0, 1.0, 1.0))
ABDOMEN = ((512, 512, 90), (0.79, 0.79, 5.0))
TORSO = ((400, 350, 500), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("shape", "spacing"), [HIPPOCAMPUS, ABDOMEN, TORSO, ((9, 7, 3), (2, 2, 8))]
)
def test_grids_fit_the_token_the_budget_and_the_image(
    seen: Seen, preset: str, shape: Shape, spacing: Spacing
) -> None:
    size = PRESETS[preset]
    found = geometry(seen(shape=shape, spacing=spacing), size)
    assert all(n % found.token == 0 for n in (*found.roi, *found.volume))
    assert found.roi[0] == found.roi[1]
    assert math.prod(found.roi) <= max(size.side**3, found.token**3)
    # A crop is no larger than the image, up to one token.
    assert all(r <= max(n, found.token) for r, n in zip(found.roi, found.shape, strict=True))
    assert all(c <= n for c, n in zip(found.crop, shape, strict=True))
    thickness = found.volume[2] // 4
    assert thickness % found.token == 0
    assert 3 * found.stride + thickness <= found.volume[2]


@pytest.mark.parametrize(
    ("image", "preset", "steps"),
    [(HIPPOCAMPUS, "small", 400), (HIPPOCAMPUS, "base", 4000), (TORSO, "small", 1600)],
)
def test_steps_grow_where_a_crop_shows_little(
    seen: Seen, image: tuple[Shape, Spacing], preset: str, steps: int
) -> None:
    size = PRESETS[preset]
    grids = geometry(seen(shape=image[0], spacing=image[1]), size)
    assert segmentation_steps(size, grids) == steps
    assert 0 < grids.share <= 1


def test_small_images_stay_as_they_are(seen: Seen) -> None:
    found = geometry(seen(), PRESETS["small"])
    assert (found.spacing, found.roi, found.crop) == (None, (32, 32, 32), (32, 32, 32))
    assert found.coarser == pytest.approx(1.0)


def test_large_images_get_a_grid_on_which_a_crop_shows_enough(seen: Seen) -> None:
    size = PRESETS["small"]
    found = geometry(seen(shape=TORSO[0], spacing=TORSO[1]), size)
    assert found.spacing is not None
    assert math.prod(found.shape) <= 1.05 * size.side**3 / size.seen
    assert found.spacing == pytest.approx((found.spacing[0],) * 3, rel=0.01)
    # Pre-training cuts as many millimetres from the files' own voxels.
    assert found.crop == tuple(round(32 * s) for s in found.spacing)


def test_the_finest_axes_are_coarsened_first(seen: Seen) -> None:
    found = geometry(seen(shape=ABDOMEN[0], spacing=ABDOMEN[1]), PRESETS["base"])
    assert found.spacing is not None
    assert found.spacing[0] == found.spacing[1] > 0.79
    assert found.spacing[2] == 5.0


def test_the_spacing_is_the_median_and_finer_along_a_very_coarse_axis(seen: Seen) -> None:
    one = seen(spacing=(0.8, 0.8, 5.0)).opened[0]
    zs = (2.0, 5.0, 5.0, 5.0, 6.0)
    mixed = seen(opened=tuple(replace(one, spacing=(0.8, 0.8, z)) for z in zs))
    assert median_spacing(mixed) == pytest.approx((0.8, 0.8, 3.2))
    assert median_spacing(seen(spacing=(1.0, 1.0, 2.0))) == (1.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("preset", "shape", "side"),
    [("base", (36, 51, 35), 32), ("base", (200, 200, 100), 96), ("small", (36, 51, 35), 32)],
)
def test_sequences_do_not_enlarge_small_images(
    seen: Seen, preset: str, shape: Shape, side: int
) -> None:
    assert geometry(seen(shape=shape), PRESETS[preset]).volume == (side,) * 3


def test_more_images_are_pretrained_on_longer() -> None:
    found = [pretraining_steps(PRESETS["small"], images) for images in (10, 100, 200, 10_000)]
    assert found == [300, 300, 600, 1500]


@pytest.mark.parametrize(
    ("counts", "weights"),
    [
        ([5, 5], [1, 2, 2]),
        ([40, 10], [1, 2, 4]),
        ([4000, 1], [1, 2, 8]),
        ([4000, 0], [1, 2, 8]),
        ([0], [1, 2]),
    ],
)
def test_rare_structures_weigh_more(counts: list[int], weights: list[float]) -> None:
    assert class_weights(counts) == weights


def test_the_window_holds_the_structures_and_a_margin(seen: Seen) -> None:
    low, high = window(seen(quantiles=(-40.0, 40.0, 160.0), modality="CT"))
    assert (low, high) == (-90.0, 210.0)
    assert window(seen(voxels={}, modality="CT")) == (-1000.0, 1000.0)


@pytest.mark.parametrize(
    ("machine", "images", "preset"),
    [
        (CPU, 10_000, "small"),
        (replace(CPU, gpu="a GPU", memory=6 * 10**9), 40, "small"),
        (replace(CPU, gpu="a GPU", memory=24 * 10**9), 1000, "base"),
        (replace(CPU, gpu="a GPU", memory=80 * 10**9), 40, "base"),
        (replace(CPU, gpu="a GPU", memory=80 * 10**9), 1000, "large"),
    ],
)
def test_the_preset_follows_from_machine_and_images(
    machine: Machine, images: int, preset: str
) -> None:
    assert choose(machine, images) == preset
