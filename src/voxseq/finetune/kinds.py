"""The types of task: one row each, whose parts are in a module of its own.

A type is complete with its settings (a recipe and a task in :mod:`voxseq.config.finetune`), what
its cases hold (:mod:`voxseq.data.targets`), its networks and metrics
(:mod:`voxseq.config.registry`, :mod:`voxseq.config.report_run`), and its baselines
(:mod:`voxseq.finetune.baselines.run`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from voxseq.config.task_types import TaskType
from voxseq.finetune import classification, regression, segmentation
from voxseq.finetune.training import TaskTraining
from voxseq.training.rows import Rows


@dataclass(frozen=True)
class Kind:
    """How networks are trained and scored on a type of task.

    Attributes:
        training: a network with its loss, its validation, and the scores of its splits.
        rows: (recipe, volumes, rows of the training cases, seed) → batches.
    """

    training: type[TaskTraining[Any]]
    rows: Callable[..., Rows]


KINDS: Mapping[TaskType, Kind] = {
    "segmentation": Kind(segmentation.SegmentationTraining, segmentation.make_rows),
    "classification": Kind(classification.ClassificationTraining, classification.make_rows),
    "regression": Kind(regression.RegressionTraining, regression.make_rows),
}
