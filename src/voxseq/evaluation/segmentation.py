"""All scores of one segmented case: what a run's test split and foreign masks are scored by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxseq.evaluation.dice import dice_per_class
from voxseq.evaluation.surface import surface_scores

Array = NDArray[Any]
Scores = dict[str, NDArray[np.float64]]
DICE, SURFACE_DICE, HD95 = "dice", "surface_dice", "hd95"


def known_part(prediction: Array, truth: Array, ignored: int | None) -> tuple[Array, Array]:
    """Both with background where the truth has the value ``ignored``: neither is scored there.

    Args:
        prediction: (X, Y, Z) integer labels.
        truth: (X, Y, Z) integer labels on the same grid.
        ignored: value of voxels without a known class; ``None``: none.
    """
    if ignored is None:
        return prediction, truth
    unknown = truth == ignored
    if not unknown.any():
        return prediction, truth
    return np.where(unknown, 0, prediction), np.where(unknown, 0, truth)


def dice_scores(
    prediction: Array, truth: Array, classes: int, ignored: int | None = None
) -> Scores:
    """Dice of each foreground class; see :func:`voxseq.evaluation.dice.dice_per_class`."""
    return {DICE: dice_per_class(*known_part(prediction, truth, ignored), classes)}


def surface_scores_per_class(
    prediction: Array,
    truth: Array,
    spacing: Sequence[float],
    tolerances: Sequence[float],
    ignored: int | None = None,
) -> Scores:
    """Normalised surface Dice and 95 % Hausdorff distance of each foreground class of one case.

    Where the truth ends at voxels without a known class, so do both surfaces.

    Args:
        prediction: (X, Y, Z) integer labels, 0 the background.
        truth: (X, Y, Z) integer labels on the same grid.
        spacing: mm between voxels along the axes.
        tolerances: mm for the surface Dice, of each class 1, 2, …
        ignored: value of voxels without a known class; ``None``: none.

    Returns:
        Metric → (classes,). NaN for a class that the truth lacks. One that only the prediction
        lacks has surface Dice 0 and no distance (NaN): count these cases beside its mean.
    """
    prediction, truth = known_part(prediction, truth, ignored)
    found = [
        surface_scores(prediction == number, truth == number, spacing, tolerance)
        for number, tolerance in enumerate(tolerances, start=1)
    ]
    return {
        SURFACE_DICE: np.array([score.surface_dice for score in found]),
        HD95: np.array([score.hd95 for score in found]),
    }


def missed(scores: Scores) -> NDArray[np.bool_]:
    """Classes (classes,) that a case has and that were not found at all: they have no distance."""
    found: NDArray[np.bool_] = ~np.isnan(scores[SURFACE_DICE]) & np.isnan(scores[HD95])
    return found
