"""Scores of single cases: each class's mean, median and worst, and the worst cases of a method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from voxseq.config.report_run import ReportRun, ReportTask
from voxseq.report.results import PREDICTION_COLUMNS, read_runs, run_file
from voxseq.report.slices import Slice, read_worst

CASE_COLUMNS = ("task", "method", "label", "case", "value", "seeds")
SUMMARY_COLUMNS = ("task", "method", "label", "cases", "mean", "median", "min")
#: Number of worst cases that are named for each method.
NAMED = 5


def collect_worst(study: ReportRun, inputs: Mapping[str, Path]) -> dict[tuple[str, str], Slice]:
    """(task, method) → the lowest worst case over the seeds, at full labels."""
    found: dict[tuple[str, str], Slice] = {}
    for run in study.finetuned:
        path = run_file(inputs, run.id, "worst.npz")
        if path is None:
            continue
        item = read_worst(path, run.seed)
        known = found.get((run.task, run.method))
        if not math.isnan(item.score) and (known is None or item.score < known.score):
            found[run.task, run.method] = item
    return found


def case_scores(study: ReportRun, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Score of every case and class at full labels, mean over seeds.

    Args:
        study: what was planned.
        inputs: run id → folder, for scores.csv and predictions.csv.

    Returns:
        Columns ``CASE_COLUMNS``. Segmentation: Dice 0..1 of each class that the case has.
        Classification: probability given to the true class 0..1, whose name is ``label``.
    """
    scores = read_runs(study.finetuned, inputs, "scores.csv")
    frames = [scores[scores["metric"] == "dice"], _true_class(study, inputs)]
    frames = [frame.loc[:, [*CASE_COLUMNS[:5], "seed"]] for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=list(CASE_COLUMNS))
    joined = pd.concat(frames, ignore_index=True)
    joined = joined[joined["value"].astype(float).notna()]
    return (
        joined.groupby(list(CASE_COLUMNS[:4]), sort=False)
        .agg(value=("value", "mean"), seeds=("seed", "nunique"))
        .reset_index()
    )


def class_summary(cases: pd.DataFrame) -> pd.DataFrame:
    """Each class of each method: number of cases, mean, median, minimum; ``SUMMARY_COLUMNS``."""
    if cases.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    grouped = cases.groupby(list(SUMMARY_COLUMNS[:3]), sort=False)["value"]
    return grouped.agg(cases="count", mean="mean", median="median", min="min").reset_index()


def worst_of(cases: pd.DataFrame, count: int = NAMED) -> list[tuple[str, float]]:
    """The cases with the lowest mean over classes, the worst first; ties in the cases' order."""
    means = cases.groupby("case", sort=False)["value"].mean().sort_values(kind="stable")
    return [(str(case), float(value)) for case, value in means.head(count).items()]


def short_names(cases: Iterable[str]) -> dict[str, str]:
    """Names without the parts, between slashes, that all cases share at either end."""
    parts = {case: case.split("/") for case in cases}
    if len(parts) < 2:
        return {case: case for case in parts}
    shortest = min(len(value) for value in parts.values())
    head = next(
        (i for i in range(shortest) if len({v[i] for v in parts.values()}) > 1), shortest - 1
    )
    rest = shortest - head
    tail = next((i for i in range(rest) if len({v[-1 - i] for v in parts.values()}) > 1), rest - 1)
    return {case: "/".join(value[head : len(value) - tail]) for case, value in parts.items()}


def class_name(task: ReportTask, index: int) -> str:
    """Name of class 0, 1, … of a classification."""
    return task.labels[index] if 0 <= index < len(task.labels) else str(index)


def _true_class(study: ReportRun, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Probability given to the true class: one row per run × case."""
    tasks = {task.name: task for task in study.tasks_of("classification")}
    runs = [run for run in study.finetuned if run.task in tasks]
    frame = read_runs(runs, inputs, "predictions.csv", PREDICTION_COLUMNS)
    frame = frame[np.isfinite(frame["target"].astype(float))]
    target, probability = frame["target"].astype(float), frame["probability"].astype(float)
    names = [
        class_name(tasks[task], int(value))
        for task, value in zip(frame["task"], target, strict=True)
    ]
    return frame.assign(label=names, value=probability.where(target > 0.5, 1.0 - probability))
