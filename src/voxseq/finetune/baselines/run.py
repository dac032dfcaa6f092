"""Trivial baselines: what a score is worth is how far it lies above theirs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from voxseq.base.errors import ConfigError
from voxseq.config.finetune import ClassificationRecipe, SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.finetune import results
from voxseq.finetune.baselines.intensity import intensity_features
from voxseq.finetune.baselines.logistic import regress
from voxseq.finetune.baselines.mean_shape import fit_mean_shape
from voxseq.finetune.classification import scored
from voxseq.finetune.recipe import Splits, choose_splits, limited_threads, recipe_of_type
from voxseq.finetune.segmentation import SELECT, at_once

if TYPE_CHECKING:
    from voxseq.config.runs import BaselineRun
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.finetune")
Numbers = dict[str, Any]
#: (run, its volumes, its cases) → what summary.json says besides the common numbers
Baseline = Callable[["RunContext[BaselineRun]", Volumes, Splits], Numbers]


def execute(context: RunContext[BaselineRun]) -> None:
    """Score the baseline that the run's key ``method`` names.

    Writes scores.csv (test), validation.csv, worst.npz, summary.json and cost.json, and for
    segmentation example.npz, for classification predictions.csv.

    Raises:
        ConfigError: an unknown baseline, or one for the other type of task.
        DataError: a split that cannot be trained on or scored.
    """
    began, config = time.monotonic(), context.config
    baseline = BASELINES.get(config.method)
    if baseline is None:
        known = ", ".join(BASELINES)
        raise ConfigError(f"unknown baseline {config.method!r}", f"expected one of {known}")
    volumes = Volumes(context.inputs[f"preprocess/task/{config.task}"])
    splits = choose_splits(volumes, config)
    with limited_threads(config.threads):
        numbers = baseline(context, volumes, splits)
    results.write_summary(context, splits, numbers, time.monotonic() - began)
    _LOG.info("%s: validation score %.4f", context.run_id, numbers["validation_score"])


def _majority(context: RunContext[BaselineRun], volumes: Volumes, splits: Splits) -> Numbers:
    """The share of class 1 in training as the probability of every case; AUC is 0.5."""
    recipe_of_type(context.config, ClassificationRecipe, "the majority class")
    share = float(np.mean([volumes.target(row) for row in splits.train]))
    validation, test = (
        scored(volumes, rows, np.full(len(rows), share)) for rows in (splits.val, splits.test)
    )
    results.write_classification(context.out, validation, test, volumes)
    return {
        "selected_by": "auc",
        "selected_step": 0,
        "validation_score": validation.scores["auc"],
        "parameters": 1,
    }


def _intensity_logistic(
    context: RunContext[BaselineRun], volumes: Volumes, splits: Splits
) -> Numbers:
    """Logistic regression on intensities and on the size of what is bright in the centre."""
    recipe = recipe_of_type(context.config, ClassificationRecipe, "a regression on intensities")
    features = {
        split: intensity_features(volumes, getattr(splits, split))
        for split in ("train", "val", "test")
    }
    found = regress(features, recipe, volumes, splits)
    results.write_classification(context.out, found.validation, found.test, volumes)
    return {**found.summary, "parameters": found.parameters}


def _mean_shape(context: RunContext[BaselineRun], volumes: Volumes, splits: Splits) -> Numbers:
    """The mean of the training labels, cut at the best validation Dice."""
    recipe = recipe_of_type(context.config, SegmentationRecipe, "a mean shape")
    shape = fit_mean_shape(volumes, splits.train, splits.val, len(recipe.labels))
    score = results.score_segmentation(context.out, at_once(shape), recipe, volumes, splits)
    return {
        "selected_by": SELECT,
        "selected_step": 0,
        "validation_score": score,
        "thresholds": dict(zip(recipe.labels, shape.thresholds, strict=True)),
        "parameters": shape.shares.size,
    }


BASELINES: Mapping[str, Baseline] = {
    "majority": _majority,
    "intensity_logistic": _intensity_logistic,
    "mean_shape": _mean_shape,
}
