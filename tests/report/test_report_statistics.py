"""Intervals and tests of ours against the others."""

from __future__ import annotations

import math
from pathlib import Path

import fake_study
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from voxseq.report import statistics
from voxseq.report.collect import collect, run_means, select
from voxseq.report.statistics import Pairing, compare_accuracy, compare_auc, compare_dice, holm
from voxseq.report.study import Study

SAMPLES = 400


def rng() -> np.random.Generator:
    return np.random.default_rng([0])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    adjusted = holm([0.01, math.nan, 0.02])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_order_and_never_lowers(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert [q for _, q in pairs] == sorted(adjusted)


def test_dice_difference_is_that_of_the_table() -> None:
    draw = rng()
    ours, other = draw.uniform(0.4, 0.9, (3, 15, 2)), draw.uniform(0.3, 0.8, (3, 15, 2))
    ours[:, 0, 1] = other[:, 0, 1] = np.nan
    found = compare_dice(ours, other, SAMPLES, rng())
    per_class = np.nanmean(ours, axis=1) - np.nanmean(other, axis=1)
    assert found.difference == pytest.approx(per_class.mean())
    assert found.low < found.difference < found.high
    assert (found.cases, found.seeds, found.test) == (15, 3, statistics.WILCOXON)


def test_a_constant_gap_has_a_point_interval_and_equal_methods_no_difference() -> None:
    ours = rng().uniform(0.2, 0.9, (2, 12, 1))
    found = compare_dice(ours + 0.05, ours, SAMPLES, rng())
    assert (found.low, found.high) == pytest.approx((0.05, 0.05))
    assert found.p == pytest.approx(2 / 2**12)
    same = compare_dice(ours, ours, SAMPLES, rng())
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_a_class_that_no_case_has_leaves_the_score_undefined() -> None:
    nothing = np.full((1, 3, 1), np.nan)
    found = compare_dice(nothing, nothing, SAMPLES, rng())
    assert math.isnan(found.difference)
    assert math.isnan(found.p)


def test_auc_and_accuracy_agree_with_scikit_learn() -> None:
    draw = rng()
    target = (np.arange(40) % 2).astype(float)
    ours = np.clip(0.5 + 0.2 * (target - 0.5) + draw.normal(0, 0.2, (2, 40)), 0, 1).round(2)
    other = draw.uniform(0, 1, (2, 40)).round(2)
    pair = Pairing(target, ours, other)
    expected = np.mean([roc_auc_score(target, p) for p in ours])
    expected -= np.mean([roc_auc_score(target, p) for p in other])
    found = compare_auc(pair, SAMPLES, rng())
    assert found.difference == pytest.approx(expected)
    assert found.low < found.difference < found.high
    assert 0 < found.p <= 1
    right = [((p > 0.5) == target).mean() for p in (ours, other)]
    assert compare_accuracy(pair, SAMPLES, rng()).difference == pytest.approx(right[0] - right[1])


def test_auc_of_one_class_is_undefined() -> None:
    pair = Pairing(np.ones(4), np.full((1, 4), 0.5), np.full((1, 4), 0.2))
    assert math.isnan(compare_auc(pair, SAMPLES, rng()).difference)


def test_differences_cover_every_pair_and_match_the_tables(tmp_path: Path) -> None:
    context = fake_study.build(
        tmp_path,
        tasks=("task06_lung", "la", "ricord"),
        missing=("label_ratio/la/unetr/r10/", "ablation/ricord/causal"),
    )
    study = Study.from_config(context.config)
    scores = collect(context)
    table = statistics.differences(study, scores, context.inputs)
    stages = table.groupby(["stage", "task"]).size().to_dict()
    assert stages == {
        ("finetune", "task06_lung"): 1,
        ("ablation", "task06_lung"): 8,
        ("finetune", "la"): 1,
        ("label_ratio", "la"): 2,
        ("finetune", "ricord"): 2,
        ("label_ratio", "ricord"): 6,
        ("ablation", "ricord"): 14,
    }
    means = run_means(scores)
    for row in table.to_dict("records"):
        keys = {"task": row["task"], "metric": row["metric"], "ratio": row["ratio"]}
        ours = select(means, method="ours", **keys)["value"].mean()
        other = select(means, method=row["other"], variant=row["variant"], **keys)["value"].mean()
        assert row["difference"] == pytest.approx(ours - other, abs=2e-6)
        assert row["p_holm"] >= row["p"]
    again = statistics.differences(study, scores, context.inputs)
    assert table.equals(again)
    text = statistics.to_markdown(study, table)
    assert text.count("\n| ") == len(table) + 2
    assert "missing" in statistics.to_markdown(study, table.iloc[:0])
