"""Trivial baselines: a score is worth its distance from theirs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxseq.base.errors import ConfigError
from voxseq.config.finetune import ClassificationRecipe, SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.finetune import results
from voxseq.finetune.baselines.intensity import describe
from voxseq.finetune.baselines.logistic import regress
from voxseq.finetune.baselines.mean_shape import fit_mean_shape
from voxseq.finetune.classification import scored
from voxseq.finetune.recipe import Splits, choose_splits, limited_threads
from voxseq.finetune.segmentation import SELECT, at_once

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
    segmentation example.npz, for classification predictions.csv.

    Raises:
        ConfigError: an unknown baseline, or one for the other type of task.
        DataError: a split that cannot be trained on or scored.
    """
    began, config = time.monotonic(), context.config
    known = BASELINES[config.recipe.type]
    if config.method not in known:
        raise ConfigError(
            f"{config.task} is a {config.recipe.type}, which has no baseline {config.method!r}",
            f"expected one of {', '.join(known)}",
        )
    volumes = Volumes(context.inputs[f"preprocess/task/{config.task}"])
    splits = choose_splits(volumes, config)
    with limited_threads(config.threads):
        numbers = known[config.method](context.out, config.recipe, volumes, splits)
    cost = {"seconds": round(time.monotonic() - began, 2)}
    results.write_summary(context, splits, numbers, cost)
    _LOG.info("%s: validation score %.4f", context.run_id, numbers["validation_score"])


def _majority(out: Path, recipe: ClassificationRecipe, volumes: Volumes, splits: Splits) -> Numbers:
    """The share of class 1 in training as the probability of every case; AUC is 0.5."""
    share = float(np.mean([volumes.target(row) for row in splits.train]))
    validation, test = (
        scored(volumes, rows, np.full(len(rows), share)) for rows in (splits.val, splits.test)
    )
    results.write_classification(out, validation, test, volumes)
    return {
        "selected_by": "auc",
        "selected_step": 0,
        "validation_score": validation.scores["auc"],
        "parameters": 1,
    }


def _intensity_logistic(
    out: Path, recipe: ClassificationRecipe, volumes: Volumes, splits: Splits
) -> Numbers:
    """Logistic regression on intensities and on the size of what is bright, of each channel."""
    features = {
        split: np.stack([np.ravel([*map(describe, volumes.image(row))]) for row in rows])
        for split, rows in vars(splits).items()
    }
    return regress(out, features, recipe, volumes, splits)


def _mean_shape(out: Path, recipe: SegmentationRecipe, volumes: Volumes, splits: Splits) -> Numbers:
    """The mean of the training labels, cut at the best validation Dice."""
    shape = fit_mean_shape(volumes, splits.train, splits.val, len(recipe.labels))
    score = results.score_segmentation(out, at_once(shape), recipe, volumes, splits)
    return {
        "selected_by": SELECT,
        "selected_step": 0,
        "validation_score": score,
        "thresholds": dict(zip(recipe.labels, shape.thresholds, strict=True)),
        "parameters": shape.shares.size,
    }


#: Type of task → baseline → its function.
BASELINES: Mapping[str, Mapping[str, Baseline]] = {
    "segmentation": {"mean_shape": _mean_shape},
    "classification": {"majority": _majority, "intensity_logistic": _intensity_logistic},
}
