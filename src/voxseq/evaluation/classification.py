"""Scores of binary classification."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, roc_auc_score

from voxseq.errors import DataError

Array = NDArray[Any]
#: Probability above which a case counts as class 1 (published code).
THRESHOLD = 0.5


def auc(target: Array, probability: Array) -> float:
    """Area under the ROC curve.

    Args:
        target: (n,) classes 0 and 1.
        probability: (n,) of class 1, in 0..1.

    Raises:
        DataError: all cases are of one class, for which it is undefined.
    """
    if len(np.unique(target)) < 2:
        raise DataError(
            f"AUC is undefined: all {len(target)} cases are of one class",
            "give the validation and the test split cases of both classes",
        )
    return float(roc_auc_score(target, probability))


def accuracy(target: Array, probability: Array) -> float:
    """Share of cases (0..1) whose probability lies on the right side of ``THRESHOLD``."""
    return float(accuracy_score(target, (np.asarray(probability) > THRESHOLD).astype(int)))
