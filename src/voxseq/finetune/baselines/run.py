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
from voxseq.finetune.baselines.mean_shape import fit_mean_shape
from voxseq.finetune.baselines.ridge import fit_ridge
from voxseq.finetune.recipe import Splits, choose_splits, limited_threads

if TYPE_CHECKING:
    from voxseq.config.runs import BaselineRun
    from voxseq.plan.context import RunContext

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


def _intensity_logistic(
    out: Path, recipe: ClassificationRecipe, volumes: Volumes, splits: Splits
) -> Numbers:
    """Logistic regression on intensities and on the size of what is bright, of each channel."""
    return fit_logistic(out, _described(volumes, splits), recipe, volumes, splits)


def _intensity_ridge(
    out: Path, recipe: RegressionRecipe, volumes: Volumes, splits: Splits
) -> Numbers:
    """Ridge regression on the same numbers."""
    return fit_ridge(out, _described(volumes, splits), recipe, volumes, splits)


def _described(volumes: Volumes, splits: Splits) -> dict[str, Array]:
    return {
        split: np.stack([np.ravel([*map(describe, volumes.image(row))]) for row in rows])
        for split, rows in vars(splits).items()
    }


def _mean_shape(out: Path, recipe: SegmentationRecipe, volumes: Volumes, splits: Splits) -> Numbers:
    """The mean of the training labels, cut at the best validation Dice."""
    shape = fit_mean_shape(volumes, splits.train, splits.val, len(recipe.labels))
    predict = segmentation.at_once(shape)
    score, further = segmentation.write_scores(out, predict, recipe, volumes, splits)
    return {
        "selected_by": DICE,
        "selected_step": 0,
        "validation_score": score,
        "thresholds": dict(zip(recipe.labels, shape.thresholds, strict=True)),
        "parameters": shape.shares.size,
        **further,
    }


#: Type of task → baseline → its function.
BASELINES: Mapping[TaskType, Mapping[str, Baseline]] = {
    "segmentation": {"mean_shape": _mean_shape},
    "classification": {"majority": _majority, "intensity_logistic": _intensity_logistic},
    "regression": {"mean_value": _mean_value, "intensity_ridge": _intensity_ridge},
}
