"""Ours against every other method: paired bootstrap intervals and tests with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxseq.report.collect import PREDICTION_COLUMNS, read_runs
from voxseq.report.render import markdown_grid
from voxseq.report.study import (
    DIGITS,
    FACTORS,
    METRIC_TITLES,
    REFERENCE,
    Study,
    Task,
    series_title,
)

Array = NDArray[np.float64]
COLUMNS = (
    *("stage", "task", "ratio", "metric", "reference", "other", "variant"),
    *("difference", "low", "high", "p", "p_holm", "test", "cases", "seeds"),
)
HEADER = (
    *("Task", "Labels", "Score", "Ours against", "Difference [95 % interval]"),
    *("p", "p (Holm)", "Test", "Cases", "Seeds"),
)
WILCOXON = "Wilcoxon signed-rank"
BOOTSTRAP = "paired bootstrap"
_THRESHOLD = 0.5


@dataclass(frozen=True)
class Comparison:
    """Difference of two methods, ours minus the other, in units of the score (0..1).

    Attributes:
        low: lower end of the 95 % interval; NaN where it is undefined.
        p: two-sided p value before correction.
        test: the test behind ``p``.
    """

    difference: float
    low: float
    high: float
    p: float
    test: str
    cases: int
    seeds: int


@dataclass(frozen=True)
class Pairing:
    """Classification scores of two methods on the same cases and seeds.

    Attributes:
        target: class of each case, 0 or 1, shape (cases,).
        ours: probability of class 1, shape (seeds, cases).
        other: the same of the other method.
    """

    target: Array
    ours: Array
    other: Array


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; NaN stays NaN and does not count as a test.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    valid = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(valid):
        running = max(running, min(1.0, p * (len(valid) - rank)))
        adjusted[index] = running
    return adjusted


def wilcoxon(differences: Array) -> float:
    """Two-sided Wilcoxon signed-rank p value; 1 where every difference is zero, NaN if empty.

    Differences are rounded to 12 decimals first, so that ties are not broken by rounding errors.
    """
    from scipy import stats

    finite = np.round(differences[np.isfinite(differences)], 12)
    if not finite.size:
        return math.nan
    if not np.any(finite):
        return 1.0
    return float(stats.wilcoxon(finite, zero_method="wilcox").pvalue)


def compare_dice(ours: Array, other: Array, samples: int, rng: np.random.Generator) -> Comparison:
    """Compare two segmentation methods.

    The score is that of the tables: mean over cases, then over classes, then over seeds. The
    bootstrap draws cases and, where there are several, seeds with replacement, the same for
    both methods. The test is over cases, each averaged over seeds and classes.

    Args:
        ours: Dice, shape (seeds, cases, classes), NaN where a case lacks the class.
        other: the same of the other method.
        samples: number of bootstrap samples.
        rng: source of the draws.
    """
    gap = ours - other
    seeds, cases, _ = gap.shape
    draws_c, draws_s = _counts(cases, samples, rng), _counts(seeds, samples, rng)
    valid = np.isfinite(gap).astype(np.float64)
    filled = np.where(valid > 0, gap, 0.0)
    point = float(_dice(filled, valid, np.ones((1, cases)), np.ones((1, seeds)))[0])
    boot = _dice(filled, valid, draws_c, draws_s)
    p = wilcoxon(_nanmean(gap, (0, 2)))
    return Comparison(point, *_interval(boot), p, WILCOXON, cases, seeds)


def compare_accuracy(pair: Pairing, samples: int, rng: np.random.Generator) -> Comparison:
    """Compare accuracies at threshold 0.5; the test is over cases, averaged over seeds."""
    positive = pair.target[None] > 0
    gap = ((pair.ours > _THRESHOLD) == positive).astype(np.float64) - (
        (pair.other > _THRESHOLD) == positive
    )
    return compare_dice(gap[..., None], np.zeros_like(gap)[..., None], samples, rng)


def compare_auc(pair: Pairing, samples: int, rng: np.random.Generator) -> Comparison:
    """Compare areas under the ROC curve.

    AUC is no mean over cases, so that a signed-rank test does not apply: the two-sided p value
    comes from the bootstrap distribution of the difference, (1 + smaller tail) / (1 + samples).
    """
    seeds, cases = pair.ours.shape
    positive, negative = pair.target > 0, pair.target <= 0
    if not positive.any() or not negative.any():
        nan = math.nan
        return Comparison(nan, nan, nan, nan, BOOTSTRAP, cases, seeds)
    wins = [
        _wins(a[positive], a[negative]) - _wins(b[positive], b[negative])
        for a, b in zip(pair.ours, pair.other, strict=True)
    ]
    counts, draws_s = _counts(cases, samples, rng), _counts(seeds, samples, rng)
    boot = _auc(wins, counts[:, positive], counts[:, negative], draws_s)
    point = float(np.mean([w.mean() for w in wins]))
    finite = boot[np.isfinite(boot)]
    tail = min(int((finite <= 0).sum()), int((finite >= 0).sum()))
    p = min(1.0, 2 * (1 + tail) / (1 + finite.size))
    return Comparison(point, *_interval(boot), p, BOOTSTRAP, cases, seeds)


def differences(study: Study, scores: pd.DataFrame, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Ours against every other method and every variant that has run, task by task.

    Args:
        study: what was planned.
        scores: frame of ``collect``.
        inputs: run id → folder, for predictions.csv of the classification runs.

    Returns:
        One row a comparison, columns ``COLUMNS``; difference = ours − other in 0..1; p_holm is
        corrected over the comparisons of one stage, task, label ratio and metric.
    """
    classification = {task.name for task in study.tasks_of("classification")}
    runs = [run for run in study.runs if run.task in classification]
    predictions = read_runs(runs, inputs, "predictions.csv", ("case", *PREDICTION_COLUMNS[1:]))
    rows: list[dict[str, Any]] = []
    for stage, task, ratio, others in _families(study):
        frame = predictions if task.type == "classification" else scores
        chosen = frame[(frame["task"] == task.name) & _near(frame["ratio"], ratio)]
        for metric in task.metrics:
            keys: dict[str, Any] = {"stage": stage, "task": task, "ratio": ratio, "metric": metric}
            rows += _family(study, chosen, others, **keys)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def to_markdown(study: Study, table: pd.DataFrame) -> str:
    """The comparisons as a Markdown table with a note on how they were made."""
    lines = ["## Ours against the others", ""]
    body = [markdown_row(study, row) for row in table.to_dict("records")]
    lines += markdown_grid(HEADER, body) if body else ["missing: no pair of methods has run."]
    lines += ["", *(f"- {note}" for note in notes(study))]
    return "\n".join(lines) + "\n"


def notes(study: Study) -> tuple[str, ...]:
    """How the comparisons were made, for a reader of the table."""
    return (
        "Difference: ours minus the other; Dice in percentage points, AUC and ACC in 0–1. "
        "Positive: ours is better.",
        f"Interval: percentiles 2.5 and 97.5 of {study.settings.bootstrap_samples} paired "
        "bootstrap samples, drawn over test cases and seeds; with one seed over cases only.",
        f"{WILCOXON}: two-sided, over test cases, each averaged over seeds. AUC is no mean over "
        "cases; its p value is that of the paired bootstrap.",
        "Holm's correction is over the comparisons of one task, label ratio and score.",
    )


def markdown_row(study: Study, row: Mapping[Any, Any]) -> list[str]:
    """The printed cells of one comparison."""
    metric = str(row["metric"])
    factor, digits = FACTORS[metric], DIGITS[metric]
    gap, low, high = (
        _signed(factor * float(row[k]), digits) for k in ("difference", "low", "high")
    )
    return [
        study.tasks[str(row["task"])].title,
        f"{100 * float(row['ratio']):g} %",
        METRIC_TITLES[metric],
        series_title(study, str(row["other"]), str(row["variant"])),
        f"{gap} [{low}, {high}]",
        _p_text(float(row["p"])),
        _p_text(float(row["p_holm"])),
        str(row["test"]),
        str(row["cases"]),
        str(row["seeds"]),
    ]


def _families(study: Study) -> Iterable[tuple[str, Task, float, list[tuple[str, str]]]]:
    """Stage, task, ratio, and the (method, variant) pairs that ours is compared with."""
    for task in study.tasks.values():
        methods = [(m, "") for m in study.methods_of(task.type) if m != REFERENCE]
        yield "finetune", task, 1.0, methods
        if task.name in study.ratio_tasks:
            for ratio in study.ratios:
                if ratio < 1.0:
                    yield "label_ratio", task, ratio, methods
        if task.name in study.ablation_tasks:
            yield "ablation", task, 1.0, [(REFERENCE, variant) for variant in study.ablation]


def _family(
    study: Study,
    frame: pd.DataFrame,
    others: list[tuple[str, str]],
    *,
    stage: str,
    task: Task,
    ratio: float,
    metric: str,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for method, variant in others:
        # Every comparison draws the same cases, whatever else has run.
        rng = np.random.default_rng([study.settings.figure_seed, 7])
        samples = study.settings.bootstrap_samples
        result = _compare(frame, metric, other=(method, variant), samples=samples, rng=rng)
        if result is not None:
            keys = (stage, task.name, ratio, metric, REFERENCE, method, variant)
            rows.append({**dict(zip(COLUMNS[:7], keys, strict=True)), **vars(result)})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def _compare(
    frame: pd.DataFrame,
    metric: str,
    *,
    other: tuple[str, str],
    samples: int,
    rng: np.random.Generator,
) -> Comparison | None:
    """One comparison on the seeds and cases that both have; ``None`` where there are none."""
    left, right = _rows(frame, REFERENCE, ""), _rows(frame, *other)
    seeds = sorted(set(left["seed"]) & set(right["seed"]))
    if not seeds:
        return None
    left, right = left[left["seed"].isin(seeds)], right[right["seed"].isin(seeds)]
    cases = sorted(_common_cases(left) & _common_cases(right))
    if not cases:
        return None
    if metric == "dice":
        labels = sorted(set(left["label"]) | set(right["label"]))
        a, b = (_cube(f[f["metric"] == "dice"], seeds, cases, labels) for f in (left, right))
        return compare_dice(a, b, samples, rng)
    first = left.drop_duplicates("case").set_index("case")["target"].reindex(cases)
    pair = Pairing(
        target=first.to_numpy(dtype=np.float64),
        ours=_cube(left.assign(value=left["probability"], label=""), seeds, cases, [""])[..., 0],
        other=_cube(right.assign(value=right["probability"], label=""), seeds, cases, [""])[..., 0],
    )
    return (compare_auc if metric == "auc" else compare_accuracy)(pair, samples, rng)


def _rows(frame: pd.DataFrame, method: str, variant: str) -> pd.DataFrame:
    return frame[(frame["method"] == method) & (frame["variant"] == variant)]


def _common_cases(frame: pd.DataFrame) -> set[str]:
    """Cases that every seed has."""
    per_seed = [set(group["case"]) for _, group in frame.groupby("seed")]
    return set.intersection(*per_seed) if per_seed else set()


def _cube(frame: pd.DataFrame, seeds: list[int], cases: list[str], labels: list[str]) -> Array:
    """Values as an array (seeds, cases, labels), NaN where there is none."""
    index = pd.MultiIndex.from_product([seeds, cases, labels])
    series = frame.drop_duplicates(["seed", "case", "label"]).set_index(["seed", "case", "label"])
    values = series["value"].reindex(index).to_numpy(dtype=np.float64)
    return values.reshape(len(seeds), len(cases), len(labels))


def _counts(n: int, samples: int, rng: np.random.Generator) -> Array:
    """How often each of n items is drawn in each bootstrap sample, shape (samples, n)."""
    return rng.multinomial(n, np.full(n, 1.0 / n), size=samples).astype(np.float64)


def _dice(filled: Array, valid: Array, cases: Array, seeds: Array) -> Array:
    """Weighted score for each row of weights: mean over cases, then classes, then seeds."""
    total = np.einsum("bc,sck->bsk", cases, filled)
    count = np.einsum("bc,sck->bsk", cases, valid)
    per_seed = _nanmean(_divided(total, count), (2,))
    usable = np.isfinite(per_seed)
    weight = np.where(usable, seeds, 0.0)
    norm = weight.sum(axis=1)
    summed = (np.where(usable, per_seed, 0.0) * weight).sum(axis=1)
    return _divided(summed, norm)


def _wins(positive: Array, negative: Array) -> Array:
    """1 where the positive case ranks above the negative one, ½ for a tie: shape (P, N)."""
    gap = positive[:, None] - negative[None]
    return np.where(gap > 0, 1.0, np.where(gap == 0, 0.5, 0.0))


def _auc(wins: Sequence[Array], positive: Array, negative: Array, seeds: Array) -> Array:
    norm = positive.sum(axis=1) * negative.sum(axis=1)
    per_seed = [np.einsum("bp,pn,bn->b", positive, w, negative, optimize=True) for w in wins]
    mean = (np.stack(per_seed, axis=1) * seeds).sum(axis=1) / seeds.sum(axis=1)
    # A sample that drew one class only has no AUC.
    return _divided(mean, norm)


def _interval(boot: Array) -> tuple[float, float]:
    finite = boot[np.isfinite(boot)]
    if not finite.size:
        return math.nan, math.nan
    low, high = np.quantile(finite, (0.025, 0.975))
    return float(low), float(high)


def _nanmean(values: Array, axes: tuple[int, ...]) -> Array:
    valid = np.isfinite(values)
    total = np.where(valid, values, 0.0).sum(axis=axes)
    return _divided(total, valid.sum(axis=axes, dtype=np.float64))


def _divided(total: Array, count: Array) -> Array:
    """The quotient, NaN where there is nothing to divide by."""
    quotient: Array = np.full(total.shape, np.nan)
    np.divide(total, count, out=quotient, where=count > 0)
    return quotient


def _near(ratios: pd.Series[Any], ratio: float) -> pd.Series[bool]:
    return (ratios.astype(float) - ratio).abs() < 1e-9


def _signed(value: float, digits: int) -> str:
    return "undefined" if math.isnan(value) else f"{value:+.{digits}f}"


def _p_text(p: float) -> str:
    if math.isnan(p):
        return "undefined"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
