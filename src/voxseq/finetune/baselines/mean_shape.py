"""Mean training shape: a segmentation that never looks at the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from voxseq.config.base import Shape3
from voxseq.data import grid as resample
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.dice import Array
from voxseq.finetune.baselines.thresholds import best_thresholds, logits_of

#: Longest side of the common grid.
_LARGEST = 96


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
        """Logits (1 + classes, X, Y, Z) for an image (C, X, Y, Z): only its shape is read."""
        return logits_of(resample.linear(self.shares, image.shape[1:]), self.thresholds)


def fit_mean_shape(
    volumes: Volumes, train: Sequence[int], val: Sequence[int], classes: int
) -> MeanShape:
    """Average the training labels and choose each class's threshold by its validation Dice.

    Labels are resampled to a common grid, the mean shape of the training volumes with at most 96
    voxels a side.

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
    truths = (volumes.label(row) for row in val)
    cases = ((resample.linear(shares, truth.shape), truth) for truth in truths)
    return MeanShape(shares, best_thresholds(cases))


def common_grid(shapes: Sequence[Shape3]) -> Shape3:
    """Mean of some shapes, each side rounded and bounded."""
    x, y, z = (min(max(round(float(side)), 1), _LARGEST) for side in np.mean(shapes, axis=0))
    return (x, y, z)
