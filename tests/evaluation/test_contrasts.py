"""Weighted sums of rows, and what follows from a comparison."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from tests.evaluation.test_statistics import close, drawn
from voxseq.evaluation.comparison import OVER_SEEDS
from voxseq.evaluation.contrasts import contrast, contrast_auc, over_seeds
from voxseq.evaluation.statistics import compare, compare_auc, compare_average, compare_pair


def test_two_rows_are_a_pair() -> None:
    scores = drawn()
    [pair] = compare_pair(scores[0], scores[1])
    assert close(contrast([scores[:2]], [[1, -1]]), pair)
    target = np.arange(12) % 2
    [areas] = compare_auc(target, scores[:2, :, :, 0], 0)
    assert close(contrast_auc(target, scores[:2, :, :, 0], [1, -1]), areas)
    tasks = [scores[:2], drawn(cases=20)[:2]]
    [average] = compare_average(tasks, 0)
    assert close(contrast(tasks, [[0.5, -0.5]] * 2), average)


def test_a_row_alone_has_its_mean() -> None:
    scores = drawn()[:1]
    found = contrast([scores], [[1]])
    assert found.difference == pytest.approx(scores.mean())
    assert close(found, compare_pair(scores[0], np.zeros_like(scores[0]))[0])
    target = np.arange(12) % 2
    area = contrast_auc(target, scores[..., 0], [1])
    areas = [roc_auc_score(target, one) for one in scores[0, ..., 0]]
    assert area.difference == pytest.approx(np.mean(areas))
    [half] = compare_auc(target, np.stack([scores[0, ..., 0], np.full((5, 12), 0.5)]), 0)
    assert close(area, half.shifted(0.5)) or area.low == pytest.approx(half.low + 0.5)


def test_leads_of_two_tasks_by_hand() -> None:
    """Their difference has the cases of both; the seeds' part is that of the difference."""
    first, second = drawn(cases=9, classes=1)[:2], drawn(cases=14, classes=1)[:2]
    found = contrast([first, second], [[1, -1], [-1, 1]])
    gaps = [(task[0] - task[1])[..., 0] for task in (first, second)]
    by_seed = gaps[0].mean(axis=1) - gaps[1].mean(axis=1)
    assert found.difference == pytest.approx(by_seed.mean())
    cases = sum(gap.mean(axis=0).var(ddof=1) / gap.shape[1] for gap in gaps)
    residual = 0.0
    for gap in gaps:
        rest = gap - gap.mean(axis=1, keepdims=True) - gap.mean(axis=0) + gap.mean()
        residual += (rest**2).sum() / 4 / (gap.shape[1] - 1) / 5 / gap.shape[1]
    assert found.error**2 == pytest.approx(by_seed.var(ddof=1) / 5 + cases - residual)
    assert (found.df, found.cases) == (4, 23)


def test_trend_of_rows_is_its_slope() -> None:
    shares = np.log10([1, 0.5, 0.25, 0.1])
    rows = 0.8 + 0.1 * shares[:, None, None, None] + np.zeros((4, 3, 6, 1))
    weights = (shares - shares.mean()) / ((shares - shares.mean()) ** 2).sum()
    assert contrast([rows], [weights]).difference == pytest.approx(0.1)


def test_interval_over_seeds() -> None:
    found = over_seeds([0.5, 0.6, 0.7, math.nan])
    half = stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert astuple(found)[:3] == pytest.approx((0.6, 0.6 - half, 0.6 + half))
    assert (found.test, found.seeds, math.isnan(found.p)) == (OVER_SEEDS, 3, True)
    alone = over_seeds([0.5])
    assert (alone.difference, math.isnan(alone.low)) == (0.5, True)
    assert math.isnan(over_seeds([]).difference)


def test_what_follows_from_a_comparison() -> None:
    found = compare(drawn() + np.eye(6)[0, :, None, None, None] * 0.05, 0)[0]
    t = found.difference / found.error
    assert found.one_sided == pytest.approx(stats.t.sf(t, found.df))
    assert found.turned().one_sided == pytest.approx(stats.t.cdf(t, found.df))
    moved = found.shifted(0.02)
    assert moved.one_sided == pytest.approx(stats.t.sf(t + 0.02 / found.error, found.df))
    assert astuple(found.scaled(2))[:4] == pytest.approx(
        (2 * found.difference, 2 * found.low, 2 * found.high, found.p)
    )
    quantiles = stats.t.ppf([0.975, 0.8], found.df).sum()
    assert found.detectable(0.025) == pytest.approx(quantiles * found.error)
    once = compare(drawn(seeds=1), 0)[0]
    assert math.isnan(once.detectable(0.025))
    assert math.isnan(once.shifted(0.1).one_sided)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"weights of shape \(1, 2\)"):
        contrast([drawn()], [[1, -1]])
    with pytest.raises(ValueError, match="rows and seeds"):
        contrast([drawn(), drawn(seeds=3)], np.ones((2, 6)))
