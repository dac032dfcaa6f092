"""Predictions of single cases: probabilities of the classes, or values of a regression."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from voxseq.base.errors import IntegrityError
from voxseq.config.report_run import ReportRun, ReportTask
from voxseq.report.results import KEYS, read_runs

FILE = "predictions.csv"
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
        inputs: run id → folder, for predictions.csv.
        stages: of the runs; none: all.

    Returns:
        One row per run × case: ``KEYS``, case, subject (its patient), target (index of the class,
        or a value), then :data:`VALUE` of a regression, or one column of :func:`class_columns` for
        each class: its probability, 0..1. Cases without a finite target or prediction are left out.

    Raises:
        IntegrityError: a file that cannot be read, lacks a column or has another class.
    """
    runs = [r for r in study.runs if r.task == task.name and (not stages or r.stage in stages)]
    if task.type == "regression":
        frame, columns = (
            read_runs(runs, inputs, FILE, ("case", "subject", "target", VALUE)),
            [VALUE],
        )
    elif task.has_two_classes:
        frame = read_runs(runs, inputs, FILE, ("case", "subject", "target", "probability"))
        columns = class_columns(task)
        positive = frame.pop("probability").astype(float)
        frame = frame.assign(**dict(zip(columns, (1.0 - positive, positive), strict=True)))
    else:
        names = [f"probability_{label}" for label in task.labels]
        columns = class_columns(task)
        frame = read_runs(runs, inputs, FILE, ("case", "subject", "target", *names))
        frame = frame.rename(columns=dict(zip(names, columns, strict=True)))
    frame[["target", *columns]] = frame[["target", *columns]].astype(float)
    known = np.isfinite(frame[["target", *columns]].to_numpy()).all(axis=1)
    frame = pd.DataFrame(frame[known], columns=[*KEYS, "case", "subject", "target", *columns])
    if task.type == "classification":
        strange = frame.loc[~frame["target"].isin(range(len(columns))), "run"]
        if len(strange):
            raise IntegrityError(
                f"{FILE} of run {strange.iloc[0]}: a target is none of {len(columns)} classes",
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
