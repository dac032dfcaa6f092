"""Trivial baselines: a score is worth its distance from theirs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxseq.base.errors import ConfigError
from voxseq.config.finetune import ClassificationRecipe, RegressionRecipe, SegmentationRecipe
from voxseq.config.task_types import TaskType
from voxseq.data.task_volumes import Volumes
from voxseq.data.volume import Array
from voxseq.evaluation.segmentation import DICE
from voxseq.finetune import classification, regression, results, segmentation
from voxseq.finetune.baselines.intensity import describe
from voxseq.finetune.baselines.logistic import fit_logistic
from voxseq.finetune.baselines.mean_shape import MeanShape, fit_mean_shape
from voxseq.finetune.baselines.plain import histogram, voxels
from voxseq.finetune.baselines.ridge import fit_ridge
from voxseq.finetune.baselines.voxel_trees import VoxelTrees, fit_voxel_trees
from voxseq.finetune.recipe import Splits, choose_splits, limited_threads

if TYPE_CHECKING:
    from voxseq.config.runs import BaselineRun
    from voxseq.plan.context import RunContext

#: Of what a baseline draws: one number, so that all runs agree.
_SEED = 0
_LOG = logging.getLogger("voxseq.finetune")
Numbers = dict[str, Any]
#: (folder of results, the task's recipe, its volumes, its cases) → numbers for summary.json
Baseline = Callable[[Path, Any, Volumes, Splits], Numbers]


def execute(context: RunContext[BaselineRun]) -> None:
    """Score the baseline that the run's key ``method`` names.

    Writes scores.csv (test), validation.csv, worst.npz, summary.json and cost.json, and for
    segmentation example.npz, for other types predictions.csv.

    Raises:
        ConfigError: an unknown baseline, or one for another type of task.
        DataError: a split that cannot be trained on or scored.
    """
    began, config = time.monotonic(), context.config
    known = BASELINES[config.recipe.type]
    if config.method not in known:
        raise ConfigError(
            f"{config.task} is a {config.recipe.type}, which has no baseline {config.method!r}",
            f"expected one of {', '.join(known)}",
        )
    volumes = Volumes(context.input(f"preprocess/task/{config.task}"))
    splits = choose_splits(volumes, config)
    with limited_threads(config.threads):
        numbers = known[config.method](context.out, config.recipe, volumes, splits)
    cost = {"seconds": round(time.monotonic() - began, 2)}
    results.write_summary(context, splits, numbers, cost)
    _LOG.info("%s: validation score %.4f", context.run_id, numbers["validation_score"])


def _majority(out: Path, recipe: ClassificationRecipe, volumes: Volumes, splits: Splits) -> Numbers:
    """The share of each class in training as its probability in every case; AUC is 0.5."""
    targets = np.array([volumes.target(row) for row in splits.train])
    shares = np.array([np.mean(targets == number) for number in range(recipe.outputs)])
    validation, test = (
        classification.scored(volumes, rows, np.tile(shares, (len(rows), 1)))
        for rows in (splits.val, splits.test)
    )
    classification.write_scores(out, validation, test, recipe, volumes)
    return {
        "selected_by": "auc",
        "selected_step": 0,
        "validation_score": validation.scores["auc"],
        "parameters": recipe.outputs - 1,
    }


def _mean_value(out: Path, recipe: RegressionRecipe, volumes: Volumes, splits: Splits) -> Numbers:
    """The mean of the training targets for every case; R² is 0 at most."""
    mean = regression.Standard.of(volumes, splits.train).mean
    validation, test = (
        regression.scored(volumes, rows, np.full(len(rows), mean))
        for rows in (splits.val, splits.test)
    )
    regression.write_scores(out, validation, test, volumes)
    return {
        "selected_by": "mae",
        "selected_step": 0,
        "validation_score": validation.scores["mae"],
        "parameters": 1,
    }


def _described(image: Array) -> Array:
    """Intensities and the size of what is bright, of each channel of an image (C, X, Y, Z)."""
    found: Array = np.ravel([*map(describe, image)])
    return found


def _linear(fit: Callable[..., Numbers], numbers: Callable[[Array], Array]) -> Baseline:
    """A linear model of plain numbers of each image."""

    def baseline(out: Path, recipe: Any, volumes: Volumes, splits: Splits) -> Numbers:
        features = {
            split: np.stack([numbers(volumes.image(row)) for row in rows])
            for split, rows in vars(splits).items()
        }
        return fit(out, features, recipe, volumes, splits)

    return baseline


def _mean_shape(out: Path, recipe: SegmentationRecipe, volumes: Volumes, splits: Splits) -> Numbers:
    """The mean of the training labels, cut at the best validation Dice."""
    shape = fit_mean_shape(volumes, splits.train, splits.val, len(recipe.labels))
    return _by_thresholds(shape, shape.shares.size, out, recipe, volumes, splits)


def _voxel_trees(
    out: Path, recipe: SegmentationRecipe, volumes: Volumes, splits: Splits
) -> Numbers:
    """Boosted trees on each voxel's intensity, near neighbours and place."""
    trees = fit_voxel_trees(volumes, splits.train, splits.val, len(recipe.labels), _SEED)
    return _by_thresholds(trees, trees.parameters, out, recipe, volumes, splits)


def _by_thresholds(
    found: MeanShape | VoxelTrees,
    parameters: int,
    out: Path,
    recipe: SegmentationRecipe,
    volumes: Volumes,
    splits: Splits,
) -> Numbers:
    """Score a segmentation whose classes have thresholds."""
    predict = segmentation.at_once(found)
    score, further = segmentation.write_scores(out, predict, recipe, volumes, splits)
    return {
        "selected_by": DICE,
        "selected_step": 0,
        "validation_score": score,
        "thresholds": dict(zip(recipe.labels, found.thresholds, strict=True)),
        "parameters": parameters,
        **further,
    }


#: Type of task → baseline → its function.
BASELINES: Mapping[TaskType, Mapping[str, Baseline]] = {
    "segmentation": {"mean_shape": _mean_shape, "voxel_trees": _voxel_trees},
    "classification": {
        "majority": _majority,
        "intensity_logistic": _linear(fit_logistic, _described),
        "histogram_logistic": _linear(fit_logistic, histogram),
        "voxel_logistic": _linear(fit_logistic, voxels),
    },
    "regression": {
        "mean_value": _mean_value,
        "intensity_ridge": _linear(fit_ridge, _described),
        "histogram_ridge": _linear(fit_ridge, histogram),
        "voxel_ridge": _linear(fit_ridge, voxels),
    },
}
