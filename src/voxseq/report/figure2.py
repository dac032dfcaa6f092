"""Figure 2: one test case of every segmentation task, segmented by every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voxseq.errors import IntegrityError
from voxseq.report.collect import run_file
from voxseq.report.layout import ordered_tasks
from voxseq.report.study import Study, Task, title_of
from voxseq.report.style import CLASS_COLOURS, MISSING_FACE, MISSING_TEXT, new_figure

_CELL = 1.5
_ALPHA = 0.45


@dataclass(frozen=True)
class Slice:
    """One slice, all arrays of shape (X, Y): image in any unit, class indices 0, 1, 2, …"""

    image: NDArray[np.float32]
    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]


def read_slice(path: Path) -> Slice:
    """Read example.npz of a segmentation run.

    Raises:
        IntegrityError: not an npz file, a missing array, or arrays that are not 2D of one shape.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            image, truth, prediction = (arrays[n] for n in ("image", "truth", "prediction"))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise IntegrityError(f"{path} is not an example slice: {error}") from None
    if image.ndim != 2 or not image.shape == truth.shape == prediction.shape:
        shapes = ", ".join(str(a.shape) for a in (image, truth, prediction))
        raise IntegrityError(f"{path}: expected three 2D arrays of one shape, found {shapes}")
    return Slice(image.astype(np.float32), truth.astype(np.int64), prediction.astype(np.int64))


def collect_slices(study: Study, inputs: Mapping[str, Path]) -> dict[tuple[str, str], Slice]:
    """(task, method) → slice of the first seed that has one, at full labels."""
    found: dict[tuple[str, str], Slice] = {}
    for run in study.runs:
        key = (run.task, run.method)
        if run.variant or run.ratio != 1.0 or study.tasks[run.task].type != "segmentation":
            continue
        path = run_file(inputs, run.id, "example.npz")
        if path is not None and key not in found:
            found[key] = read_slice(path)
    return found


def slice_dice(truth: NDArray[np.int64], prediction: NDArray[np.int64]) -> float | None:
    """Mean Dice (0..1) of the classes that the true slice has; ``None`` where it has none."""
    values = []
    for label in np.unique(truth[truth > 0]):
        a, b = truth == label, prediction == label
        values.append(2.0 * np.logical_and(a, b).sum() / (a.sum() + b.sum()))
    return float(np.mean(values)) if values else None


def figure2(study: Study, slices: Mapping[tuple[str, str], Slice]) -> Figure | None:
    """Rows: segmentation tasks; columns: image, ground truth, each method of the study.

    A method without a slice gets a cell that says "missing". ``None`` without any task.
    """
    tasks = ordered_tasks(study, "segmentation")
    methods = study.methods_of("segmentation")
    if not tasks:
        return None
    columns = 2 + len(methods)
    longest = max(len(text) for task in tasks for text in (task.title, *task.labels))
    width = columns * (_CELL + 0.05) + 0.085 * longest + 0.35
    figure = new_figure(width, len(tasks) * (_CELL + 0.06) + 0.6)
    grid = figure.subplots(len(tasks), columns, squeeze=False)
    for index, title in enumerate(["Image", "Ground truth", *map(title_of, methods)]):
        grid[0][index].set_title(title, fontsize=10, fontweight="bold")
    for line, task in zip(grid, tasks, strict=True):
        _row(line, task, methods, slices)
    note = "Number: mean Dice of the classes in this slice, in %."
    figure.supxlabel(note, fontsize=8, color=MISSING_TEXT)
    return figure


def _row(
    line: Sequence[Axes],
    task: Task,
    methods: Sequence[str],
    slices: Mapping[tuple[str, str], Slice],
) -> None:
    for axes in line:
        _bare(axes)
    _label(line[0], task)
    present = [slices[task.name, m] for m in methods if (task.name, m) in slices]
    if present:
        first = present[0]
        _show(line[0], first.image, None)
        _show(line[1], first.image, first.truth)
    else:
        _missing(line[0])
        _missing(line[1])
    for axes, method in zip(line[2:], methods, strict=True):
        item = slices.get((task.name, method))
        if item is None:
            _missing(axes)
            continue
        _show(axes, item.image, item.prediction)
        dice = slice_dice(item.truth, item.prediction)
        if dice is not None:
            text = axes.text(
                0.96, 0.04, f"{100 * dice:.1f}", transform=axes.transAxes, ha="right", va="bottom",
                fontsize=8.5, color="white",
            )  # fmt: skip
            text.set_path_effects([patheffects.withStroke(linewidth=1.8, foreground="black")])


def _show(axes: Axes, image: NDArray[np.float32], labels: NDArray[np.int64] | None) -> None:
    """The slice in grey with each class filled and outlined; x to the right, y upwards."""
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (1.0, 99.0)) if finite.size else (0.0, 1.0)
    if not low < high:
        low, high = low - 0.5, low + 0.5
    axes.imshow(image.T, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="nearest")
    if labels is None:
        return
    overlay = np.zeros((*labels.T.shape, 4))
    for label in np.unique(labels[labels > 0]):
        colour = class_colour(int(label))
        inside = label == labels.T
        overlay[inside] = (*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), _ALPHA)
        if inside.any() and not inside.all() and min(inside.shape) > 1:
            axes.contour(inside.astype(float), levels=[0.5], colors=[colour], linewidths=1.0)
    axes.imshow(overlay, origin="lower", interpolation="nearest")


def class_colour(label: int) -> str:
    """Colour of foreground class ``label`` = 1, 2, …"""
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def _label(axes: Axes, task: Task) -> None:
    """Title of the task and the names of its classes, each with its colour, left of the row."""
    names = task.labels
    top = 0.5 + 0.075 * (len(names) + 1)
    axes.text(
        -0.08, top - 0.04, task.title, transform=axes.transAxes, ha="right", va="center",
        fontsize=9.5, fontweight="bold",
    )  # fmt: skip
    for index, name in enumerate(names, start=1):
        y = top - 0.04 - 0.15 * index
        axes.text(-0.17, y, name, transform=axes.transAxes, ha="right", va="center", fontsize=8)
        axes.add_patch(
            Rectangle(
                (-0.14, y - 0.035), 0.07, 0.07, transform=axes.transAxes, clip_on=False,
                facecolor=class_colour(index), edgecolor="#444444", linewidth=0.4,
            )
        )  # fmt: skip


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _missing(axes: Axes) -> None:
    axes.set_facecolor(MISSING_FACE)
    axes.set_box_aspect(1)
    axes.text(
        0.5, 0.5, "missing", transform=axes.transAxes, ha="center", va="center", fontsize=9,
        color=MISSING_TEXT,
    )  # fmt: skip
