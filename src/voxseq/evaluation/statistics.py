"""Comparisons of methods with seeds and cases as crossed random effects: pure arrays.

A seed is one whole chain (data, pre-training, fine-tuning), a case one patient. Score of row m,
seed s, case c::

    y = mu_m + a_s + b_c + (ab)_sc + u_ms + v_mc + e_msc

What is common to the rows cancels in differences. With d the difference of two rows, its variance
is ``seed + case - residual``, not below ``seed`` or ``case``:

- *seed*: variance of the seeds' means over S. It is pooled over the rows, but for a row whose seeds
  scatter more than those of the rest (``NOISY``), which has its own.
- *case*: variance of the cases' means of d over C; DeLong's for an AUC.
- *residual*: e, which is in both parts, counted once.

The quotient has a t distribution with Satterthwaite's degrees of freedom. Two rows alone cannot be
pooled: they have S - 1, whatever their cases add. docs/statistics.md has the false marks, coverage
and power of this rule on simulated tables of equal and unequal methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxseq.evaluation.comparison import (
    APART,
    NONE,
    POOLED,
    UNPAIRED,
    Comparison,
    combined,
    contrast_of,
    finished,
    unknown,
)
from voxseq.evaluation.effects import (
    NOISY,
    Array,
    Column,
    auc_column,
    averaged,
    case_part,
    checked,
    divided,
    interaction,
    mean_column,
    residual_shares,
    satterthwaite,
    seed_variances,
)

SIGNIFICANT = 0.05
#: Seeds from which every comparison may be marked without a word, from which every one may with
#: its assumption named, and from which those that were named beforehand may.
SEEDS_SAFE, SEEDS_ALL, SEEDS_PRIMARY = 10, 5, 3


def compare(scores: ArrayLike, reference: int) -> list[Comparison]:
    """Compare every other row with the reference on one task.

    Args:
        scores: Dice or accuracy of rows with the same network, shape (rows, seeds, cases, classes),
            in 0..1. NaN where undefined: classes of a case are averaged where all rows have them.
            A row without any value is left out and has NaN for a result. A row that draws nothing
            is no such row: see :func:`compare_pair`.
        reference: number of the reference's row.

    Returns:
        One entry for each other row, in order.

    Raises:
        ValueError: not four axes, or no such row.
    """
    return compare_average([scores], reference)


def compare_average(tasks: Sequence[ArrayLike], reference: int) -> list[Comparison]:
    """Compare every other row with the reference by the mean of their scores over tasks.

    Args:
        tasks: scores of each task as for :func:`compare`; rows and seeds are the same in all, cases
            and classes are each task's own.
        reference: number of the reference's row.

    Raises:
        ValueError: as :func:`compare`, or tasks of different rows or seeds.
    """
    arrays = [checked(scores, 4, "(rows, seeds, cases, classes)") for scores in tasks]
    if len({array.shape[:2] for array in arrays}) != 1:
        raise ValueError(f"rows and seeds of the tasks differ: {[a.shape[:2] for a in arrays]}")
    has_values = np.all([np.isfinite(a).any(axis=(1, 2, 3)) for a in arrays], axis=0)
    column = averaged([mean_column(array[has_values]) for array in arrays])
    return _against(column, has_values, reference)


def compare_auc(target: ArrayLike, probabilities: ArrayLike, reference: int) -> list[Comparison]:
    """Compare every other row's area under the ROC curve with the reference's.

    The case part of the variance is that of DeLong, DeLong and Clarke-Pearson (1988), of placements
    averaged over seeds.

    Args:
        target: class of each case, 0 or 1, shape (cases,).
        probabilities: of class 1, shape (rows, seeds, cases); NaN where undefined: such a case
            is left out of its seed in all rows. Rows of different networks are given two at a time.
        reference: number of the reference's row.

    Returns:
        One entry for each other row, in order; NaN where all cases are of one class.

    Raises:
        ValueError: shapes that do not fit, another target than 0 and 1, or no such row.
    """
    values = checked(probabilities, 3, "(rows, seeds, cases)")
    classes = np.asarray(target, dtype=np.float64)
    if classes.shape != values.shape[2:]:
        raise ValueError(f"{classes.shape} targets for probabilities of shape {values.shape}")
    if not np.isin(classes, (0, 1)).all():
        raise ValueError("targets must be 0 or 1; scans of one patient must have the same one")
    has_values = np.asarray(np.isfinite(values).any(axis=(1, 2)), dtype=bool)
    return _against(auc_column(classes == 1, values[has_values]), has_values, reference)


def compare_pair(
    ours: ArrayLike, other: ArrayLike, *, paired: bool | None = None
) -> list[Comparison]:
    """Compare two rows alone, as of different networks.

    A row that draws nothing is given once for each seed, with the same values; one seed of one
    that does draw gives an interval over cases and no p value.

    Args:
        ours: Dice or accuracy, shape (seeds, cases, classes), in 0..1, NaN where undefined.
        other: the same of the other row; the cases are the same.
        paired: whether seed i of the one is seed i of the other. By default it is, where both have
            the same number of seeds.

    Returns:
        One entry: ours minus other.

    Raises:
        ValueError: shapes that do not fit; paired rows with different numbers of seeds.
    """
    sides = [checked(side, 3, "(seeds, cases, classes)") for side in (ours, other)]
    seeds = [len(side) for side in sides]
    if sides[0].shape[1:] != sides[1].shape[1:]:
        raise ValueError(f"cases and classes differ: {sides[0].shape} and {sides[1].shape}")
    if paired and seeds[0] != seeds[1]:
        raise ValueError(f"{seeds[0]} and {seeds[1]} seeds cannot be paired")
    if seeds[0] == seeds[1] if paired is None else paired:
        return compare(np.stack(sides), 0)
    # Means over the same cases on both sides need cases that all seeds have.
    common = np.asarray(np.isfinite(np.concatenate(sides)).all(axis=0), dtype=bool)
    columns = [mean_column(np.where(common, side, np.nan)[None]) for side in sides]
    if not common.any():
        return [unknown(min(seeds))]
    difference = float(columns[0].means.mean() - columns[1].means.mean())
    share = columns[0].shares[0].mean(axis=0) - columns[1].shares[0].mean(axis=0)
    groups = columns[0].groups()
    case, case_df = case_part(share, groups)
    residual = sum(float((residual_shares(c, groups) ** 2).sum()) for c in columns)
    seed = sum(float(c.means.var(ddof=1)) / c.means.size for c in columns if c.means.size > 1)
    variance = combined(seed, case, residual)
    fewest, cases = min(seeds), int(common.any(axis=1).sum())
    df = min(fewest - 1, case_df) if fewest > 1 else case_df
    return [finished(difference, variance, df, UNPAIRED, fewest, cases)]


def holm(p: Sequence[float] | Array) -> list[float]:
    """Holm's step-down correction; NaN stays NaN and does not count as a test.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    valid = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    adjusted = [math.nan] * len(p)
    running = 0.0
    for rank, (value, index) in enumerate(valid):
        running = max(running, min(1.0, float(value) * (len(valid) - rank)))
        adjusted[index] = running
    return adjusted


def may_be_marked(seeds: int, *, primary: bool = False) -> bool:
    """Whether that many seeds allow a mark; ``primary``: the contrast was named beforehand."""
    return seeds >= (SEEDS_PRIMARY if primary else SEEDS_ALL)


def marking_rule(seeds: int) -> str:
    """What that many seeds allow to be marked, as a sentence for the notes of a table."""
    if seeds >= SEEDS_SAFE:
        return "Marks: p below 0.05 after Holm's correction over the table."
    if seeds >= SEEDS_ALL:
        return (
            "Marks: p below 0.05 after Holm's correction over the table, assuming that rows "
            f"scatter alike over seeds unless an F test at {NOISY:.0%} says otherwise; {seeds} "
            "seeds can hardly check that."
        )
    if seeds >= SEEDS_PRIMARY:
        return (
            f"Intervals only: {seeds} seeds cannot check how rows scatter over seeds. Marked are "
            "contrasts that were named beforehand, corrected among themselves and assuming that "
            "rows scatter alike."
        )
    if seeds > 1:
        return f"No marks: {seeds} seeds cannot tell how far seeds scatter."
    return "No marks: one seed says nothing about another; an interval over cases is of this run."


def corrected(family: Sequence[Comparison], primary: Sequence[bool] | None = None) -> list[float]:
    """p values after Holm's correction over those comparisons that may be marked; NaN for others.

    Args:
        family: comparisons of one table.
        primary: which of them were named beforehand; by default none.
    """
    named = [False] * len(family) if primary is None else primary
    p = [
        one.p if may_be_marked(one.seeds, primary=first) else math.nan
        for one, first in zip(family, named, strict=True)
    ]
    return holm(p)


def marks(family: Sequence[Comparison], primary: Sequence[bool] | None = None) -> list[bool]:
    """Which comparisons of a table are marked: see :func:`corrected`; p below 0.05."""
    return [value < SIGNIFICANT for value in corrected(family, primary)]


def by_patient(
    values: ArrayLike, patients: Sequence[str], axis: int = -1
) -> tuple[Array, tuple[str, ...]]:
    """Average the scans of each patient: a patient is the unit that was sampled.

    Args:
        values: scores, probabilities or targets, with scans along ``axis``.
        patients: patient of each scan.
        axis: of the scans; -2 for scores with classes.

    Returns:
        Means without NaN along ``axis``, NaN where a patient has no value; the patients in order of
        their first scan.

    Raises:
        ValueError: not one patient for each scan.
    """
    array = np.moveaxis(np.asarray(values, dtype=np.float64), axis, 0)
    if len(patients) != len(array):
        raise ValueError(f"{len(patients)} patients for {len(array)} scans")
    names = tuple(dict.fromkeys(patients))
    place = {name: number for number, name in enumerate(names)}
    rows = [place[name] for name in patients]
    total, count = np.zeros((2, len(names), *array.shape[1:]))
    np.add.at(total, rows, np.nan_to_num(array))
    np.add.at(count, rows, np.isfinite(array))
    return np.moveaxis(divided(total, count), 0, axis), names


def _against(column: Column, has_values: NDArray[np.bool_], reference: int) -> list[Comparison]:
    """Every row against the reference; ``column`` has those rows that have values."""
    if not 0 <= reference < len(has_values):
        raise ValueError(f"no row {reference} among {len(has_values)}")
    kept = np.asarray(np.isfinite(column.means).all(axis=0), dtype=bool)
    rows = _Rows(column.of_seeds(kept))
    nothing = unknown(int(kept.sum()))
    if not kept.any() or not has_values[reference]:
        return [nothing] * (len(has_values) - 1)
    place = np.cumsum(has_values) - 1
    return [
        rows.compared(int(place[reference]), int(place[row])) if has_values[row] else nothing
        for row in range(len(has_values))
        if row != reference
    ]


class _Rows:
    """Rows of a column, all of whose seeds have cases, and what their comparisons share."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._groups = column.groups()
        self._shares = column.shares.sum(axis=1) / max(len(column.present), 1)
        self._residuals = residual_shares(column, self._groups)
        self._noisy, self._own = seed_variances(column.means)
        self._pooled = interaction(column.means)

    def compared(self, ours: int, other: int) -> Comparison:
        """Row ``ours`` minus row ``other``."""
        rows, seeds = self._column.means.shape
        if rows == 2:
            weights = np.zeros(2)
            weights[ours], weights[other] = 1, -1
            return contrast_of(self._column, weights)
        gaps = self._column.means[ours] - self._column.means[other]
        share = self._shares[ours] - self._shares[other]
        difference, cases = float(gaps.mean()), sum(len(members) for members in self._groups)
        case, case_df = case_part(share, self._groups)
        if seeds == 1:
            return finished(difference, case, case_df, NONE, seeds, cases)
        residual = float(((self._residuals[ours] - self._residuals[other]) ** 2).sum())
        apart = [float(self._own[row]) / seeds for row in (ours, other) if self._noisy[row]]
        pooled = (2 - len(apart)) * self._pooled / seeds
        seed = sum(apart) + pooled
        parts = [(part, seeds - 1) for part in apart] + [(pooled, (rows - 1) * (seeds - 1))]
        seed_df = satterthwaite(seed, parts)
        variance = combined(seed, case, residual)
        if variance == seed:
            df = seed_df
        elif variance == case:
            df = case_df
        else:
            of_residual = (residual, (seeds - 1) * case_df)
            df = satterthwaite(variance, [(seed, seed_df), (case, case_df), of_residual])
        return finished(difference, variance, df, APART if apart else POOLED, seeds, cases)
