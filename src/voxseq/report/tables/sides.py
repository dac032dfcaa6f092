"""Scores of single cases of each row, by which rows are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxseq.config.report_run import ReportRun, ReportTask
from voxseq.evaluation.statistics import Array
from voxseq.report.predictions import (
    PREDICTING,
    VALUE,
    class_columns,
    predicted_class,
    read_predictions,
)

#: Metrics whose scores of single cases are in scores.csv.
SCORED = ("dice", "surface_dice", "hd95")
#: Metrics that are means of scores of single cases, and AUC: those that have a test.
_TESTED = (*SCORED, "auc", "accuracy", "mae")
_SIDE_KEYS = ["stage", "task", "method", "variant", "ratio"]
#: Stage, task, method, variant and share of the labels → the scores.
Sides = dict[tuple[Any, ...], "Side"]


@dataclass(frozen=True)
class Side:
    """Scores of one method: values (seeds, cases, labels), and the class of each case."""

    seeds: tuple[int, ...]
    cases: NDArray[Any]
    labels: NDArray[Any]
    values: Array
    target: Array | None = None

    def part(self, cases: NDArray[Any], labels: NDArray[Any]) -> Side:
        """The given cases and labels, both sorted."""
        case, label = np.searchsorted(self.cases, cases), np.searchsorted(self.labels, labels)
        target = None if self.target is None else self.target[case]
        return Side(self.seeds, cases, labels, self.values[:, case][:, :, label], target)


def tested_metrics(task: ReportTask) -> tuple[str, ...]:
    """The metrics of a task that rows are compared by.

    There is no test here for what is no mean over cases, but for the AUC of two classes.
    """
    known = (m for m in task.metrics if m in _TESTED)
    return tuple(m for m in known if m != "auc" or task.has_two_classes)


def sides_of_metrics(
    study: ReportRun, scores: pd.DataFrame, inputs: Mapping[str, Path]
) -> dict[str, Sides]:
    """Metric → the scores of every row.

    Args:
        study: what was planned.
        scores: frame of ``collect``.
        inputs: run id → folder, for the files of the seeds.
    """
    found = {name: sides_of(scores[scores["metric"] == name]) for name in SCORED}
    for task in (task for task in study.tasks.values() if task.type in PREDICTING):
        frame = read_predictions(study, task, inputs).assign(label="")
        for metric, values in _predicted(task, frame).items():
            found.setdefault(metric, {}).update(sides_of(values))
    return found


def _predicted(task: ReportTask, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Metric → frame of the cases' scores as column ``value``."""
    classes = frame.drop(columns="target")
    if task.type == "regression":
        return {"mae": classes.assign(value=(frame[VALUE] - frame["target"]).abs())}
    right = (predicted_class(task, frame) == frame["target"]).astype(float)
    found = {"accuracy": classes.assign(value=right)}
    if task.has_two_classes:
        found["auc"] = frame.assign(value=frame[class_columns(task)[1]])
    return found


def sides_of(frame: pd.DataFrame) -> dict[tuple[Any, ...], Side]:
    """(stage, task, method, variant, ratio) → the scores, from a frame of case, label, value."""
    rounded = frame.assign(ratio=frame["ratio"].astype(float).round(9))
    sides = ((key, _side(group)) for key, group in rounded.groupby(_SIDE_KEYS, sort=False))
    return {tuple(key): side for key, side in sides if side.cases.size}


def _side(frame: pd.DataFrame) -> Side:
    """Cases that every seed has; the first value counts where a case occurs twice."""
    frame = frame.drop_duplicates(["seed", "case", "label"])
    seeds, seed = np.unique(frame["seed"].to_numpy(dtype=np.int64), return_inverse=True)
    cases, case = np.unique(frame["case"].to_numpy(dtype=str), return_inverse=True)
    labels, label = np.unique(frame["label"].to_numpy(dtype=str), return_inverse=True)
    values = np.full((len(seeds), len(cases), len(labels)), np.nan)
    values[seed, case, label] = frame["value"].to_numpy(dtype=np.float64)
    present = np.zeros(values.shape[:2], dtype=bool)
    present[seed, case] = True
    kept = present.all(axis=0)
    target = None
    if "target" in frame:
        target = np.zeros(len(cases))
        target[case] = frame["target"].to_numpy(dtype=np.float64)
        target = target[kept]
    return Side(tuple(map(int, seeds)), cases[kept], labels, values[:, kept], target)
