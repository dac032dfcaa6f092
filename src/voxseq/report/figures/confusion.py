"""Classifications of more than two classes: which class was taken for which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from voxseq.config.report_run import REFERENCE, ReportRun, ReportTask
from voxseq.report.figures.style import method_title, new_figure, nothing, panels
from voxseq.report.predictions import class_columns, predicted_class, read_predictions
from voxseq.report.tables.layout import ordered_tasks

_COLUMNS = 4
_MAP = "Blues"
#: Inches of a cell and of the names beside it; beyond so many classes no cell has a number.
_CELL, _NAMES, _NUMBERED = 0.36, 0.9, 12
#: Characters of a class's name that fit beside a row.
_WIDTH = 16


def confusion(task: ReportTask, frame: pd.DataFrame) -> NDArray[np.float64]:
    """Share of the cases of each true class that are predicted to be of each class.

    Args:
        task: a classification.
        frame: of ``read_predictions``; the predictions of all its runs count alike.

    Returns:
        Shape (classes, classes): rows are true classes, which sum to 1; NaN for a class that no
        case has.
    """
    count = len(class_columns(task))
    counts = np.zeros((count, count))
    truth = frame["target"].to_numpy(dtype=int)
    np.add.at(counts, (truth, predicted_class(task, frame).to_numpy(dtype=int)), 1.0)
    total = counts.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.full_like(counts, np.nan)
    np.divide(counts, total, out=shares, where=total > 0)
    return shares


def confusion_figure(study: ReportRun, inputs: Mapping[str, Path]) -> Figure | None:
    """A matrix for each task of more than two classes × method, the seeds pooled.

    Args:
        study: what was planned; a method that has not run has no panel.
        inputs: run id → folder, for the files of the seeds.

    Returns:
        ``None`` where the study has no such task.
    """
    tasks = [t for t in ordered_tasks(study, "classification") if t.has_many_classes]
    methods = study.methods_of("classification")
    if not tasks or not methods:
        return None
    frames = {t.name: read_predictions(study, t, inputs, ("finetune",)) for t in tasks}
    ran = {name: [m for m in methods if m in set(f["method"])] for name, f in frames.items()}
    tasks = [task for task in tasks if ran[task.name]]
    if not tasks:
        return nothing()
    columns = min(max(map(len, ran.values())), _COLUMNS)
    sides = [min(len(task.labels), 2 * _NUMBERED) * _CELL for task in tasks]
    rows = [math.ceil(len(ran[task.name]) / columns) for task in tasks]
    heights = [n * (side + _NAMES) + 0.55 for n, side in zip(rows, sides, strict=True)]
    figure = new_figure(columns * (max(sides) + _NAMES) + 0.4, sum(heights) + 0.2)
    parts = figure.subfigures(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, task in zip(parts, tasks, strict=True):
        part.suptitle(task.title, fontsize=10, fontweight="bold")
        frame, own = frames[task.name], ran[task.name]
        for axes, method in zip(panels(part, len(own), columns), own, strict=True):
            method_title(axes, study.title_of(method), ours=method == REFERENCE)
            _panel(axes, task, confusion(task, frame[frame["method"] == method]))
        part.supxlabel("predicted class", fontsize=8)
        part.supylabel("true class", fontsize=8)
    return figure


def _panel(axes: Axes, task: ReportTask, shares: NDArray[Any]) -> None:
    axes.imshow(shares, cmap=_MAP, vmin=0.0, vmax=1.0)
    axes.grid(visible=False)
    names = [shorten(label, _WIDTH, placeholder="…") or label[:_WIDTH] for label in task.labels]
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90, fontsize=7)
    axes.set_yticks(places, names, fontsize=7)
    axes.tick_params(length=0)
    if len(names) > _NUMBERED:
        return
    for row, column in np.argwhere(np.isfinite(shares)):
        share = shares[row, column]
        axes.text(
            column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7,
            color="white" if share > 0.5 else "black",
        )  # fmt: skip
