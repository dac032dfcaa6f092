"""The worst test case of each method of a task, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from voxseq.config.report_run import REFERENCE, ReportTask
from voxseq.report.figures.drawing import show_slice
from voxseq.report.figures.style import bare, method_title, missing, new_figure
from voxseq.report.predictions import class_name
from voxseq.report.slices import Slice, window_of

_CELL = 1.35
_ROWS = ("Image", "Ground truth", "Prediction")
#: Characters of a case's name that fit below a cell, and lines that it may have.
_WIDTH, _LINES = 21, 2


def worst_figure(
    task: ReportTask,
    methods: Mapping[str, str],
    worst: Mapping[tuple[str, str], Slice],
    names: Mapping[str, str],
) -> Figure | None:
    """Columns: methods, each with its own worst case over seeds; ``None`` where there is none.

    Args:
        task: segmentation (image, truth, prediction below each other) or another type (image).
        methods: name → title of the columns; one without a worst case says "missing".
        worst: (task, method) → its worst case.
        names: short names of the cases, where known.
    """
    if not any((task.name, method) in worst for method in methods):
        return None
    rows = _ROWS if task.type == "segmentation" else _ROWS[:1]
    figure = new_figure(
        max(len(methods) * (_CELL + 0.05), 3.0) + 0.3, len(rows) * (_CELL + 0.05) + 0.8, pad=0.02
    )
    grid = figure.subplots(len(rows), len(methods), squeeze=False)
    for line, title in zip(grid, rows, strict=True):
        line[0].set_ylabel(title, fontsize=9)
    for column, method in zip(grid.T, methods, strict=True):
        item = worst.get((task.name, method))
        _column(column, item)
        method_title(column[0], methods[method], ours=method == REFERENCE)
        if item is not None:
            name = _cut(names.get(item.case, item.case))
            column[-1].set_xlabel(f"{_score(task, item)}\n{name}", fontsize=6.5)
    return figure


def _score(task: ReportTask, item: Slice) -> str:
    if task.type == "segmentation":
        return f"Dice {100 * item.score:.1f} % (seed {item.seed})"
    if task.type == "regression":
        given, true = (f"{float(value):.3g}" for value in (item.prediction, item.truth))
        return f"{given}, true {true} {task.unit}".rstrip() + f" (seed {item.seed})"
    return f"{class_name(task, int(item.truth))}: p = {item.score:.2f} (seed {item.seed})"


def _cut(name: str) -> str:
    """The end of a long name is what tells cases apart."""
    room = _WIDTH * _LINES
    shown = name if len(name) <= room else f"…{name[1 - room :]}"
    return "\n".join(wrap(shown, _WIDTH, break_long_words=True)[:_LINES])


def _column(column: Sequence[Axes], item: Slice | None) -> None:
    for axes in column:
        bare(axes)
        if item is None:
            missing(axes, square=True)
    if item is None:
        return
    if item.truth.ndim == 0 or len(column) == 1:
        show_slice(column[0], item.image)
        return
    shown = item.part(window_of(np.logical_or(item.truth > 0, item.prediction > 0)))
    show_slice(column[0], shown.image)
    show_slice(column[1], shown.image, shown.truth)
    show_slice(column[2], shown.image, shown.prediction, shown.truth)
