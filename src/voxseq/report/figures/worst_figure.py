"""The worst test case of each method of a task, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from voxseq.report.figures.slices import Slice, show_slice, window_of
from voxseq.report.figures.style import bare, missing, new_figure
from voxseq.report.study import REFERENCE, Task, title_of
from voxseq.report.tables.worst_cases import WorstCase, class_name

_CELL = 1.35
_ROWS = ("Image", "Ground truth", "Prediction")
#: Characters of a case's name that fit below a cell, and lines that it may have.
_WIDTH, _LINES = 21, 2


def worst_figure(
    task: Task,
    methods: Sequence[str],
    worst: Mapping[tuple[str, str], WorstCase],
    names: Mapping[str, str],
) -> Figure | None:
    """Columns: methods, each with its own worst case over seeds; ``None`` where there is none.

    Args:
        task: segmentation (image, truth, prediction below each other) or classification (image).
        methods: the columns; one without a worst case says "missing".
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
        _names(column, task, method, item, names)
    return figure


def _names(
    column: Sequence[Axes],
    task: Task,
    method: str,
    item: WorstCase | None,
    names: Mapping[str, str],
) -> None:
    """The method above its column, case and score below it."""
    weight = "bold" if method == REFERENCE else "normal"
    column[0].set_title(title_of(method), fontsize=9, fontweight=weight)
    if item is not None:
        shown = f"{_score(task, item)}\n{_cut(names.get(item.case, item.case))}"
        column[-1].set_xlabel(shown, fontsize=6.5)


def _score(task: Task, item: WorstCase) -> str:
    if task.type == "segmentation":
        return f"Dice {100 * item.score:.1f} % (seed {item.seed})"
    return f"{class_name(task, int(item.truth))}: p = {item.score:.2f} (seed {item.seed})"


def _cut(name: str) -> str:
    """The end of a long name is what tells cases apart."""
    room = _WIDTH * _LINES
    shown = name if len(name) <= room else f"…{name[1 - room :]}"
    return "\n".join(wrap(shown, _WIDTH, break_long_words=True)[:_LINES])


def _column(column: Sequence[Axes], item: WorstCase | None) -> None:
    for axes in column:
        bare(axes)
        if item is None:
            missing(axes, square=True)
    if item is None:
        return
    if item.truth.ndim == 0 or len(column) == 1:
        show_slice(column[0], item.image)
        return
    marked = np.logical_or(item.truth > 0, item.prediction > 0)
    shown = Slice(item.image, item.truth, item.prediction).part(window_of(marked))
    show_slice(column[0], shown.image)
    show_slice(column[1], shown.image, shown.truth)
    show_slice(column[2], shown.image, shown.prediction, shown.truth)
