"""Mean training shape: a segmentation that never looks at the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxseq.config.base import Shape3
from voxseq.config.data import IGNORED
from voxseq.data import grid as resample
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.dice import Array, class_means

#: Longest side of the common grid.
_LARGEST = 96
#: Thresholds that are tried.
THRESHOLDS = tuple(n / 20 for n in range(1, 20))


@dataclass(frozen=True)
class MeanShape:
    """Share of training cases that have each foreground class at each place.

    Attributes:
        shares: (classes, *grid) float32; whatever an image's shape, the grid spans it.
        thresholds: (classes,) a class is predicted where its share is above.
    """

    shares: Array
    thresholds: tuple[float, ...]

    def __call__(self, image: Array) -> Tensor:
        """Logits (1 + classes, X, Y, Z) for an image (C, X, Y, Z): only its shape is read.

        Background has logit 0 and each class the logarithm of its share over its threshold: the
        largest wins, and background where no class is above its threshold.
        """
        shape = image.shape[1:]
        shares = resample.linear(self.shares, shape)
        thresholds = np.array(self.thresholds, np.float32).reshape(-1, 1, 1, 1)
        with np.errstate(divide="ignore"):
            ratios = np.log(shares) - np.log(thresholds)
        logits = np.concatenate([np.zeros((1, *shape), np.float32), ratios])
        return torch.from_numpy(logits.astype(np.float32))


def fit_mean_shape(
    volumes: Volumes, train: Sequence[int], val: Sequence[int], classes: int
) -> MeanShape:
    """Average the training labels and choose each class's threshold by its validation Dice.

    Labels are resampled to a common grid, the mean shape of the training volumes with at most 96
    voxels a side. Of thresholds with equal Dice the middle one is taken; those of several
    classes are chosen one by one.

    Args:
        volumes: store of the task.
        train: rows that are averaged.
        val: rows by which thresholds are chosen.
        classes: number of foreground classes.
    """
    grid = common_grid([volumes.shape(row) for row in train])
    total = np.zeros((classes, *grid), np.float64)
    for row in train:
        each = [volumes.label(row) == number for number in range(1, classes + 1)]
        total += resample.linear(np.stack(each).astype(np.float32), grid)
    shares = (total / len(train)).astype(np.float32)
    dice = np.stack([_dice_by_threshold(shares, volumes.label(row)) for row in val])
    means = class_means(dice.reshape(len(val), -1)).reshape(classes, len(THRESHOLDS))
    return MeanShape(shares, tuple(_best(scores) for scores in means))


def common_grid(shapes: Sequence[Shape3]) -> Shape3:
    """Mean of some shapes, each side rounded and bounded."""
    x, y, z = (min(max(round(float(side)), 1), _LARGEST) for side in np.mean(shapes, axis=0))
    return (x, y, z)


def _best(scores: NDArray[np.float64]) -> float:
    """Threshold of the largest score; the middle one for a class that no validation case has."""
    if np.isnan(scores).all():
        return THRESHOLDS[len(THRESHOLDS) // 2]
    equal = np.flatnonzero(scores == np.nanmax(scores))
    return THRESHOLDS[int(equal[len(equal) // 2])]


def _dice_by_threshold(shares: Array, truth: Array) -> NDArray[np.float64]:
    """Dice of each class at each threshold, NaN where the truth lacks the class."""
    placed = resample.linear(shares, truth.shape) * (truth != IGNORED)
    scores = np.full((len(shares), len(THRESHOLDS)), np.nan)
    for index, share in enumerate(placed):
        inside = truth == index + 1
        if inside.any():
            for number, threshold in enumerate(THRESHOLDS):
                predicted = share > threshold
                overlap = int((predicted & inside).sum())
                scores[index, number] = 2 * overlap / (int(predicted.sum()) + int(inside.sum()))
    return scores
