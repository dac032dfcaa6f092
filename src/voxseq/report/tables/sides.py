"""Scores of single patients of each row, by which rows are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxseq.config.report_run import ReportRun, ReportTask
from voxseq.evaluation.classification import auc
from voxseq.evaluation.effects import Array
from voxseq.evaluation.statistics import by_patient
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
#: Variant of the rows of Table 5 that draw nothing.
TRIVIAL = "trivial"
#: Stage, task, method, variant and share of the labels → the scores.
Sides = dict[tuple[Any, ...], "Side"]


@dataclass(frozen=True)
class Side:
    """Scores of one row: values (seeds, patients, labels), NaN where a seed lacks a patient.

    Attributes:
        seeds: in order.
        patients: names, sorted; with its class where the scores are probabilities, and with the
            seed where each seed has cases of its own.
        labels: names of classes, sorted.
        values: scores, averaged over the scans of a patient.
        target: class of each patient, where the scores are probabilities.
        scans: number of scans behind them, of the seed that has most.
    """

    seeds: tuple[int, ...]
    patients: NDArray[Any]
    labels: NDArray[Any]
    values: Array
    target: Array | None = None
    scans: int = 0

    def part(self, seeds: Sequence[int], patients: NDArray[Any], labels: NDArray[Any]) -> Array:
        """Values of the given seeds, patients and labels, the latter two sorted."""
        row = [self.seeds.index(seed) for seed in seeds]
        patient = np.searchsorted(self.patients, patients)
        label = np.searchsorted(self.labels, labels)
        return self.values[row][:, patient][:, :, label]

    def repeated(self, seeds: Sequence[int]) -> Side:
        """The same for other seeds: of a row that draws nothing, and was run once."""
        values = np.broadcast_to(self.values[:1], (len(seeds), *self.values.shape[1:]))
        return replace(self, seeds=tuple(seeds), values=values)

    def of_seeds(self) -> list[tuple[int, float, int]]:
        """Each seed, its score (a mean over patients, then labels; or AUC), and its patients."""
        found = []
        for seed, values in zip(self.seeds, self.values, strict=True):
            there = np.isfinite(values).any(axis=1)
            if self.target is None:
                means = [v[np.isfinite(v)].mean() for v in values.T if np.isfinite(v).any()]
                score = float(np.mean(means)) if means else float("nan")
            elif len(set(self.target[there])) < 2:
                score = float("nan")
            else:
                score = auc(self.target[there], values[there, 0])
            found.append((seed, score, int(there.sum())))
        return found


@dataclass(frozen=True)
class Aligned:
    """Scores of some rows on the seeds, patients and labels that all of them have.

    Attributes:
        seeds: the common ones.
        values: shape (rows, seeds, patients, labels).
        target: class of each patient, where the scores are probabilities.
    """

    seeds: tuple[int, ...]
    values: Array
    target: Array | None


def aligned(sides: Sequence[Side], seeds: Sequence[int]) -> Aligned:
    """Put rows beside each other on the given seeds, which all of them have."""
    patients, labels = sides[0].patients, sides[0].labels
    for side in sides[1:]:
        patients = np.intersect1d(patients, side.patients)
        labels = np.intersect1d(labels, side.labels)
    values = np.stack([side.part(seeds, patients, labels) for side in sides])
    target = sides[0].target
    if target is not None:
        target = target[np.searchsorted(sides[0].patients, patients)]
    return Aligned(tuple(seeds), values, target)


def tested_metrics(task: ReportTask) -> tuple[str, ...]:
    """The metrics of a task that rows can be tested by.

    What is no mean over cases has no test here, but for the AUC of two classes.
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
    # Each seed generates phantoms of its own: equal names in two seeds are of different cases.
    own_cases = study.phantoms
    found = {name: sides_of(scores[scores["metric"] == name], own_cases) for name in SCORED}
    for task in (task for task in study.tasks.values() if task.type in PREDICTING):
        frame = read_predictions(study, task, inputs).assign(label="")
        for metric, values in _predicted(task, frame).items():
            found.setdefault(metric, {}).update(sides_of(values, own_cases))
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


def sides_of(frame: pd.DataFrame, own_cases: bool = False) -> Sides:
    """(stage, task, method, variant, ratio) → the scores, from a frame of case, label, value.

    Args:
        frame: with the columns of ``collect``; ``target`` where values are probabilities.
        own_cases: whether equal names of two seeds are of different cases.
    """
    rounded = frame.assign(ratio=frame["ratio"].astype(float).round(9))
    groups = rounded.groupby(_SIDE_KEYS, sort=False)
    return {tuple(key): _side(group, own_cases) for key, group in groups}


def _side(frame: pd.DataFrame, own_cases: bool) -> Side:
    """The scores of one row; the first value counts where a case occurs twice."""
    frame = frame.drop_duplicates(["seed", "case", "label"])
    seeds, seed = np.unique(frame["seed"].to_numpy(dtype=np.int64), return_inverse=True)
    # Scans of a patient that are of different classes cannot be averaged.
    parts = ["seed"] if own_cases else []
    parts += ["subject", *(["target"] if "target" in frame else [])]
    patient = _joined(frame, parts)
    scan = _joined(frame, [*parts, "case"])
    scans, first, number = np.unique(scan, return_index=True, return_inverse=True)
    labels, label = np.unique(frame["label"].to_numpy(dtype=str), return_inverse=True)
    values = np.full((len(seeds), len(scans), len(labels)), np.nan)
    values[seed, number, label] = frame["value"].to_numpy(dtype=np.float64)
    averaged, patients = by_patient(values, list(patient[first]), axis=-2)
    order = np.argsort(np.array(patients), kind="stable")
    target = None
    if "target" in frame:
        target = by_patient(frame["target"].to_numpy(dtype=np.float64), list(patient))[0]
        names = np.array(list(dict.fromkeys(patient)))
        target = target[np.argsort(names, kind="stable")]
    most = frame.groupby("seed")["case"].nunique().max()
    named = np.array(patients)[order]
    return Side(tuple(map(int, seeds)), named, labels, averaged[:, order], target, int(most))


def _joined(frame: pd.DataFrame, columns: Iterable[str]) -> NDArray[Any]:
    """Texts of some columns, which name a patient or a scan."""
    texts = [frame[column].astype(str).to_numpy(dtype=object) for column in columns]
    return np.array(["\t".join(parts) for parts in zip(*texts, strict=True)], dtype=str)
