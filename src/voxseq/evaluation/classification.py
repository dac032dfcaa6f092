"""Scores of binary classification."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxseq.base.errors import DataError

Array = NDArray[Any]
#: Probability above which a case counts as class 1 (published code).
THRESHOLD = 0.5


def auc(target: Array, probability: Array) -> float:
    """Area under the ROC curve: the share of pairs of both classes that are in order, ties a half.

    Args:
        target: (n,) classes 0 and 1.
        probability: (n,) of class 1, in 0..1; with a NaN among them the area is NaN.

    Raises:
        DataError: all cases are of one class, for which it is undefined.
    """
    positive = np.asarray(target) == 1
    hits, misses = int(positive.sum()), int((~positive).sum())
    if not hits or not misses:
        raise DataError(
            f"AUC is undefined: all {len(target)} cases are of one class",
            "give the validation and the test split cases of both classes",
        )
    if np.isnan(probability).any():
        return float("nan")
    # Mean ranks, of which ties share one (Mann and Whitney 1947).
    _, place, counts = np.unique(probability, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def accuracy(target: Array, probability: Array) -> float:
    """Share of cases (0..1) whose probability lies on the right side of ``THRESHOLD``."""
    return float(np.mean((np.asarray(probability) > THRESHOLD) == (np.asarray(target) == 1)))
