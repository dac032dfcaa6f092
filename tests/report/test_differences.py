"""Intervals and tests of ours against the others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, roc_auc_score

from tests.helpers import fake_study
from tests.helpers.fake_study import Context
from voxseq.evaluation.statistics import (
    DELONG,
    WILCOXON,
    Draws,
    Pairing,
    compare_auc,
    compare_dice,
    compare_mean_dice,
    holm,
    smallest_p,
    wilcoxon,
)
from voxseq.report.results import collect, run_means
from voxseq.report.tables.differences import (
    compare_rows,
    differences_sheet,
    is_clear,
    out_of_reach,
)
from voxseq.report.writers import to_markdown

DRAWS = Draws(400, (0,))


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
    found = compare_dice(ours, other, DRAWS)
    per_class = np.nanmean(ours, axis=1) - np.nanmean(other, axis=1)
    assert found.difference == pytest.approx(per_class.mean())
    assert found.low < found.difference < found.high
    assert (found.cases, found.seeds, found.seeds_other, found.test) == (15, 3, 3, WILCOXON)


def test_a_constant_gap_has_a_point_interval_and_equal_methods_no_difference() -> None:
    ours = rng().uniform(0.2, 0.9, (2, 12, 1))
    found = compare_dice(ours + 0.05, ours, DRAWS)
    assert (found.low, found.high) == pytest.approx((0.05, 0.05))
    assert found.p == pytest.approx(2 / 2**12)
    same = compare_dice(ours, ours, DRAWS)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_a_class_that_no_case_has_leaves_the_score_undefined() -> None:
    nothing = np.full((1, 3, 1), np.nan)
    found = compare_dice(nothing, nothing, DRAWS)
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
    found = compare_auc(pair, DRAWS)
    assert found.difference == pytest.approx(expected)
    assert found.low < found.difference < found.high
    assert 0 < found.p <= 1
    # As the report has it: of each case, whether its class is right.
    right = [((p > 0.5) == target)[..., None].astype(float) for p in (ours, other)]
    expected = accuracy_score(np.tile(target, 2), ours.ravel() > 0.5)
    expected -= accuracy_score(np.tile(target, 2), other.ravel() > 0.5)
    assert compare_dice(*right, DRAWS).difference == pytest.approx(expected)


def test_auc_of_one_class_is_undefined() -> None:
    pair = Pairing(np.ones(4), np.full((1, 4), 0.5), np.full((1, 4), 0.2))
    assert math.isnan(compare_auc(pair, DRAWS).difference)


def test_the_p_value_of_auc_is_delongs() -> None:
    draw = rng()
    target = (np.arange(30) % 3 == 0).astype(float)
    ours, other = (np.clip(0.4 * target + draw.normal(0.3, 0.3, 30), 0, 1) for _ in range(2))
    positive, negative = np.flatnonzero(target), np.flatnonzero(target == 0)

    def placements(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wins = [
            [(score[i] > score[j]) + 0.5 * (score[i] == score[j]) for j in negative]
            for i in positive
        ]
        return np.mean(wins, axis=1), np.mean(wins, axis=0)

    (v10_a, v01_a), (v10_b, v01_b) = placements(ours), placements(other)
    # Variances and covariance of the two areas, as in the paper, written out.
    s10, s01 = np.cov(v10_a, v10_b), np.cov(v01_a, v01_b)
    s = s10 / len(positive) + s01 / len(negative)
    z = (v10_a.mean() - v10_b.mean()) / math.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    found = compare_auc(Pairing(target, ours[None], other[None]), DRAWS)
    assert found.test == DELONG
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_equal_methods_are_rarely_told_apart_by_auc() -> None:
    draw = rng()
    target = (np.arange(60) % 2).astype(float)
    p_values = []
    for _ in range(200):
        common = target + draw.normal(size=60)
        both = common + draw.normal(0, 0.7, (2, 1, 60))
        p_values.append(compare_auc(Pairing(target, both[0], both[1]), Draws(2, (0,))).p)
    assert 0.01 < np.mean(np.array(p_values) < 0.05) < 0.1


def test_auc_without_spread_is_not_certain() -> None:
    target = np.array([0.0, 0.0, 1.0, 1.0])
    pair = Pairing(target, target[None], np.full((1, 4), 0.5))
    found = compare_auc(pair, DRAWS)
    assert found.difference == 0.5
    assert found.p == smallest_p(4) == 2 / 2**4


def test_a_method_of_one_seed_is_compared_with_the_mean_over_seeds() -> None:
    draw = rng()
    ours, other = draw.uniform(0.4, 0.9, (3, 15, 2)), draw.uniform(0.3, 0.8, (1, 15, 2))
    found = compare_dice(ours, other, DRAWS, paired=False)
    assert found.difference == pytest.approx(ours.mean() - other.mean())
    assert (found.seeds, found.seeds_other) == (3, 1)
    gap = ours.mean(axis=(0, 2)) - other.mean(axis=(0, 2))
    assert found.p == pytest.approx(wilcoxon(gap))
    with pytest.raises(ValueError, match="3 and 1 seeds"):
        compare_dice(ours, other, DRAWS)
    target = (np.arange(15) % 2).astype(float)
    pair = Pairing(target, ours[..., 0], other[..., 0], paired=False)
    auc = [np.mean([roc_auc_score(target, p) for p in side]) for side in (pair.ours, pair.other)]
    assert compare_auc(pair, DRAWS).difference == pytest.approx(auc[0] - auc[1])


def test_seeds_that_agree_count_as_one() -> None:
    draw = rng()
    once, other = draw.uniform(0.4, 0.9, (1, 15, 2)), draw.uniform(0.3, 0.8, (1, 15, 2))
    single = compare_dice(once, other, DRAWS)
    repeated = compare_dice(np.repeat(once, 3, axis=0), other, DRAWS, paired=False)
    for name in ("difference", "low", "high", "p", "cases"):
        assert getattr(repeated, name) == pytest.approx(getattr(single, name))


def test_the_average_is_over_tasks_and_its_test_over_all_their_cases() -> None:
    draw = rng()
    tasks = [
        (draw.uniform(0.5, 0.9, (2, cases, 1)), draw.uniform(0.4, 0.8, (2, cases, 1)))
        for cases in (6, 9)
    ]
    found = compare_mean_dice(tasks, DRAWS)
    singles = [compare_dice(*task, DRAWS) for task in tasks]
    assert found.difference == pytest.approx(np.mean([s.difference for s in singles]))
    assert found.cases == 15
    assert found.p == pytest.approx(
        wilcoxon(np.concatenate([(a - b).mean(axis=(0, 2)) for a, b in tasks]))
    )
    assert found.high - found.low < np.mean([s.high - s.low for s in singles])


def compared(context: Context) -> pd.DataFrame:
    return compare_rows(context.config, collect(context.config, context.inputs), context.inputs)


def mean_of(means: pd.DataFrame, **keys: Any) -> pd.Series[float]:
    chosen = [means[name] == value for name, value in {"ratio": 1.0, **keys}.items()]
    return means.loc[np.logical_and.reduce(chosen), "value"]


def test_differences_cover_every_pair_and_match_the_tables(tmp_path: Path) -> None:
    context = fake_study.build(
        tmp_path,
        tasks=("task06_lung", "la", "ricord"),
        missing=("label_ratio/la/unetr/r10_", "ablation/finetune/ricord/no_random_start"),
    )
    table = compared(context)
    sizes = table.groupby(["table", "stage", "task"]).size().to_dict()
    assert sizes == {
        **{(1, "finetune", "task06_lung"): 1, (1, "finetune", "la"): 1, (1, "finetune", ""): 1},
        **{(2, "finetune", "ricord"): 2, (3, "finetune", "la"): 1, (3, "label_ratio", "la"): 2},
        **{(3, "finetune", "ricord"): 2, (3, "label_ratio", "ricord"): 6},
        **{(4, "ablation", "task06_lung"): 7, (4, "ablation", "ricord"): 12},
    }
    means = run_means(collect(context.config, context.inputs))
    for row in table[table["task"] != ""].to_dict("records"):
        keys = {name: row[name] for name in ("task", "metric", "ratio")}
        ours = mean_of(means, method="ours", variant="", **keys).mean()
        other = mean_of(means, method=row["other"], variant=row["variant"], **keys).mean()
        assert row["difference"] == pytest.approx(ours - other, abs=2e-6)
    average = table[table["task"] == ""]["difference"].item()
    dice = table[(table["table"] == 1) & (table["task"] != "")]["difference"]
    assert average == pytest.approx(dice.mean())
    for _, family in table.groupby("table"):
        assert family["p_holm"].tolist() == pytest.approx(holm(family["p"].tolist()))
    assert table.equals(compared(context))
    text = to_markdown(differences_sheet(context.config, table))
    assert text.count("\n| ") == len(table) + 2 * table["table"].nunique()
    assert "missing" in to_markdown(differences_sheet(context.config, table.iloc[:0]))


def test_rows_beyond_the_paper_are_compared_with_their_own_reference(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", "nodule", beyond=("la", "nodule"))
    table = compared(context)
    table = table[table["table"] == 5]
    means = run_means(collect(context.config, context.inputs))
    assert len(table) == 25
    stages = {"": "finetune", "frozen": "beyond"}
    for row in table.to_dict("records"):
        keys = {name: row[name] for name in ("task", "metric")}
        reference, variant = row["reference"], row["reference_variant"]
        ours = mean_of(means, stage=stages[variant], method=reference, variant=variant, **keys)
        other = mean_of(means, stage="beyond", method=row["other"], variant=row["variant"], **keys)
        assert row["difference"] == pytest.approx(ours.mean() - other.mean(), abs=2e-6)
        assert (row["seeds"], row["seeds_other"]) == (len(ours), len(other))
    probe = table[(table["other"] == "vit") & (table["variant"] == "frozen")].iloc[0]
    assert (probe["seeds"], probe["seeds_other"]) == (1, 3)
    text = to_markdown(differences_sheet(context.config, table))
    assert "Frozen encoder: ViT, random encoder (the floor)" in text
    assert "1 and 3" in text


def test_a_study_without_ours_has_no_comparison(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", methods=("unetr", "vit"), ratios=("la",))
    assert compared(context).empty


def test_a_difference_is_clear_when_test_and_interval_agree() -> None:
    clear = {"p_holm": 0.01, "low": 0.02, "high": 0.1}
    undefined = dict.fromkeys(clear, math.nan)
    cases = ({}, {"low": -0.1, "high": -0.02}, {"low": -0.01}, {"p_holm": 0.05}, undefined)
    assert [is_clear({**clear, **case}) for case in cases] == [True, True, False, False, False]


def test_tasks_with_too_few_cases_are_named(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", "task06_lung", "ricord")
    table = compared(context)
    first = table[table["table"] == 1]
    assert out_of_reach(context.config, first) == ()
    # Six cases give 1/32 at best; two comparisons of as many cases make that 1/16.
    few = first.assign(cases=[6, 6, 12])
    assert out_of_reach(context.config, few) == ("Task06 Lung", "LA")
    assert out_of_reach(context.config, few.iloc[1:]) == ()
