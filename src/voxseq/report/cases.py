"""Scores of single cases: each class's mean, median and worst, and the worst cases of a method.

The score of a case is its Dice, the probability given to its true class, or its absolute error: the
only one of them that is better when lower.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from voxseq.config.report_run import ReportRun, ReportTask
from voxseq.report.predictions import (
    PREDICTING,
    VALUE,
    class_name,
    of_true_class,
    read_predictions,
)
from voxseq.report.reading import run_file
from voxseq.report.results import collect
from voxseq.report.slices import Slices, read_slices

CASE_COLUMNS = ("task", "method", "label", "case", "value", "seeds")
SUMMARY_COLUMNS = ("task", "method", "label", "cases", "mean", "median", "worst")
#: Number of worst cases that are named for each method.
NAMED = 5


def collect_worst(study: ReportRun, inputs: Mapping[str, Path]) -> dict[tuple[str, str], Slices]:
    """(task, method) → the worst of the seeds' worst cases, at full labels."""
    found: dict[tuple[str, str], Slices] = {}
    for run in study.finetuned:
        path = run_file(inputs, run.id, "worst.npz")
        if path is None:
            continue
        item = read_slices(path, run.seed)
        known = found.get((run.task, run.method))
        sign = -1.0 if is_error(study.tasks[run.task]) else 1.0
        if not math.isnan(item.score) and (known is None or sign * item.score < sign * known.score):
            found[run.task, run.method] = item
    return found


def is_error(task: ReportTask) -> bool:
    """Whether the score of a case is an error, of which the largest is the worst."""
    return task.type == "regression"


def case_scores(study: ReportRun, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Score of every case and class at full labels, mean over seeds.

    Args:
        study: what was planned.
        inputs: run id → folder, for the files of the seeds.

    Returns:
        Columns ``CASE_COLUMNS``. Segmentation: Dice 0..1 of each class that the case has.
        Classification: probability given to the true class 0..1, whose name is ``label``.
        Regression: absolute error, with the target's name as ``label``.
    """
    scores = collect(study, inputs)
    scores = scores[scores["stage"] == "finetune"]
    frames = [scores[scores["metric"] == "dice"]]
    predicting = (task for task in study.tasks.values() if task.type in PREDICTING)
    frames += [_of_predictions(study, task, inputs) for task in predicting]
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


def class_summary(cases: pd.DataFrame, *, errors: bool = False) -> pd.DataFrame:
    """Each class of each method: number of cases, mean, median, worst; ``SUMMARY_COLUMNS``."""
    if cases.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    grouped = cases.groupby(list(SUMMARY_COLUMNS[:3]), sort=False)["value"]
    worst = "max" if errors else "min"
    return grouped.agg(cases="count", mean="mean", median="median", worst=worst).reset_index()


def worst_of(
    cases: pd.DataFrame, count: int = NAMED, *, errors: bool = False
) -> list[tuple[str, float]]:
    """The cases with the worst mean over classes, the worst first; ties in the cases' order."""
    means = cases.groupby("case", sort=False)["value"].mean()
    means = means.sort_values(kind="stable", ascending=not errors)
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


def target_name(task: ReportTask) -> str:
    """What a regression predicts; the task's title where it does not say."""
    return task.target or task.title


def _of_predictions(study: ReportRun, task: ReportTask, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Score of every case of a task with predictions, at full labels: one row per run × case."""
    frame = read_predictions(study, task, inputs, ("finetune",))
    if is_error(task):
        error = (frame[VALUE] - frame["target"]).abs()
        return frame.assign(label=target_name(task), value=error)
    names = [class_name(task, int(index)) for index in frame["target"]]
    return frame.assign(label=names, value=of_true_class(task, frame))
