"""Predictions of single cases: probabilities of the classes, or values of a regression."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from voxseq.base.errors import IntegrityError
from voxseq.config.report_run import ReportRun, ReportTask
from voxseq.report.reading import KEYS
from voxseq.report.results import predicted

#: Column of the value of a regression.
VALUE = "value"
#: Types of task whose runs predict something of each case.
PREDICTING = ("classification", "regression")


def read_predictions(
    study: ReportRun, task: ReportTask, inputs: Mapping[str, Path], stages: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Predictions of the test cases of a task by every planned run that has finished.

    Args:
        study: what was planned.
        task: a classification or a regression.
        inputs: run id → folder, for the files of the seeds.
        stages: of the runs; none: all.

    Returns:
        One row per run × case: ``KEYS``, subject, case, target (index of the class, or a value),
        then :data:`VALUE` of a regression, or one column of :func:`class_columns` for each class:
        its probability, 0..1. Cases without a finite target or prediction are left out.

    Raises:
        IntegrityError: a run lacks a column or has another class.
    """
    if task.type == "regression":
        names = columns = [VALUE]
    elif task.has_two_classes:
        names, columns = ["probability"], class_columns(task)
    else:
        names, columns = [f"probability_{label}" for label in task.labels], class_columns(task)
    frame = predicted(study, task.name, inputs, names)
    frame = frame[frame["stage"].isin(stages)] if stages else frame
    if task.has_two_classes:
        positive = frame.pop("probability").astype(float)
        frame = frame.assign(**dict(zip(columns, (1.0 - positive, positive), strict=True)))
    frame = frame.rename(columns=dict(zip(names, columns, strict=False)))
    frame[["target", *columns]] = frame[["target", *columns]].astype(float)
    known = np.isfinite(frame[["target", *columns]].to_numpy()).all(axis=1)
    frame = pd.DataFrame(frame[known], columns=[*KEYS, "subject", "case", "target", *columns])
    if task.type == "classification":
        strange = frame.loc[~frame["target"].isin(range(len(columns))), "run"]
        if len(strange):
            raise IntegrityError(
                f"predictions of run {strange.iloc[0]}: a target is none of {len(columns)} classes",
                "delete the run's folder and start the workflow again",
            )
    return frame


def class_columns(task: ReportTask) -> list[str]:
    """Columns of the probabilities of the classes 0, 1, … of a classification."""
    count = 2 if task.has_two_classes else len(task.labels)
    return [f"class_{number}" for number in range(count)]


def class_name(task: ReportTask, index: int) -> str:
    """Name of class 0, 1, … of a classification."""
    return task.labels[index] if 0 <= index < len(task.labels) else str(index)


def predicted_class(task: ReportTask, frame: pd.DataFrame) -> pd.Series[int]:
    """Index of the class with the highest probability, the first of equals."""
    chosen = frame[class_columns(task)].to_numpy(dtype=float)
    return pd.Series(chosen.argmax(axis=1) if len(chosen) else [], frame.index, dtype=int)


def of_true_class(task: ReportTask, frame: pd.DataFrame) -> pd.Series[float]:
    """Probability given to the true class of each case."""
    chosen = frame[class_columns(task)].to_numpy(dtype=float)
    target = frame["target"].to_numpy(dtype=int)
    return pd.Series(chosen[np.arange(len(chosen)), target], frame.index, dtype=float)
