"""Heat map of the scores: methods by tasks, coloured within each task."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from voxseq.config.report_run import REFERENCE, ReportRun, ReportTask
from voxseq.report.figures.style import MISSING_FACE, bare, new_figure
from voxseq.report.metrics import PRINTED, printed
from voxseq.report.results import main_scores
from voxseq.report.tables.layout import all_tasks

_DIGITS: Mapping[str, int] = {"dice": 1, "auc": 3}
#: Dark to light blue-yellow, made for colour-blind readers.
_MAP = "cividis"
_CELL = (0.98, 0.36)
_BLOCK_GAP = 0.25
_MISSING: dict[str, Any] = {"facecolor": MISSING_FACE, "edgecolor": "#AAAAAA", "hatch": "////"}


def heat_values(study: ReportRun, means: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of the main metric in the printed unit: Dice in %, AUC 0..1, MAE.

    Args:
        study: gives the rows (its methods) and the columns (its tasks, in the tables' order).
        means: frame of ``run_means``.

    Returns:
        Methods × tasks; NaN where a run is missing or a method has no network for the task.
    """
    tasks = all_tasks(study)
    scores = main_scores(study, means)[[task.name for task in tasks]]
    return scores * [PRINTED[task.metrics[0]].factor for task in tasks]


def shades(values: pd.DataFrame, lower: Collection[str] = ()) -> pd.DataFrame:
    """Each value between its column's worst (0) and best (1); 0.5 where all are equal.

    Args:
        values: rows × columns, NaN where there is none.
        lower: columns whose best value is the smallest one.
    """
    span = values.max() - values.min()
    shaded = ((values - values.min()) / span.where(span > 0)).fillna(0.5).where(values.notna())
    for name in lower:
        shaded[name] = 1.0 - shaded[name]
    return shaded


def heatmap_figure(study: ReportRun, means: pd.DataFrame) -> Figure | None:
    """Draw the map; ``None`` where the study has no task or no method."""
    values, tasks, rows = heat_values(study, means), all_tasks(study), len(study.methods)
    if values.empty:
        return None
    metrics = [printed(task.metrics[0], task.unit) for task in tasks]
    # A gap parts the types of task.
    kinds = list(dict.fromkeys(task.type for task in tasks))
    left = [i + _BLOCK_GAP * kinds.index(task.type) for i, task in enumerate(tasks)]
    width, height = (left[-1] + 1) * _CELL[0], rows * _CELL[1]
    figure = new_figure(width + 2.2, height + 1.35)
    axes = figure.subplots()
    bare(axes)
    axes.set_xlim(0, left[-1] + 1)
    axes.set_ylim(rows, 0)
    lower = [task.name for task, m in zip(tasks, metrics, strict=True) if m.lower_is_better]
    shaded, handles = shades(values, lower), {}
    for task, metric, x in zip(tasks, metrics, left, strict=True):
        column = values[task.name]
        best = metric.best(column.dropna()) if column.count() > 1 else np.nan
        for y, (method, value) in enumerate(zip(study.methods, column, strict=True)):
            if not np.isnan(value):
                colour = to_rgba(mpl.colormaps[_MAP](shaded[task.name].iloc[y]))
                digits = _DIGITS.get(task.metrics[0], metric.decimals(value))
                text = f"{value:.{digits}f}"
                _cell(axes, (x, y), text, colour, is_best=value == best)
            elif method in study.methods_of(task.type):
                axes.add_patch(Rectangle((x, y), 1, 1, linewidth=0.0, **_MISSING))
                axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="white", linewidth=1))
                handles[0] = Patch(**_MISSING, label="missing run")
            else:
                axes.text(x + 0.5, y + 0.5, "–", ha="center", va="center", color="#999999")
                label = "–: no network for the task"
                handles[1] = Patch(facecolor="#FFFFFF", edgecolor="#BBBBBB", label=label)
    axes.set_xticks([x + 0.5 for x in left], list(map(_header, tasks)), fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks([i + 0.5 for i in range(rows)], [study.title_of(m) for m in study.methods])
    axes.tick_params(length=0)
    for name, method in zip(axes.get_yticklabels(), study.methods, strict=True):
        name.set(fontsize=9, fontweight="bold" if method == REFERENCE else "normal")
    scale = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _MAP), ax=axes, orientation="horizontal", fraction=0.045,
        pad=0.03, aspect=40, shrink=0.5,
    )  # fmt: skip
    scale.set_ticks([0, 1], labels=["worst of the task", "best of the task"])
    scale.ax.tick_params(length=0)
    if handles:
        shown = [handles[key] for key in sorted(handles)]
        figure.legend(handles=shown, loc="outside lower center", ncols=2)
    return figure


def _cell(
    axes: Axes, corner: tuple[float, int], text: str, colour: tuple[float, ...], *, is_best: bool
) -> None:
    """A coloured number, black or white, whichever contrasts more (WCAG's relative luminance)."""
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=1.0))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    axes.text(
        corner[0] + 0.5, corner[1] + 0.5, text, ha="center", va="center", fontsize=9,
        color="black" if luminance > 0.179 else "white",
        fontweight="bold" if is_best else "normal",
    )  # fmt: skip


def _header(task: ReportTask) -> str:
    lines: list[str] = []
    for word in task.title.split():
        if lines and len(lines[-1]) + len(word) < 12:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join([*lines, printed(task.metrics[0], task.unit).label])
