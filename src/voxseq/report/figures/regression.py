"""Regressions: predicted against true value of every test case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from voxseq.config.report_run import REFERENCE, ReportRun, ReportTask
from voxseq.report.cases import target_name
from voxseq.report.figures.style import Palette, method_title, new_figure, nothing, panels
from voxseq.report.metrics import printed
from voxseq.report.predictions import VALUE, read_predictions
from voxseq.report.tables.layout import ordered_tasks

_COLUMNS = 4
_PANEL = (2.4, 2.35)
_MARGIN = 0.05


def regression_figure(
    study: ReportRun, inputs: Mapping[str, Path], palette: Palette
) -> Figure | None:
    """A panel for each task × method, with the same axes for all methods of a task.

    Args:
        study: what was planned; a method that has not run has no panel.
        inputs: run id → folder, for the files of the seeds.
        palette: colours of the methods.

    Returns:
        ``None`` where the study has no regression.
    """
    tasks, methods = ordered_tasks(study, "regression"), study.methods_of("regression")
    if not tasks or not methods:
        return None
    frames = {
        t.name: mean_predictions(read_predictions(study, t, inputs, ("finetune",))) for t in tasks
    }
    ran = {name: [m for m in methods if m in set(f["method"])] for name, f in frames.items()}
    tasks = tuple(task for task in tasks if ran[task.name])
    if not tasks:
        return nothing()
    columns = min(max(map(len, ran.values())), _COLUMNS)
    heights = [math.ceil(len(ran[task.name]) / columns) * _PANEL[1] + 0.55 for task in tasks]
    figure = new_figure(max(columns * _PANEL[0], 4.0) + 0.3, sum(heights) + 0.2)
    parts = figure.subfigures(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, task in zip(parts, tasks, strict=True):
        part.suptitle(task.title, fontsize=10, fontweight="bold")
        cases, own = frames[task.name], ran[task.name]
        limits = _limits(cases)
        for axes, method in zip(panels(part, len(own), columns), own, strict=True):
            method_title(axes, study.title_of(method), ours=method == REFERENCE)
            mine = cases[cases["method"] == method]
            _panel(axes, task, mine, limits, palette.colour(method))
        name = target_name(task) + (f" ({task.unit})" if task.unit else "")
        part.supxlabel(f"true {name}", fontsize=8)
        part.supylabel("predicted, mean over seeds", fontsize=8)
    return figure


def mean_predictions(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of the predictions of each case, and their mean absolute error.

    Args:
        frame: of ``read_predictions``.

    Returns:
        One row per method × case: method, case, target, value, error (mean over seeds), seeds.
    """
    errors = frame.assign(error=(frame[VALUE] - frame["target"]).abs())
    grouped = errors.groupby(["method", "case"], sort=False)
    return grouped.agg(
        target=("target", "first"),
        value=(VALUE, "mean"),
        error=("error", "mean"),
        seeds=("seed", "nunique"),
    ).reset_index()


def _limits(cases: pd.DataFrame) -> tuple[float, float]:
    """Ends of both axes: all true and predicted values with a margin."""
    values = cases[["target", "value"]].to_numpy(dtype=float)
    low, high = float(values.min()), float(values.max())
    margin = _MARGIN * (high - low) or 0.5
    return low - margin, high + margin


def _panel(
    axes: Axes, task: ReportTask, cases: pd.DataFrame, limits: tuple[float, float], colour: str
) -> None:
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.plot(limits, limits, color="#888888", linewidth=0.8, linestyle=(0, (3, 2)))
    x, y = cases["target"], cases["value"]
    axes.scatter(x, y, s=12, color=colour, alpha=0.6, linewidths=0.0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    metric = printed("mae", task.unit)
    error = float(np.mean(cases["error"]))
    axes.text(
        0.04, 0.97, f"{metric.title} {error:.{metric.decimals(error)}f} {task.unit}".rstrip(),
        transform=axes.transAxes, ha="left", va="top", fontsize=7.5, zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0},
    )  # fmt: skip
