"""Boosted trees voxel by voxel: a segmentation by intensity, near neighbours and place alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from voxseq.base.random import numpy_generator
from voxseq.config.data import IGNORED
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.dice import Array
from voxseq.finetune.baselines.thresholds import best_thresholds, logits_of

#: Standard deviations in voxels of the blurred images; the local variance has the first.
BLURS = (1.0, 2.0)
#: Trees of each class, and leaves of each.
TREES, LEAVES = 100, 31
#: Voxels of all training cases together, and those that are predicted at a time.
_SAMPLE, _AT_A_TIME = 240_000, 2**20


@dataclass(frozen=True)
class VoxelTrees:
    """Fitted trees and the thresholds of their probabilities.

    Attributes:
        model: scikit-learn's classifier of the voxels' features.
        classes: number of foreground classes.
        thresholds: (classes,) as in :func:`logits_of`.
    """

    model: Any
    classes: int
    thresholds: tuple[float, ...] = ()

    def __call__(self, image: Array) -> Tensor:
        """Logits (1 + classes, X, Y, Z) of an image (C, X, Y, Z)."""
        return logits_of(self.shares(image), self.thresholds)

    def shares(self, image: Array) -> Array:
        """Probability (classes, X, Y, Z) float32 of each foreground class at each voxel."""
        rows = features(image)
        found = np.zeros((len(rows), self.classes + 1), np.float32)
        for first in range(0, len(rows), _AT_A_TIME):
            part = slice(first, first + _AT_A_TIME)
            found[part, self.model.classes_] = self.model.predict_proba(rows[part])
        return found[:, 1:].T.reshape(self.classes, *image.shape[1:])

    @property
    def parameters(self) -> int:
        """Most leaves that the trees may have."""
        return int(self.model.n_iter_ * self.model.n_trees_per_iteration_ * LEAVES)


def features(image: Array) -> NDArray[np.float32]:
    """What the trees see of each voxel of an image (C, X, Y, Z): (voxels, features).

    Of each channel the intensity, the blurred intensities and the local variance; and the place as
    a share of the volume along each axis.
    """
    columns: list[Array] = []
    for channel in np.asarray(image, np.float32):
        blurred = [ndimage.gaussian_filter(channel, sd) for sd in BLURS]
        squares = ndimage.gaussian_filter(channel**2, BLURS[0])
        columns += [channel, *blurred, squares - blurred[0] ** 2]
    shape = image.shape[1:]
    for axis, size in enumerate(shape):
        place = (np.arange(size, dtype=np.float32) + 0.5) / size
        others = [a for a in range(len(shape)) if a != axis]
        columns.append(np.broadcast_to(np.expand_dims(place, others), shape))
    return np.stack([column.ravel() for column in columns], axis=1).astype(np.float32)


def fit_voxel_trees(
    volumes: Volumes, train: Sequence[int], val: Sequence[int], classes: int, seed: int
) -> VoxelTrees:
    """Fit the trees to voxels of the training cases; thresholds are chosen on validation.

    Of each case equally many voxels of every class are drawn, as far as there are; they weigh as
    many voxels as they stand for. Of large volumes a sample is enough: neighbours are alike.

    Args:
        volumes: store of the task.
        train: rows that are fitted to.
        val: rows by which thresholds are chosen.
        classes: number of foreground classes.
        seed: of the draw of voxels and of the trees.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # late: it takes a second

    each = max(_SAMPLE // len(train) // (classes + 1), 1)
    rows, targets, weights = [], [], []
    for row in train:
        label = volumes.label(row).ravel()
        places, weight = _drawn(label, each, numpy_generator(seed, "voxels", row))
        rows.append(features(volumes.image(row))[places])
        targets.append(label[places])
        weights.append(weight)
    model = HistGradientBoostingClassifier(
        max_iter=TREES, max_leaf_nodes=LEAVES, early_stopping=False, random_state=seed
    )
    model.fit(np.concatenate(rows), np.concatenate(targets), np.concatenate(weights))
    fitted = VoxelTrees(model, classes)
    cases = ((fitted.shares(volumes.image(row)), volumes.label(row)) for row in val)
    return VoxelTrees(model, classes, best_thresholds(cases))


def _drawn(
    label: Array, each: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places of at most ``each`` voxels of every class of a flat label, and what each stands for.

    A voxel without a known class is never drawn.
    """
    places, weights = [], []
    for value in np.unique(label[label != IGNORED]):
        here = np.flatnonzero(label == value)
        chosen = here if len(here) <= each else np.sort(rng.choice(here, each, replace=False))
        places.append(chosen)
        weights.append(np.full(len(chosen), len(here) / len(chosen)))
    return np.concatenate(places), np.concatenate(weights)
