"""Calibration of the classifications: reliability diagrams, ECE and Brier score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from voxseq.config.report_run import REFERENCE, ReportRun, ReportTask
from voxseq.report.figures.style import Palette, method_title, new_figure, nothing, panels
from voxseq.report.predictions import class_columns, read_predictions
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
#: Below this number of predictions the share in a bin is mostly chance: it is faded.
FEW_PREDICTIONS = 5
_COLUMNS = 5
_PANEL = (2.15, 2.2)


def calibration(
    target: NDArray[Any], probability: NDArray[Any]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Bin the probability of the positive class and compare it with the outcome.

    Args:
        target: 0 or 1, shape (n,).
        probability: of class 1, 0..1, shape (n,).

    Returns:
        One row per bin, columns ``BIN_COLUMNS`` without task and method, NaN in an empty bin; and
        ece: expected calibration error, the mean over predictions of the gap of their bin (0..1);
        brier: mean squared difference of probability and outcome (Brier 1950); brier_base_rate:
        that of always predicting the share of positive cases, below which a useful method stays.

    Raises:
        ValueError: no prediction, or a value out of range.
    """
    target, probability = np.asarray(target, np.int64), np.asarray(probability, np.float64)
    if not target.size or not np.isin(target, (0, 1)).all():
        raise ValueError("calibration needs at least one case, each of class 0 or 1")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("calibration needs probabilities between 0 and 1")
    edges = np.linspace(0.0, 1.0, BINS + 1)
    # A probability on an edge belongs to the bin below, as in scikit-learn's calibration_curve.
    index = np.searchsorted(edges[1:-1], probability)
    bins = pd.DataFrame({"low": edges[:-1], "high": edges[1:]})
    bins["predictions"] = np.bincount(index, minlength=BINS)
    count = bins["predictions"].where(bins["predictions"] > 0)
    bins["mean_probability"] = np.bincount(index, probability, BINS) / count
    bins["share_positive"] = np.bincount(index, target, BINS) / count
    gaps = (bins["share_positive"] - bins["mean_probability"]).abs()
    rate = float(target.mean())
    return bins, {
        "ece": float((gaps * count).sum() / target.size),
        "brier": float(np.mean((probability - target) ** 2)),
        "brier_base_rate": rate * (1.0 - rate),
    }


def calibrations(study: ReportRun, inputs: Mapping[str, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Calibration at full labels of tasks of two classes, the predictions of all seeds pooled.

    Returns:
        One row per task × method, columns ``SUMMARY_COLUMNS``; and one per bin of each, columns
        ``BIN_COLUMNS``.
    """
    summary, parts = [], [pd.DataFrame(columns=list(BIN_COLUMNS))]
    for task in _tasks(study):
        frame = read_predictions(study, task, inputs, ("finetune",))
        probability = class_columns(task)[1]
        for method in study.methods_of("classification"):
            part = frame[frame["method"] == method]
            if part.empty:
                continue
            bins, scores = calibration(part["target"].to_numpy(), part[probability].to_numpy())
            parts.append(bins.assign(task=task.name, method=method))
            summary.append(
                {
                    "task": task.name,
                    "method": method,
                    "title": study.title_of(method),
                    "seeds": part["seed"].nunique(),
                    "cases": part["case"].nunique(),
                    "predictions": len(part),
                    "positives": int(part["target"].sum()),
                    **scores,
                }
            )
    joined = pd.concat(parts[1:] or parts, ignore_index=True).loc[:, list(BIN_COLUMNS)]
    return pd.DataFrame(summary, columns=list(SUMMARY_COLUMNS)), joined


def reliability_figure(
    study: ReportRun, summary: pd.DataFrame, bins: pd.DataFrame, palette: Palette
) -> Figure | None:
    """One small diagram per task of two classes × method that has run.

    ``None`` where the study has no such task; "missing" where nothing has run.
    """
    if not _tasks(study) or not study.methods_of("classification"):
        return None
    ran = {str(name): list(part["method"]) for name, part in summary.groupby("task")}
    tasks = [task for task in _tasks(study) if task.name in ran]
    if not tasks:
        return nothing()
    columns = min(max(map(len, ran.values())), _COLUMNS)
    heights = [math.ceil(len(ran[task.name]) / columns) * _PANEL[1] + 0.6 for task in tasks]
    figure = new_figure(max(columns * _PANEL[0], 4.0) + 0.3, sum(heights) + 0.2)
    parts = figure.subfigures(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, task in zip(parts, tasks, strict=True):
        part.suptitle(_heading(task), fontsize=10, fontweight="bold")
        methods = ran[task.name]
        flat = panels(part, len(methods), columns, sharex=True, sharey=True)
        for axes, method in zip(flat, methods, strict=True):
            method_title(axes, study.title_of(method), ours=method == REFERENCE)
            keys = (task.name, method)
            found = [f[(f["task"] == keys[0]) & (f["method"] == keys[1])] for f in (summary, bins)]
            _panel(axes, found[0].iloc[0], found[1], palette.colour(method))
        part.supxlabel("predicted probability", fontsize=8)
        part.supylabel("share of positive cases", fontsize=8)
    return figure


def _tasks(study: ReportRun) -> tuple[ReportTask, ...]:
    """The classifications with one probability for a case."""
    return tuple(t for t in ordered_tasks(study, "classification") if t.has_two_classes)


def _heading(task: ReportTask) -> str:
    positive = f": probability of “{task.labels[1]}”" if len(task.labels) > 1 else ""
    return f"{task.title}{positive}"


def _panel(axes: Axes, scores: pd.Series[Any], bins: pd.DataFrame, colour: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    counts = bins["predictions"]
    # Bars below: how the predictions are spread; the highest bar has a quarter of the panel.
    axes.bar(
        bins["low"], 0.25 * counts / counts.max(), width=bins["high"] - bins["low"],
        align="edge", color="#D9D9D9", edgecolor="white", linewidth=0.5,
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=(0, (3, 2)))
    filled = bins[counts > 0]
    x, y = filled["mean_probability"], filled["share_positive"]
    is_few = filled["predictions"] < FEW_PREDICTIONS
    axes.plot(x[~is_few], y[~is_few], color=colour, linewidth=1.4)
    sizes = 8 + 60 * filled["predictions"] / counts.sum()
    for chosen, alpha in ((is_few, 0.25), (~is_few, 1.0)):
        axes.scatter(
            x[chosen], y[chosen], s=sizes[chosen], color=colour, alpha=alpha, linewidths=0.0,
            zorder=3, clip_on=False,
        )  # fmt: skip
    axes.text(
        0.04, 0.97, f"ECE {scores['ece']:.3f}\nBrier {scores['brier']:.3f}",
        transform=axes.transAxes, ha="left", va="top", fontsize=7.5, zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0},
    )  # fmt: skip
