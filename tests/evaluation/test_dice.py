from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import DiceMetric
from torch.nn.functional import one_hot

from voxseq.evaluation.dice import class_means, dice_per_class, mean_dice

CLASSES = 3
labels = arrays(np.uint8, (3, 4, 2), elements=st.integers(0, CLASSES))


def brute_force(prediction: np.ndarray, truth: np.ndarray, label: int) -> float:
    pairs = list(zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True))
    in_truth = sum(t == label for _, t in pairs)
    if not in_truth:
        return float("nan")
    both = sum(p == label and t == label for p, t in pairs)
    return 2 * both / (sum(p == label for p, _ in pairs) + in_truth)


@given(labels, labels)
def test_dice_is_what_counting_gives(prediction: np.ndarray, truth: np.ndarray) -> None:
    expected = [brute_force(prediction, truth, label) for label in (1, 2, 3)]
    np.testing.assert_array_equal(dice_per_class(prediction, truth, CLASSES), expected)


@given(labels, labels)
def test_dice_is_monais(prediction: np.ndarray, truth: np.ndarray) -> None:
    def channels(array: np.ndarray) -> torch.Tensor:
        return one_hot(torch.from_numpy(array).long(), CLASSES + 1).movedim(-1, 0)[None]

    metric = DiceMetric(include_background=False, reduction="none", ignore_empty=True)
    expected = metric(channels(prediction), channels(truth))[0].numpy()
    ours = dice_per_class(prediction, truth, CLASSES)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_absent_class_is_nan_and_missed_class_is_zero() -> None:
    truth = np.array([[[1, 0]]])
    prediction = np.array([[[0, 2]]])
    scores = dice_per_class(prediction, truth, 2)
    assert scores[0] == 0.0
    assert np.isnan(scores[1])


def test_mean_is_over_cases_then_classes() -> None:
    nan = np.nan
    scores = np.array([[0.2, nan, nan], [0.4, 0.9, nan], [0.6, nan, nan]])
    np.testing.assert_allclose(class_means(scores), [0.4, 0.9, nan])
    # Over all values at once it would be 0.525.
    assert mean_dice(scores) == pytest.approx(0.65)
    assert np.isnan(mean_dice(np.full((2, 3), nan)))


def test_other_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        dice_per_class(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), 1)
