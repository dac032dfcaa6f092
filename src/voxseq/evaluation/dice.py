"""Dice coefficients per case and class, and their mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def dice_per_class(prediction: Array, truth: Array, classes: int) -> NDArray[np.float64]:
    """Dice coefficient 2 |P ∩ T| / (|P| + |T|) of each foreground class of one case.

    Args:
        prediction: (X, Y, Z) integer labels, 0 the background.
        truth: (X, Y, Z) integer labels on the same grid.
        classes: number of foreground classes 1, 2, …

    Returns:
        (classes,) in 0..1: NaN for a class that the truth lacks, whatever was predicted (the
        published evaluation skips it); 0 for one that only the prediction lacks.

    Raises:
        ValueError: shapes that differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    scores = np.full(classes, np.nan)
    for index in range(classes):
        in_truth = truth == index + 1
        size = int(in_truth.sum())
        if size:
            in_prediction = prediction == index + 1
            overlap = int((in_truth & in_prediction).sum())
            scores[index] = 2.0 * overlap / (size + int(in_prediction.sum()))
    return scores


def class_means(scores: Array) -> NDArray[np.float64]:
    """Mean over the cases that have a class: (cases, classes) → (classes,).

    A class that no case has is NaN.
    """
    present = ~np.isnan(scores)
    counts = present.sum(axis=0)
    sums = np.where(present, scores, 0.0).sum(axis=0)
    means = np.full(scores.shape[1], np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def mean_dice(scores: Array) -> float:
    """Mean over cases, then over foreground classes: (cases, classes) → scalar, NaN if empty."""
    means = class_means(scores)
    seen = means[~np.isnan(means)]
    return float(seen.mean()) if seen.size else float("nan")
