"""Scores of rows as sums over cases, and the parts of the variance of their differences.

The model and the rule that adds the parts are in :mod:`voxseq.evaluation.statistics`. Dice,
accuracy, averages of tasks and areas under the ROC curve differ only in how a case moves the mean
of a seed; what follows is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
#: A row has a seed variance of its own if the F test against the rest is below this level. It is
#: no claim about the row: a noisy row that is missed costs more than a quiet one set apart.
NOISY = 0.25
#: Standard errors below this are rounding errors of identical scores.
TINY = 1e-12


@dataclass(frozen=True)
class Column:
    """Scores of rows, as means and as what each case adds to them.

    Attributes:
        means: mean score of each row and seed, shape (rows, seeds); NaN for a seed without cases.
        shares: how far each case moves that mean, shape (rows, seeds, cases).
        present: whether a seed has the case, shape (seeds, cases).
        strata: group in which a case was sampled, shape (cases,): its task or its class.
    """

    means: Array
    shares: Array
    present: NDArray[np.bool_]
    strata: NDArray[np.intp]

    def groups(self) -> list[NDArray[np.intp]]:
        """Numbers of the cases of each stratum that any seed has."""
        here = self.present.any(axis=0)
        return [np.flatnonzero(here & (self.strata == one)) for one in np.unique(self.strata)]

    def of_seeds(self, kept: NDArray[np.bool_]) -> Column:
        """The column of some of its seeds, shape (seeds,)."""
        return Column(self.means[:, kept], self.shares[:, kept], self.present[kept], self.strata)


def mean_column(scores: Array) -> Column:
    """Column of scores (rows, seeds, cases, classes): means over classes, then over cases."""
    valid = np.asarray(np.isfinite(scores).all(axis=0), dtype=bool)
    present = np.asarray(valid.any(axis=-1), dtype=bool)
    total = np.where(valid, scores, 0.0).sum(axis=-1)
    values = divided(total, np.broadcast_to(valid.sum(axis=-1), total.shape))
    values = np.where(present, values, 0.0)
    count = present.sum(axis=-1)
    sums = values.sum(axis=-1)
    means = divided(sums, np.broadcast_to(count, sums.shape))
    centred = np.where(present, values - means[..., None], 0.0)
    shares = centred / np.maximum(count, 1)[:, None]
    return Column(means, shares, present, np.zeros(present.shape[1], dtype=np.intp))


def auc_column(positive: NDArray[np.bool_], probabilities: Array) -> Column:
    """Column of AUCs; the share of a case is its placement, the part of the others it outranks."""
    present = np.asarray(np.isfinite(probabilities).all(axis=0), dtype=bool)
    means = np.full(probabilities.shape[:2], np.nan)
    shares = np.zeros_like(probabilities)
    for seed, here in enumerate(present):
        hits, misses = np.flatnonzero(here & positive), np.flatnonzero(here & ~positive)
        if not hits.size or not misses.size:
            present[seed] = False
            continue
        for row, values in enumerate(probabilities[:, seed]):
            gap = values[hits][:, None] - values[misses]
            wins = np.heaviside(gap, 0.5)
            means[row, seed] = wins.mean()
            shares[row, seed, hits] = (wins.mean(axis=1) - wins.mean()) / hits.size
            shares[row, seed, misses] = (wins.mean(axis=0) - wins.mean()) / misses.size
    return Column(means, shares, present, positive.astype(np.intp))


def averaged(columns: Sequence[Column]) -> Column:
    """The mean of columns with the same rows and seeds; the cases of each are a stratum."""
    means = np.mean([column.means for column in columns], axis=0)
    shares = np.concatenate([column.shares for column in columns], axis=2) / len(columns)
    present = np.concatenate([column.present for column in columns], axis=1)
    strata = np.repeat(np.arange(len(columns)), [len(column.strata) for column in columns])
    return Column(means, shares, present, strata)


def seed_variances(means: Array) -> tuple[NDArray[np.bool_], Array]:
    """Which rows scatter over seeds more than the rest, and each row's variance over seeds.

    The variance is that of the distance from the mean of the other rows, so that what a seed does
    to all rows cancels.

    Args:
        means: shape (rows, seeds).
    """
    from scipy import special

    rows, seeds = means.shape
    if rows < 3 or seeds < 2:
        return np.zeros(rows, dtype=bool), np.zeros(rows)
    squares = (_interactions(means) ** 2).sum(axis=1)
    # The distance from the mean of the others is rows / (rows - 1) times that from the mean of all.
    scale = rows / (rows - 1)
    own = scale**2 * squares / (seeds - 1)
    df = (rows - 2) * (seeds - 1)
    rest = np.maximum(squares.sum() - scale * squares, 0.0) / df
    ratio = own / np.maximum(scale * rest, TINY**2)
    return (special.fdtrc(seeds - 1, df, ratio) < NOISY) & (own > TINY**2), own


def interaction(means: Array) -> float:
    """Mean square of row × seed, of means (rows, seeds); 0 where there is but one of either."""
    rows, seeds = means.shape
    if rows < 2 or seeds < 2:
        return 0.0
    return float((_interactions(means) ** 2).sum() / ((rows - 1) * (seeds - 1)))


def _interactions(means: Array) -> Array:
    """What is left of means (rows, seeds) without the rows' and the seeds' own."""
    rest = means - means.mean(axis=0)
    return np.asarray(rest - rest.mean(axis=1, keepdims=True))


def case_part(share: Array, groups: Sequence[NDArray[np.intp]]) -> tuple[float, float]:
    """Variance of a difference that the choice of cases brings, and its degrees of freedom.

    Args:
        share: how far each case moves the difference, shape (cases,).
        groups: of :meth:`Column.groups`.
    """
    parts = []
    for members in groups:
        count, values = len(members), share[members]
        part = count / (count - 1) * float(values @ values) if count > 1 else math.nan
        parts.append((part, max(count - 1, 1)))
    total = math.fsum(part for part, _ in parts)
    return total, satterthwaite(total, parts)


def residual_shares(column: Column, groups: Sequence[NDArray[np.intp]]) -> Array:
    """What is in the seed part and in the case part, shape (rows, seeds, cases).

    The sum of squares of the difference of two rows is that part of the difference's variance.

    Args:
        column: the scores.
        groups: of :meth:`Column.groups`.
    """
    seeds = column.means.shape[1]
    if not seeds:
        return column.shares
    # A case that a seed does not have moves its mean by nothing. Where no two seeds have a case in
    # common, all that cases bring is in the seed part.
    centred = column.shares - column.shares.mean(axis=1, keepdims=True)
    factor = np.full(column.shares.shape[2], seeds / max(seeds - 1, 1))
    for members in groups:
        factor[members] *= len(members) / max(len(members) - 1, 1)
    return np.asarray(centred * np.sqrt(factor) / seeds)


def satterthwaite(total: float, parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of mean squares, each with its own."""
    spread = math.fsum(part**2 / df for part, df in parts)
    return total**2 / spread if spread > 0 else math.fsum(df for _, df in parts)


def divided(total: Array, count: Array) -> Array:
    """The quotient, NaN where there is nothing to divide by."""
    quotient: Array = np.full(total.shape, np.nan)
    np.divide(total, count, out=quotient, where=np.asarray(count) > 0)
    return quotient


def checked(values: ArrayLike, axes: int, meaning: str) -> Array:
    """The values as an array.

    Raises:
        ValueError: another number of axes.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != axes:
        raise ValueError(f"expected shape {meaning}, got {array.shape}")
    return array
