"""Scores of surfaces against MONAI, and against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from voxseq.evaluation.segmentation import (
    HD95,
    SURFACE_DICE,
    dice_scores,
    known_part,
    missed,
    surface_scores_per_class,
)
from voxseq.evaluation.surface import surface_scores

SPACING = (0.7, 1.0, 2.5)


def ball(
    shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float
) -> np.ndarray:
    grid = np.indices(shape).astype(float)
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


def box(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((20, 12, 12), bool)
    mask[start:stop, 3:9, 3:9] = True
    return mask


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tolerance", [0.5, 2.0])
def test_scores_agree_with_monai(seed: int, tolerance: float) -> None:
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    rng = np.random.default_rng(seed)
    shape = (24, 20, 16)
    truth, prediction = (
        ball(shape, tuple(rng.uniform(6, 10, 3)), rng.uniform(3, 6)) for _ in range(2)
    )
    found = surface_scores(prediction, truth, SPACING, tolerance)
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
    options = {"include_background": True, "spacing": list(SPACING)}
    dice = compute_surface_dice(*pair, class_thresholds=[tolerance], **options)
    far = compute_hausdorff_distance(*pair, percentile=95, **options)
    assert found.surface_dice == pytest.approx(float(dice))
    assert found.hd95 == pytest.approx(float(far), rel=1e-6)


def test_a_shift_is_measured_in_millimetres() -> None:
    """A plate moved by two voxels of 2.5 mm: all of its faces across are 5 mm away."""
    truth = np.zeros((12, 12, 12), bool)
    truth[:, :, 4] = True
    prediction = np.roll(truth, 2, axis=2)
    near = surface_scores(prediction, truth, SPACING, 4.9)
    wide = surface_scores(prediction, truth, SPACING, 5.0)
    assert (near.surface_dice, wide.surface_dice) == (0.0, 1.0)
    assert near.hd95 == wide.hd95 == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        (box(4, 8), box(4, 8), (1.0, 0.0)),
        (box(0, 0), box(4, 8), (0.0, np.nan)),
        (box(4, 8), box(0, 0), (np.nan, np.nan)),
        (box(0, 0), box(0, 0), (np.nan, np.nan)),
    ],
    ids=["equal", "missed", "invented", "absent"],
)
def test_masks_that_are_equal_or_empty(
    prediction: np.ndarray, truth: np.ndarray, expected: tuple[float, float]
) -> None:
    found = surface_scores(prediction, truth, SPACING, 1.0)
    np.testing.assert_equal((found.surface_dice, found.hd95), expected)


def test_place_in_the_volume_and_its_border_change_nothing() -> None:
    small = surface_scores(box(4, 9), box(5, 11), SPACING, 1.0)
    around = (np.pad(mask, 7) for mask in (box(4, 9), box(5, 11)))
    assert surface_scores(*around, SPACING, 1.0) == small
    at_border = (mask[4:, 3:, 3:] for mask in (box(4, 9), box(5, 11)))
    assert surface_scores(*at_border, SPACING, 1.0) == small


def test_every_class_has_its_own_tolerance_and_missed_ones_are_counted() -> None:
    truth = box(2, 6).astype(np.uint8) + 2 * box(10, 14) + 3 * box(16, 18)
    prediction = box(3, 7).astype(np.uint8) + 2 * box(11, 15)
    found = surface_scores_per_class(prediction, truth, (1.0, 1.0, 1.0), (0.5, 1.0, 1.0, 1.0))
    assert 0 < found[SURFACE_DICE][0] < 1
    assert found[SURFACE_DICE][1:3].tolist() == [1.0, 0.0]
    assert found[HD95][:2].tolist() == [1.0, 1.0]
    assert np.isnan(found[SURFACE_DICE][3])
    assert np.isnan(found[HD95][2:]).all()
    assert missed(found).tolist() == [False, False, True, False]


def test_what_has_no_known_class_is_not_scored() -> None:
    truth = box(2, 10).astype(np.uint8)
    prediction = truth.copy()
    truth[8:] = 255
    prediction[12:] = 1
    assert dice_scores(prediction, truth, 1, ignored=255)["dice"].tolist() == [1.0]
    assert dice_scores(prediction, truth, 1)["dice"][0] < 1.0
    found = surface_scores_per_class(prediction, truth, SPACING, (1.0,), ignored=255)
    assert (found[SURFACE_DICE][0], found[HD95][0]) == (1.0, 0.0)
    assert [part.max() for part in known_part(prediction, truth, 255)] == [1, 1]


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        surface_scores(box(1, 2), box(1, 2)[1:], SPACING, 1.0)
