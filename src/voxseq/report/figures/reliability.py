"""Calibration of the classifications: reliability diagrams, ECE and Brier score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from voxseq.report.figures.style import Look, missing, new_figure
from voxseq.report.results import PREDICTION_COLUMNS, read_runs
from voxseq.report.study import REFERENCE, Study, Task, title_of
from voxseq.report.tables.layout import ordered_tasks

#: Bins of equal width over the probability.
BINS = 10
SUMMARY_COLUMNS = (
    *("task", "method", "title", "seeds", "cases", "predictions", "positives"),
    *("ece", "brier", "brier_base_rate"),
)
BIN_COLUMNS = (
    *("task", "method", "low", "high", "predictions", "mean_probability", "share_positive"),
)
_COLUMNS = 5
_PANEL = (2.15, 2.2)


@dataclass(frozen=True)
class Calibration:
    """How well the predicted probabilities of one method agree with what happened.

    Attributes:
        seeds: number of seeds whose predictions are pooled.
        cases: number of different test cases.
        edges: borders of the bins, shape (bins + 1,).
        counts: predictions in each bin, shape (bins,).
        mean_probability: mean predicted probability of each bin; NaN where it is empty.
        share_positive: share of positive cases of each bin; NaN where it is empty.
        brier: mean squared difference of probability and outcome, 0..1 (Brier 1950).
        base_rate: share of positive cases, 0..1.
    """

    seeds: int
    cases: int
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    mean_probability: NDArray[np.float64]
    share_positive: NDArray[np.float64]
    brier: float
    base_rate: float

    @property
    def ece(self) -> float:
        """Expected calibration error: mean over predictions of the gap of their bin, 0..1."""
        gaps = np.abs(self.share_positive - self.mean_probability)
        return float(np.nansum(gaps * self.counts) / self.counts.sum())

    @property
    def brier_base_rate(self) -> float:
        """Brier score of always predicting the base rate: a useful method stays below it."""
        return self.base_rate * (1.0 - self.base_rate)


def calibration(
    target: NDArray[Any], probability: NDArray[Any], *, seeds: int = 1, cases: int | None = None
) -> Calibration:
    """Bin the probability of the positive class and compare it with the outcome.

    Args:
        target: 0 or 1, shape (n,).
        probability: of class 1, 0..1, shape (n,).
        seeds: number of seeds that are pooled.
        cases: number of different cases; n by default.

    Raises:
        ValueError: no prediction, or a value out of range.
    """
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss

    target, probability = np.asarray(target, np.int64), np.asarray(probability, np.float64)
    if not target.size or not np.isin(target, (0, 1)).all():
        raise ValueError("calibration needs at least one case, each of class 0 or 1")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("calibration needs probabilities between 0 and 1")
    edges = np.linspace(0.0, 1.0, BINS + 1)
    # The same rule as calibration_curve, which does not give the number of cases of a bin.
    counts = np.bincount(np.searchsorted(edges[1:-1], probability), minlength=BINS)
    positive, predicted = calibration_curve(target, probability, n_bins=BINS, pos_label=1)
    share, mean = np.full(BINS, np.nan), np.full(BINS, np.nan)
    share[counts > 0], mean[counts > 0] = positive, predicted
    brier = float(brier_score_loss(target, probability, pos_label=1))
    number = len(target) if cases is None else cases
    return Calibration(seeds, number, edges, counts, mean, share, brier, float(target.mean()))


def calibrations(study: Study, inputs: Mapping[str, Path]) -> dict[tuple[str, str], Calibration]:
    """(task, method) → calibration at full labels, the predictions of all seeds pooled."""
    tasks = {task.name for task in study.tasks_of("classification")}
    runs = [r for r in study.runs if r.task in tasks and r.stage == "finetune"]
    frame = read_runs(runs, inputs, "predictions.csv", ("case", *PREDICTION_COLUMNS[1:]))
    frame = frame[np.isfinite(frame["probability"].astype(float))]
    return {
        (str(task), str(method)): calibration(
            part["target"].to_numpy(),
            part["probability"].to_numpy(),
            seeds=part["seed"].nunique(),
            cases=part["case"].nunique(),
        )
        for (task, method), part in frame.groupby(["task", "method"], sort=False)
    }


def summary_frame(study: Study, found: Mapping[tuple[str, str], Calibration]) -> pd.DataFrame:
    """One row a task × method, columns ``SUMMARY_COLUMNS``."""
    rows = [
        (
            *(task.name, method, title_of(method), item.seeds, item.cases, int(item.counts.sum())),
            round(item.base_rate * int(item.counts.sum())),
            *(item.ece, item.brier, item.brier_base_rate),
        )
        for task, method, item in _in_order(study, found)
    ]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def bin_frame(study: Study, found: Mapping[tuple[str, str], Calibration]) -> pd.DataFrame:
    """One row a task × method × bin, columns ``BIN_COLUMNS``; NaN in an empty bin."""
    rows = [
        (
            *(task.name, method, float(item.edges[i]), float(item.edges[i + 1])),
            *(int(item.counts[i]), float(item.mean_probability[i])),
            float(item.share_positive[i]),
        )
        for task, method, item in _in_order(study, found)
        for i in range(len(item.counts))
    ]
    return pd.DataFrame(rows, columns=list(BIN_COLUMNS))


def reliability_figure(
    study: Study, found: Mapping[tuple[str, str], Calibration], look: Look
) -> Figure | None:
    """One small diagram a task × method; ``None`` where the study classifies nothing."""
    tasks = ordered_tasks(study, "classification")
    methods = study.methods_of("classification")
    if not tasks or not methods:
        return None
    columns = min(len(methods), _COLUMNS)
    lines = math.ceil(len(methods) / columns)
    height = lines * _PANEL[1] + 0.5
    figure = new_figure(max(columns * _PANEL[0], 4.0) + 0.3, len(tasks) * height + 0.2)
    for part, task in zip(
        figure.subfigures(len(tasks), 1, squeeze=False)[:, 0], tasks, strict=True
    ):
        part.suptitle(_heading(task), fontsize=10, fontweight="bold")
        grid = part.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        flat: list[Axes] = [axes for line in grid for axes in line]
        for axes in flat[len(methods) :]:
            axes.set_visible(False)
        for axes, method in zip(flat, methods, strict=False):
            _panel(axes, found.get((task.name, method)), method, look)
        part.supxlabel("predicted probability", fontsize=8)
        part.supylabel("share of positive cases", fontsize=8)
    return figure


def _heading(task: Task) -> str:
    positive = f": probability of “{task.labels[1]}”" if len(task.labels) > 1 else ""
    return f"{task.title}{positive}"


def _panel(axes: Axes, item: Calibration | None, method: str, look: Look) -> None:
    weight = "bold" if method == REFERENCE else "normal"
    axes.set_title(title_of(method), fontsize=9, fontweight=weight)
    if item is None:
        missing(axes)
        return
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    # Bars below: how the predictions are spread; the highest bar has a quarter of the panel.
    axes.bar(
        item.edges[:-1], 0.25 * item.counts / item.counts.max(), width=np.diff(item.edges),
        align="edge", color="#D9D9D9", edgecolor="white", linewidth=0.5,
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=(0, (3, 2)))
    filled = item.counts > 0
    x, y = item.mean_probability[filled], item.share_positive[filled]
    axes.plot(x, y, color=look.colour(method), linewidth=1.4)
    axes.scatter(
        x, y, s=8 + 60 * item.counts[filled] / item.counts.sum(), color=look.colour(method),
        zorder=3, clip_on=False,
    )  # fmt: skip
    axes.text(
        0.04, 0.97, f"ECE {item.ece:.3f}\nBrier {item.brier:.3f}", transform=axes.transAxes,
        ha="left", va="top", fontsize=7.5, zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0},
    )  # fmt: skip


def _in_order(
    study: Study, found: Mapping[tuple[str, str], Calibration]
) -> Sequence[tuple[Task, str, Calibration]]:
    return [
        (task, method, found[task.name, method])
        for task in ordered_tasks(study, "classification")
        for method in study.methods_of("classification")
        if (task.name, method) in found
    ]
