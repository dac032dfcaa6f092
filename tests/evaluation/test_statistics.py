"""Comparisons with seeds and cases as random effects, by hand and on simulated tables."""

from __future__ import annotations

import math
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from benchmarks.false_marks import UNEQUAL, Setting, simulate
from voxseq.evaluation.comparison import APART, NONE, PAIR, POOLED, UNPAIRED, Comparison
from voxseq.evaluation.statistics import (
    by_patient,
    compare,
    compare_auc,
    compare_average,
    compare_pair,
    holm,
    marking_rule,
    marks,
    may_be_marked,
)

Array = NDArray[np.float64]
#: Difference, low, high, p and df.
GOLDEN = {
    "compare": (0.021743146, -0.041593675, 0.085079967, 0.48761627, 27.761065),
    "unpaired": (0.0095142329, -0.12577355, 0.14480201, 0.79077364, 2),
    "auc": (0.022222222, -0.23680908, 0.28125353, 0.84953048, 8.5794981),
}


def drawn(rows: int = 6, seeds: int = 5, cases: int = 12, classes: int = 2) -> Array:
    """Scores in which every effect of the model is present."""
    rng = np.random.default_rng([rows, seeds, cases, classes])
    effects = ((1, seeds, 1, 1), (1, 1, cases, 1), (1, seeds, cases, 1))
    effects += ((rows, seeds, 1, 1), (rows, 1, cases, classes), (rows, seeds, cases, classes))
    return np.clip(0.5 + sum(rng.normal(0, 0.04, size) for size in effects), 0, 1)


def close(found: Comparison, wanted: Comparison) -> bool:
    pairs = zip(astuple(found), astuple(wanted), strict=True)
    return all(
        a == b if isinstance(a, str) else a == pytest.approx(b, nan_ok=True) for a, b in pairs
    )


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


def test_a_pair_by_hand() -> None:
    # Means 0.02 and 0.04 over seeds and over cases: each part is 0.0001, nothing is left over.
    ours = 0.5 + np.array([[0.01, 0.03], [0.03, 0.05]])[..., None]
    [found] = compare_pair(ours, np.full((2, 2, 1), 0.5))
    error = 0.01 * math.sqrt(2)
    half = math.tan(0.475 * math.pi) * error
    assert astuple(found)[:5] == pytest.approx(
        (0.03, 0.03 - half, 0.03 + half, 1 - 2 / math.pi * math.atan(0.03 / error), 1)
    )
    assert (found.test, found.seeds, found.cases) == (PAIR, 2, 2)
    assert close(compare(np.stack([ours, np.full((2, 2, 1), 0.5)]), 0)[0], found)


def test_pooled_rows_follow_the_formulae() -> None:
    y = drawn()[..., 0]
    rows, seeds, cases = y.shape
    r = y - y.mean(axis=0)
    by_seed = r.mean(axis=2) - r.mean(axis=(1, 2))[:, None]
    seed_df = (rows - 1) * (seeds - 1)
    seed = 2 * float((by_seed**2).sum()) / seed_df / seeds
    results = compare(y[..., None], 1)
    others = [row for row in range(rows) if row != 1]
    assert {found.test for found in results} == {POOLED}
    for row, found in zip(others, results, strict=True):
        d = y[1] - y[row]
        assert found.difference == pytest.approx(d.mean())
        case = d.mean(axis=0).var(ddof=1) / cases
        e = d - d.mean(axis=1, keepdims=True) - d.mean(axis=0) + d.mean()
        residual_df = (seeds - 1) * (cases - 1)
        residual = float((e**2).sum()) / residual_df / seeds / cases
        variance = seed + case - residual
        assert variance > max(seed, case)
        spread = seed**2 / seed_df + case**2 / (cases - 1) + residual**2 / residual_df
        assert found.df == pytest.approx(variance**2 / spread)
        t = stats.t(found.df)
        assert found.high - found.low == pytest.approx(2 * t.ppf(0.975) * math.sqrt(variance))
        assert found.p == pytest.approx(2 * t.sf(abs(found.difference) / math.sqrt(variance)))


def test_golden_numbers() -> None:
    [first, *_] = compare(drawn(), 0)
    assert astuple(first)[:5] == pytest.approx(GOLDEN["compare"], rel=1e-6)
    [pair] = compare_pair(drawn()[0], drawn()[3, :3])
    assert astuple(pair)[:5] == pytest.approx(GOLDEN["unpaired"], rel=1e-6)
    [auc, *_] = compare_auc(np.arange(12) % 2, drawn()[..., 0], 2)
    assert astuple(auc)[:5] == pytest.approx(GOLDEN["auc"], rel=1e-6)


def test_what_all_rows_share_cancels() -> None:
    scores, rng = drawn(), np.random.default_rng(0)
    rest = rng.normal(0, 0.3, (1, 5, 1, 1)) + rng.normal(0, 0.3, (1, 5, 12, 1))
    for found, wanted in zip(compare(scores + rest, 0), compare(scores, 0), strict=True):
        assert close(found, wanted)


def test_order_of_seeds_cases_and_classes_does_not_matter() -> None:
    scores = drawn()
    turned = scores[:, ::-1, ::-1, ::-1]
    assert all(map(close, compare(turned, 0), compare(scores, 0)))
    target = np.arange(12) % 2
    a, b = scores[..., 0], scores[:, ::-1, ::-1, 0]
    assert all(map(close, compare_auc(target[::-1], b, 0), compare_auc(target, a, 0)))


def test_exchanged_sides_change_the_sign_only() -> None:
    scores = drawn()
    for there, back in (
        (compare(scores, 0)[3], compare(scores, 4)[0]),
        (compare_pair(scores[0], scores[1])[0], compare_pair(scores[1], scores[0])[0]),
        (compare_pair(scores[0], scores[1, :2])[0], compare_pair(scores[1, :2], scores[0])[0]),
    ):
        turned = replace(back, difference=-back.difference, low=-back.high, high=-back.low)
        assert close(turned, there)


def test_a_shifted_row_moves_its_difference_only() -> None:
    scores = drawn()
    moved = scores.copy()
    moved[2] += 0.05
    for row, (found, wanted) in enumerate(
        zip(compare(moved, 0), compare(scores, 0), strict=True), start=1
    ):
        by = -0.05 if row == 2 else 0.0
        assert found.difference == pytest.approx(wanted.difference + by)
        assert found.high - found.low == pytest.approx(wanted.high - wanted.low)


def test_a_class_that_a_case_lacks_is_left_out_of_its_mean() -> None:
    scores = drawn()
    scores[:, :, 0, 1] = np.nan
    scores[3, :, 1, 0] = np.nan
    found = compare(scores, 0)
    filled = scores.mean(axis=-1, keepdims=True)
    filled[:, :, 0, 0], filled[:, :, 1, 0] = scores[:, :, 0, 0], scores[:, :, 1, 1]
    assert all(map(close, found, compare(filled, 0)))
    assert found[0].cases == 12


def test_what_one_row_lacks_no_row_uses() -> None:
    scores = drawn()
    lacking = scores.copy()
    lacking[2, :, 4:6] = np.nan
    lacking[1, 3] = np.nan
    rest = np.delete(np.delete(scores, 3, axis=1), [4, 5], axis=2)
    found = compare(lacking, 0)
    assert all(map(close, found, compare(rest, 0)))
    assert (found[0].seeds, found[0].cases) == (4, 10)
    target = np.arange(12) % 2
    both = (
        compare_auc(target, lacking[..., 0], 0),
        compare_auc(np.delete(target, [4, 5]), rest[..., 0], 0),
    )
    assert all(map(close, *both))


def test_a_row_without_values_has_no_result_and_disturbs_none() -> None:
    scores = drawn()
    scores[2] = np.nan
    found = compare(scores, 0)
    kept = compare(np.delete(scores, 2, axis=0), 0)
    assert [math.isnan(one.difference) for one in found] == [False, True, False, False, False]
    assert all(map(close, [found[0], *found[2:]], kept))
    assert all(math.isnan(one.p) for one in compare(scores, 2))
    nothing = np.full_like(scores, np.nan)
    assert len(compare(nothing, 1)) == len(compare_auc(np.arange(12) % 2, nothing[..., 0], 1)) == 5
    assert math.isnan(compare_pair(nothing[0], nothing[1, :3])[0].difference)


def test_seeds_with_cases_of_their_own() -> None:
    """Each seed has cases of its own: all that they bring is in the seeds' part, once."""
    scores = drawn(cases=15)[..., :1]
    for seed in range(5):
        scores[:, seed, np.arange(15) % 5 != seed] = np.nan
    found = compare(scores, 0)[0]
    y = np.nanmean(scores, axis=(2, 3))
    assert found.difference == pytest.approx((y[0] - y[1]).mean())
    [pair] = compare_pair(scores[0], scores[1])
    assert pair.error == pytest.approx((y[0] - y[1]).std(ddof=1) / math.sqrt(5))
    assert pair.df == 4


def test_a_noisy_row_has_a_variance_of_its_own() -> None:
    scores = drawn()
    rng = np.random.default_rng(1)
    scores[3] += rng.normal(0, 0.3, (5, 1, 1))
    found = compare(scores, 0)
    assert found[2].test == APART
    assert found[2].df < 6
    assert found[2].high - found[2].low > 2 * (found[0].high - found[0].low)


def test_the_average_of_tasks() -> None:
    tasks = [drawn(cases=12), drawn(cases=20, classes=1)]
    found = compare_average(tasks, 0)
    singles = [compare(task, 0) for task in tasks]
    for one, first, second in zip(found, *singles, strict=True):
        assert one.difference == pytest.approx((first.difference + second.difference) / 2)
        assert one.cases == 32
    twice = compare_average([tasks[0]] * 2, 0)
    assert [one.difference for one in twice] == pytest.approx([o.difference for o in singles[0]])
    with pytest.raises(ValueError, match="rows and seeds of the tasks differ"):
        compare_average([tasks[0], tasks[1][:3]], 0)


def test_unpaired_seeds_by_hand() -> None:
    """Without a spread over cases, the variances of both means over their seeds."""
    ours = np.broadcast_to(np.array([0.5, 0.6, 0.7])[:, None, None], (3, 4, 1))
    other = np.broadcast_to(np.array([0.4, 0.5])[:, None, None], (2, 4, 1))
    [found] = compare_pair(ours, other)
    error = math.sqrt(0.01 / 3 + 0.005 / 2)
    assert found.difference == pytest.approx(0.15)
    assert (found.test, found.df, found.seeds) == (UNPAIRED, 1, 2)
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 1) * error)
    [paired] = compare_pair(ours[:2], other, paired=False)
    assert paired.test == UNPAIRED
    with pytest.raises(ValueError, match="3 and 2 seeds cannot be paired"):
        compare_pair(ours, other, paired=True)


def test_auc_difference_is_that_of_the_areas() -> None:
    # Two decimals, so that there are ties.
    target, values = np.arange(40) % 2, drawn(cases=40)[..., 0].round(2)
    areas = [[roc_auc_score(target, one) for one in row] for row in values]
    found = compare_auc(target, values, 0)
    wanted = np.mean(areas[0]) - np.mean(areas[1:], axis=1)
    assert [one.difference for one in found] == pytest.approx(wanted)
    assert all(map(close, compare_auc(target, values**3, 0), found))


def test_auc_of_one_seed_has_the_interval_of_delong() -> None:
    # By hand: placements of the positive cases 1 and 1/2, of the negative 1/2 and 1, against none.
    target = [1, 1, 0, 0]
    [found] = compare_auc(target, [[[0.9, 0.4, 0.5, 0.1]], [[0.5] * 4]], 0)
    error = math.sqrt(2 * 0.125 / 2)
    assert found.difference == pytest.approx(0.25)
    assert found.df == pytest.approx(2)
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 2) * error)
    assert found.test == NONE
    assert math.isnan(found.p)


def test_auc_of_one_class_is_undefined() -> None:
    found = compare_auc(np.ones(12), drawn()[..., 0], 0)
    assert len(found) == 5
    assert all(math.isnan(value) for one in found for value in astuple(one)[:5])


def test_one_seed_has_an_interval_but_no_mark() -> None:
    scores = drawn(seeds=1)
    scores[0] += 0.3
    for found in (*compare(scores, 0), *compare_pair(scores[0], drawn()[1])):
        assert 0 < found.low < found.difference < found.high
        assert math.isnan(found.p)
        assert found.test == NONE
        assert marks([found], [True]) == [False]
    assert compare(scores, 0)[0].df == 11


@pytest.mark.parametrize("rows", [2, 5])
def test_rows_without_spread(rows: int) -> None:
    same = np.repeat(drawn(1), rows, axis=0)
    for found in (*compare(same, 0), *compare_auc(np.arange(12) % 2, same[..., 0], 0)):
        assert astuple(found)[:4] == pytest.approx((0, 0, 0, 1))
    # A constant lead is as sure as a sign test over seeds, however many cases there are.
    same[0] += 0.01
    for found in compare(same, 0):
        assert astuple(found)[:4] == pytest.approx((0.01, 0.01, 0.01, 2**-4))


def test_a_perfect_area_against_a_constant_is_not_certain() -> None:
    target = np.arange(12.0) % 2
    values = np.stack([np.tile(target, (5, 1)), np.full((5, 12), 0.5)])
    assert astuple(compare_auc(target, values, 0)[0])[:4] == pytest.approx((0.5, 0.5, 0.5, 2**-4))


def test_a_single_case_gives_no_interval() -> None:
    found = compare(drawn()[:, :, :1], 0)
    assert all(math.isfinite(one.difference) for one in found)
    assert all(math.isnan(value) for one in found for value in (one.low, one.high, one.p))


def test_mistakes_are_named() -> None:
    scores = drawn()
    with pytest.raises(ValueError, match=r"rows, seeds, cases, classes\), got \(5, 12, 2\)"):
        compare(scores[0], 0)
    with pytest.raises(ValueError, match="no row 6 among 6"):
        compare(scores, 6)
    with pytest.raises(ValueError, match="cases and classes differ"):
        compare_pair(scores[0], scores[1, :, :3])
    with pytest.raises(ValueError, match=r"\(3,\) targets"):
        compare_auc([0, 1, 1], scores[..., 0], 0)
    with pytest.raises(ValueError, match="one patient must have the same"):
        compare_auc(np.full(12, 0.5), scores[..., 0], 0)


def test_a_patient_is_one_case() -> None:
    scores = drawn(cases=4)
    scores[0, 0, 1, 0] = np.nan
    found, names = by_patient(scores, ["b", "a", "b", "a"], axis=-2)
    assert names == ("b", "a")
    assert found.shape == (6, 5, 2, 2)
    assert found[..., 0, :] == pytest.approx(scores[..., [0, 2], :].mean(axis=-2))
    assert found[0, 0, 1, 0] == scores[0, 0, 3, 0]
    target, _ = by_patient([1, 0, 1, 1], ["b", "a", "b", "a"])
    assert target == pytest.approx([1, 0.5])
    assert np.isnan(by_patient([math.nan, 1], ["a", "b"])[0]).tolist() == [True, False]
    with pytest.raises(ValueError, match="1 patients for 2 scans"):
        by_patient([1, 2], ["a"])


def test_what_may_be_marked_follows_the_number_of_seeds() -> None:
    allowed = [(may_be_marked(n), may_be_marked(n, primary=True)) for n in (1, 2, 3, 5, 10)]
    assert allowed == [(False, False)] * 2 + [(False, True)] + [(True, True)] * 2
    first = compare(drawn(), 0)[0]
    sure, likely = replace(first, p=0.001), replace(first, p=0.02)
    assert marks([sure, likely, replace(first, p=math.nan)]) == [True, True, False]
    assert marks([sure, likely, replace(first, p=0.9)]) == [True, True, False]
    assert marks([sure, replace(likely, p=0.03), replace(first, p=0.9)]) == [True, False, False]
    # With three seeds, those named beforehand are a family of their own.
    three = [replace(one, seeds=3) for one in (likely, sure, likely)]
    assert marks(three) == [False] * 3
    assert marks(three, [True, False, True]) == [True, False, True]
    words = ("No marks", "Intervals only: 3", "assuming", "over the table.")
    assert all(word in marking_rule(n) for word, n in zip(words, (1, 3, 5, 10), strict=True))
    assert "one seed" in marking_rule(1)
    assert marking_rule(2).startswith("No marks: 2 seeds")


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize(
    ("score", "cases", "sd"),
    [("dice", 16, sd) for sd in (0.0, 1.0, 3.0, 5.0)] + [("auc", 40, sd) for sd in (0.0, 3.0)],
)
def test_equal_methods_are_seldom_marked(score: str, cases: int, sd: float, seeds: int) -> None:
    """The short form of the simulation in docs/statistics.md."""
    found = simulate(Setting(seeds, cases, sd, score), 40 if score == "dice" else 20)
    assert found.coverage >= 0.93
    assert found.any_mark <= 0.06


def test_unequal_methods_and_better_ones() -> None:
    apart = simulate(Setting(5, 16, 1.0, own_cases=True), 40)
    assert apart.coverage >= 0.93
    assert apart.any_mark <= 0.06
    unequal = simulate(Setting(10, 16, UNEQUAL[0]), 40)
    assert unequal.coverage >= 0.93
    assert unequal.any_mark <= 0.06
    better = simulate(Setting(5, 16, 1.0, lead=6.0), 10)
    assert better.marks > 0.9
    assert better.coverage >= 0.93
