"""Scores of classification, of two classes or more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxseq.base.errors import DataError

Array = NDArray[Any]
#: Probability above which a case counts as class 1 of two (published code).
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


def auc_per_class(target: Array, probability: Array) -> NDArray[np.float64]:
    """AUC of each class against all others: (K,), NaN for a class that no case has.

    Args:
        target: (n,) classes from 0.
        probability: (n, K) of each class.

    Raises:
        DataError: all cases are of one class.
    """
    target = np.asarray(target)
    return np.array(
        [
            auc(target == number, chance) if (target == number).any() else np.nan
            for number, chance in enumerate(np.asarray(probability).T)
        ]
    )


def macro_auc(target: Array, probability: Array) -> float:
    """Mean over the classes of :func:`auc_per_class`; of two classes the AUC of class 1."""
    if np.shape(probability)[1] == 2:
        return auc(target, np.asarray(probability)[:, 1])
    areas = auc_per_class(target, probability)
    return float(areas[(np.asarray(target)[:, None] == np.arange(len(areas))).any(axis=0)].mean())


def predicted(probability: Array) -> NDArray[np.int64]:
    """Most probable class of each case, the first of equal ones: (n, K) → (n,).

    Of two classes it is class 1 where its probability is above ``THRESHOLD``.
    """
    classes: NDArray[np.int64] = np.asarray(probability).argmax(axis=1)
    return classes


def accuracy(target: Array, probability: Array) -> float:
    """Share of cases (0..1) whose most probable class (n, K) is their own."""
    return float(np.mean(predicted(probability) == np.asarray(target)))


def scores(target: Array, probability: Array) -> dict[str, float]:
    """Scores of a whole split by name: "auc" (the mean over classes) and "accuracy"."""
    given = (target, probability)
    return {"auc": macro_auc(*given), "accuracy": accuracy(*given)}
