"""Scores of single cases: each class's mean, median and worst, and the worst cases of a method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.report.figures.slices import checked_slice
from voxseq.report.results import PREDICTION_COLUMNS, read_runs, run_file
from voxseq.report.study import Study, Task

CASE_COLUMNS = ("task", "method", "label", "case", "value", "seeds")
SUMMARY_COLUMNS = ("task", "method", "label", "cases", "mean", "median", "min")
#: Number of worst cases that are named for each method.
NAMED = 5


@dataclass(frozen=True)
class WorstCase:
    """The worst test case of a run as one slice.

    Attributes:
        case: name of the case.
        score: mean Dice over classes, or the probability given to the true class; 0..1.
        seed: of the run.
        image: shape (X, Y).
        truth: classes of shape (X, Y); the case's class, 0-d, in a classification.
        prediction: as ``truth``.
    """

    case: str
    score: float
    seed: int
    image: NDArray[np.float32]
    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]


def read_worst(path: Path, seed: int = 0) -> WorstCase:
    """Read worst.npz of a run.

    Raises:
        IntegrityError: not an npz file, a missing array, or arrays of other shapes.
    """
    try:
        with read_named(path), np.load(path, allow_pickle=False) as arrays:
            image, truth, prediction = (arrays[n] for n in ("image", "truth", "prediction"))
            case, score = str(arrays["case"]), float(arrays["score"])
    except (OSError, ValueError, KeyError, EOFError, TypeError) as error:
        raise IntegrityError(f"{path} is not a worst case: {error}") from None
    if truth.ndim == 0 and prediction.ndim == 0 and image.ndim == 2:
        true, predicted = truth.astype(np.int64), prediction.astype(np.int64)
        return WorstCase(case, score, seed, image.astype(np.float32), true, predicted)
    shown = checked_slice(path, image, truth, prediction)
    return WorstCase(case, score, seed, shown.image, shown.truth, shown.prediction)


def collect_worst(study: Study, inputs: Mapping[str, Path]) -> dict[tuple[str, str], WorstCase]:
    """(task, method) → the lowest worst case over the seeds, at full labels."""
    found: dict[tuple[str, str], WorstCase] = {}
    for run in study.runs:
        path = run_file(inputs, run.id, "worst.npz") if run.stage == "finetune" else None
        if path is None:
            continue
        item = read_worst(path, run.seed)
        known = found.get((run.task, run.method))
        if not math.isnan(item.score) and (known is None or item.score < known.score):
            found[run.task, run.method] = item
    return found


def case_scores(study: Study, scores: pd.DataFrame, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Score of every case and class at full labels, mean over seeds.

    Args:
        study: what was planned.
        scores: frame of ``collect``.
        inputs: run id → folder, for predictions.csv.

    Returns:
        Columns ``CASE_COLUMNS``. Segmentation: Dice 0..1 of each class that the case has.
        Classification: probability given to the true class 0..1, whose name is ``label``.
    """
    dice = scores[(scores["metric"] == "dice") & (scores["stage"] == "finetune")]
    frames = [dice, _true_class(study, inputs)]
    frames = [frame.loc[:, [*CASE_COLUMNS[:5], "seed"]] for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=list(CASE_COLUMNS))
    joined = pd.concat(frames, ignore_index=True)
    joined = joined[joined["value"].astype(float).notna()]
    by = list(CASE_COLUMNS[:4])
    return (
        joined.groupby(by, sort=False)
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


def class_name(task: Task, index: int) -> str:
    """Name of class 0, 1, … of a classification."""
    return task.labels[index] if 0 <= index < len(task.labels) else str(index)


def _true_class(study: Study, inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Probability given to the true class: one row a run × case."""
    tasks = {task.name: task for task in study.tasks_of("classification")}
    runs = [run for run in study.runs if run.task in tasks and run.stage == "finetune"]
    columns: tuple[Any, ...] = ("case", *PREDICTION_COLUMNS[1:])
    frame = read_runs(runs, inputs, "predictions.csv", columns)
    target, probability = frame["target"].astype(float), frame["probability"].astype(float)
    names = [
        class_name(tasks[task], int(value)) if math.isfinite(value) else ""
        for task, value in zip(frame["task"], target, strict=True)
    ]
    return frame.assign(label=names, value=probability.where(target > 0.5, 1.0 - probability)).loc[
        np.isfinite(target)
    ]
