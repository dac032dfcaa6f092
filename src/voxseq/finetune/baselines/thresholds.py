"""Segmentation from class shares: of each class the threshold with the best validation Dice."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxseq.config.data import IGNORED
from voxseq.evaluation.dice import Array, class_means

#: Thresholds that are tried.
THRESHOLDS = tuple(n / 20 for n in range(1, 20))


def logits_of(shares: Array, thresholds: tuple[float, ...]) -> Tensor:
    """Logits (1 + classes, X, Y, Z) of shares (classes, X, Y, Z).

    Background has logit 0 and each class the logarithm of its share over its threshold: the
    largest wins, and background where no class is above its threshold.
    """
    borders = np.array(thresholds, np.float32).reshape(-1, 1, 1, 1)
    with np.errstate(divide="ignore"):
        ratios = np.log(shares.astype(np.float32)) - np.log(borders)
    logits = np.concatenate([np.zeros((1, *shares.shape[1:]), np.float32), ratios])
    return torch.from_numpy(logits)


def best_thresholds(cases: Iterable[tuple[Array, Array]]) -> tuple[float, ...]:
    """The threshold of each class with the best mean Dice, each class by itself.

    Of equal ones the middle is taken, and of a class that no case has.

    Args:
        cases: shares (classes, X, Y, Z) and labels (X, Y, Z) of each validation case.
    """
    dice = np.stack([_dice_by_threshold(shares, truth) for shares, truth in cases])
    means = class_means(dice.reshape(len(dice), -1)).reshape(dice.shape[1:])
    return tuple(_best(scores) for scores in means)


def _best(scores: NDArray[np.float64]) -> float:
    if np.isnan(scores).all():
        return THRESHOLDS[len(THRESHOLDS) // 2]
    equal = np.flatnonzero(scores == np.nanmax(scores))
    return THRESHOLDS[int(equal[len(equal) // 2])]


def _dice_by_threshold(shares: Array, truth: Array) -> NDArray[np.float64]:
    """Dice of each class at each threshold, NaN where the truth lacks the class."""
    scores = np.full((len(shares), len(THRESHOLDS)), np.nan)
    for index, share in enumerate(shares * (truth != IGNORED)):
        inside = truth == index + 1
        if inside.any():
            for number, threshold in enumerate(THRESHOLDS):
                predicted = share > threshold
                overlap = int((predicted & inside).sum())
                scores[index, number] = 2 * overlap / (int(predicted.sum()) + int(inside.sum()))
    return scores
