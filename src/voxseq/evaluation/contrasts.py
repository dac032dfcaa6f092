"""Weighted sums of rows: a single row, the mean of some rows against others, a trend.

The variance is that of :mod:`voxseq.evaluation.statistics` for two rows alone: nothing is pooled,
and there are as many degrees of freedom as seeds, less one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from voxseq.evaluation.comparison import OVER_SEEDS, Comparison, contrast_of, finished, unknown
from voxseq.evaluation.effects import Column, auc_column, checked, mean_column


def contrast(tasks: Sequence[ArrayLike], weights: ArrayLike) -> Comparison:
    """Sum over tasks and rows of the scores, with weights.

    Args:
        tasks: scores of each task, shape (rows, seeds, cases, classes), NaN where undefined: only
            what all rows have counts. Seeds are the same in all tasks.
        weights: shape (tasks, rows); one row with the weight 1 gives that row's mean.

    Raises:
        ValueError: shapes that do not fit.
    """
    arrays = [checked(scores, 4, "(rows, seeds, cases, classes)") for scores in tasks]
    return _of_columns([mean_column(array) for array in arrays], weights)


def contrast_auc(target: ArrayLike, probabilities: ArrayLike, weights: ArrayLike) -> Comparison:
    """Sum over rows of the areas under the ROC curve, with weights.

    Args:
        target: class of each case, 0 or 1, shape (cases,).
        probabilities: of class 1, shape (rows, seeds, cases), NaN where undefined.
        weights: of the rows.
    """
    values = checked(probabilities, 3, "(rows, seeds, cases)")
    column = auc_column(np.asarray(target) == 1, values)
    return _of_columns([column], np.asarray(weights, dtype=np.float64)[None])


def over_seeds(values: ArrayLike) -> Comparison:
    """Mean of one value for each seed, with an interval over seeds.

    For scores that are no mean over cases: the interval is of these cases, so that there is no p.

    Args:
        values: shape (seeds,); undefined ones are left out.
    """
    given = checked(values, 1, "(seeds,)")
    known = given[np.isfinite(given)]
    if not known.size:
        return unknown(given.size)
    mean, nan = float(known.mean()), math.nan
    if known.size == 1:
        return Comparison(mean, nan, nan, nan, nan, OVER_SEEDS, 1, 0)
    variance = float(known.var(ddof=1)) / known.size
    found = finished(mean, variance, known.size - 1, OVER_SEEDS, known.size, 0)
    return Comparison(mean, found.low, found.high, nan, found.df, OVER_SEEDS, known.size, 0)


def _of_columns(columns: Sequence[Column], weights: ArrayLike) -> Comparison:
    given = checked(weights, 2, "(tasks, rows)")
    shapes = [column.means.shape for column in columns]
    if len({seeds for _, seeds in shapes}) != 1 or given.shape != (len(columns), shapes[0][0]):
        raise ValueError(f"weights of shape {given.shape} for rows and seeds {shapes}")
    # The rows of a task are other rows than those of the next, whose cases they do not have.
    means = np.concatenate([column.means for column in columns])
    sizes = [column.shares.shape[2] for column in columns]
    shares = np.zeros((len(means), shapes[0][1], sum(sizes)))
    row = case = 0
    for column in columns:
        rows, _, cases = column.shares.shape
        shares[row : row + rows, :, case : case + cases] = column.shares
        row, case = row + rows, case + cases
    present = np.concatenate([column.present for column in columns], axis=1)
    step = max(int(column.strata.max(initial=0)) for column in columns) + 1
    strata = np.concatenate([c.strata + step * n for n, c in enumerate(columns)])
    kept = np.asarray(np.isfinite(means).all(axis=0), dtype=bool)
    if not kept.any():
        return unknown(0)
    return contrast_of(Column(means, shares, present, strata).of_seeds(kept), given.ravel())
