"""Scores of predicted numbers against scikit-learn and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

from voxseq.evaluation.regression import correlation, mae, r2, scores


@pytest.mark.parametrize("seed", range(3))
def test_scores_agree_with_other_libraries(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.normal(50, 10, 30)
    value = 0.7 * target + rng.normal(10, 5, 30)
    found = scores(target, value)
    assert found["mae"] == pytest.approx(mean_absolute_error(target, value))
    assert found["r2"] == pytest.approx(r2_score(target, value))
    assert found["correlation"] == pytest.approx(np.corrcoef(target, value)[0, 1])


def test_scores_by_hand() -> None:
    target, value = np.array([1, 2, 3]), np.array([1.0, 2.0, 5.0])
    assert mae(target, value) == pytest.approx(2 / 3)
    assert r2(target, value) == pytest.approx(1 - 4 / 2)
    assert correlation(target, -value) == pytest.approx(-correlation(target, value))


def test_the_mean_explains_nothing_and_correlates_with_nothing() -> None:
    target = np.array([0.1, 0.2, 0.7])
    assert r2(target, np.full(3, target.mean())) == pytest.approx(0)
    assert np.isnan(correlation(target, np.full(3, 1 / 3)))


def test_a_constant_target_has_neither() -> None:
    assert np.isnan(r2(np.ones(3), np.arange(3)))
    assert np.isnan(correlation(np.full(3, 0.1), np.arange(3)))
