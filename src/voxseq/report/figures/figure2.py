"""Figure 2: one test case of every segmentation task, segmented by every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voxseq.config.report_run import REFERENCE, ReportRun, ReportTask
from voxseq.report.escape import one_line
from voxseq.report.figures.drawing import (
    ENDS,
    class_colour,
    show_scale,
    show_sides,
    show_slice,
)
from voxseq.report.figures.style import (
    MISSING_TEXT,
    bare,
    method_title,
    missing,
    new_figure,
    outlined,
)
from voxseq.report.reading import run_file
from voxseq.report.slices import Slices, read_slices, slice_dice, window_of
from voxseq.report.tables.layout import ordered_tasks

#: Width in inches that the cells of a row share, and the bounds of one cell.
_SHARED = 12.6
_SMALLEST, _LARGEST = 0.9, 1.5
_GAP = 0.05
#: Width in inches of a bold letter of a heading.
_LETTER = 0.085
#: Characters of a line of a title, and of the name of a case.
_WRAP, _NAME = 16, 20
#: Frame of the best of a row, visible on black and on white.
_BEST = "#F2B700"


def collect_slices(study: ReportRun, inputs: Mapping[str, Path]) -> dict[tuple[str, str], Slices]:
    """(task, method) → slice of the first seed that has one, at full labels."""
    found: dict[tuple[str, str], Slices] = {}
    for run in study.finetuned:
        key = (run.task, run.method)
        if study.tasks[run.task].type == "segmentation" and key not in found:
            path = run_file(inputs, run.id, "example.npz")
            if path is not None:
                found[key] = read_slices(path, run.seed)
    return found


def figure2(study: ReportRun, slices: Mapping[tuple[str, str], Slices]) -> Figure | None:
    """Rows: segmentation tasks; columns: image, ground truth, each method of the study.

    A method without a slice gets a cell that says "missing". ``None`` without any task.
    """
    tasks = ordered_tasks(study, "segmentation")
    methods = study.methods_of("segmentation")
    if not tasks:
        return None
    columns = 2 + len(methods)
    cell = float(np.clip(_SHARED / columns, _SMALLEST, _LARGEST))
    longest = max(
        *(len(text) for t in tasks for text in (*wrap(t.title, _WRAP), *t.labels)),
        *(len(line) for item in slices.values() for line in _case(item)),
    )
    width = columns * (cell + _GAP) + 0.085 * longest + 0.35
    figure = new_figure(width, len(tasks) * (cell + _GAP) + 0.75, pad=0.02)
    grid = figure.subplots(len(tasks), columns, squeeze=False)
    heads = [("Image", ""), ("Ground truth", ""), *((study.title_of(m), m) for m in methods)]
    for axes, (title, method) in zip(grid[0], heads, strict=True):
        lines = wrap(title, int(cell / _LETTER), break_long_words=False)
        method_title(axes, "\n".join(lines), 9.0, ours=method == REFERENCE)
    for line, task in zip(grid, tasks, strict=True):
        _row(line, task, methods, slices)
    note = (
        "Filled: prediction; white line: ground truth. Number: mean Dice of the classes over the "
        "whole slice, in %; yellow frame: best of the row. R, L, A: the patient's "
        "right, left, front."
    )
    figure.supxlabel(note, fontsize=8, color=MISSING_TEXT)
    return figure


def _row(
    line: Sequence[Axes],
    task: ReportTask,
    methods: Sequence[str],
    slices: Mapping[tuple[str, str], Slices],
) -> None:
    for axes in line:
        bare(axes)
    present = {m: slices[task.name, m] for m in methods if (task.name, m) in slices}
    if not present:
        _label(line[0], task, [])
        for axes in line:
            missing(axes, square=True)
        return
    first = next(iter(present.values()))
    window = window_of(np.any(first.truth, axis=2))
    shown = first.part(window)
    _show(line[0], shown)
    if first.oriented:
        show_sides(line[0], ENDS[0][1], ENDS[0][0], ENDS[1][1], 6.5)
    show_scale(line[0], shown.image.shape[0] * shown.spacing[0], 6)
    _show(line[1], shown, shown.truth)
    scores = {m: slice_dice(item.truth, item.prediction) for m, item in present.items()}
    best = max((score for score in scores.values() if score is not None), default=None)
    _label(line[0], task, [*_case(first), *(["(no method finds it)"] if best == 0.0 else [])])
    for axes, method in zip(line[2:], methods, strict=True):
        if method not in present:
            missing(axes, square=True)
            continue
        # Slices of one task are of one case; another shape is shown whole.
        same = present[method].truth.shape == first.truth.shape
        shown = present[method].part(window) if same else present[method]
        _show(axes, shown, shown.prediction, shown.truth)
        score = scores[method]
        if score is not None:
            place: dict[str, object] = {"ha": "right", "va": "bottom", "fontsize": 8.5}
            outlined(axes, 0.96, 0.04, f"{100 * score:.1f}", 1.8, transform=axes.transAxes, **place)
            if score == best and best > 0.0 and len(present) > 1:
                for spine in axes.spines.values():
                    spine.set(visible=True, linewidth=2.5, edgecolor=_BEST)


def _show(
    axes: Axes,
    item: Slices,
    labels: NDArray[np.int64] | None = None,
    outline: NDArray[np.int64] | None = None,
) -> None:
    """The first slice in its millimetres, the patient's right on the left."""
    planes = (None if array is None else array[..., item.main] for array in (labels, outline))
    show_slice(axes, item.image[..., item.main], *planes)
    axes.set_aspect(item.spacing[1] / item.spacing[0])
    if item.oriented:
        axes.invert_xaxis()


def _case(item: Slices) -> list[str]:
    """Name of the case, its end if it is long, and number of the slice."""
    name = item.case if len(item.case) <= _NAME else f"…{item.case[1 - _NAME :]}"
    return [one_line(name), item.place]


def _label(axes: Axes, task: ReportTask, below: Sequence[str]) -> None:
    """Title of the task, its classes, each with its colour, and further lines, left of the row."""
    titles = wrap(task.title, _WRAP)
    count = len(titles) + len(task.labels) + len(below)
    step = min(0.17, 1.0 / count)
    y = 0.5 + step * (count - 1) / 2
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "center"}
    for title in titles:
        axes.text(-0.08, y, title, fontsize=9.5, fontweight="bold", **place)
        y -= step
    for index, name in enumerate(task.labels, start=1):
        axes.text(-0.19, y, name, fontsize=8, **place)
        axes.add_patch(
            Rectangle(
                (-0.16, y - 0.04), 0.08, 0.08, transform=axes.transAxes, clip_on=False,
                facecolor=class_colour(index), edgecolor="#444444", linewidth=0.4,
            )
        )  # fmt: skip
        y -= step
    for line in below:
        axes.text(-0.08, y, line, fontsize=7, color=MISSING_TEXT, **place)
        y -= step
