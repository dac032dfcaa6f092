"""Heat map of the scores: methods by tasks, coloured within each task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from voxseq.report.figures.style import MISSING_FACE, bare, new_figure
from voxseq.report.results import select
from voxseq.report.study import FACTORS, METRIC_TITLES, REFERENCE, UNITS, Study, title_of
from voxseq.report.tables.layout import ordered_tasks

#: The metric of each type of task that the map shows.
METRIC: Mapping[str, str] = {"segmentation": "dice", "classification": "auc"}
DIGITS: Mapping[str, int] = {"dice": 1, "auc": 3}
#: Dark to light blue-yellow, made for colour-blind readers.
_MAP = "cividis"
_CELL = (0.98, 0.36)
_BLOCK_GAP = 0.25
_ABSENT = "#FFFFFF"
_HATCH = "////"


@dataclass(frozen=True)
class HeatColumn:
    """One column: ``values`` are in the printed unit, one a method; None: missing.

    Attributes:
        applies: whether the method of each row has a network for the task.
    """

    title: str
    metric: str
    values: tuple[float | None, ...]
    applies: tuple[bool, ...]

    def shades(self) -> tuple[float | None, ...]:
        """Each value between the column's worst (0) and best (1); 0.5 where all are equal."""
        known = [v for v in self.values if v is not None]
        if not known:
            return self.values
        low, high = min(known), max(known)
        span = high - low
        return tuple(None if v is None else (v - low) / span if span else 0.5 for v in self.values)


def heat_columns(study: Study, means: pd.DataFrame) -> tuple[HeatColumn, ...]:
    """Mean over seeds of every method on every task: Dice in %, AUC 0..1.

    Args:
        study: gives the rows (its methods) and the columns (its tasks, in the tables' order).
        means: frame of ``run_means``.
    """
    full = means[means["stage"] == "finetune"]
    columns = []
    for kind, metric in METRIC.items():
        able = set(study.methods_of(kind))
        for task in ordered_tasks(study, kind):
            values = [
                select(full, task=task.name, metric=metric, method=m)["value"].astype(float).mean()
                for m in study.methods
            ]
            columns.append(
                HeatColumn(
                    task.title,
                    metric,
                    tuple(None if math.isnan(v) else FACTORS[metric] * v for v in values),
                    tuple(m in able for m in study.methods),
                )
            )
    return tuple(columns)


def heatmap_figure(study: Study, means: pd.DataFrame) -> Figure | None:
    """Draw the map; ``None`` where the study has no task or no method."""
    columns = heat_columns(study, means)
    rows = len(study.methods)
    if not columns or not rows:
        return None
    left = _positions(columns)
    width, height = (left[-1] + 1) * _CELL[0], rows * _CELL[1]
    figure = new_figure(width + 2.2, height + 1.35)
    axes = figure.subplots()
    bare(axes)
    axes.set_xlim(0, left[-1] + 1)
    axes.set_ylim(rows, 0)
    for column, x in zip(columns, left, strict=True):
        _column(axes, column, x)
    axes.set_xticks(
        [x + 0.5 for x in left], [_header(column) for column in columns], fontsize=8
    )  # fmt: skip
    axes.xaxis.tick_top()
    axes.set_yticks([i + 0.5 for i in range(rows)], [title_of(m) for m in study.methods])
    axes.tick_params(length=0)
    for label, method in zip(axes.get_yticklabels(), study.methods, strict=True):
        label.set(fontsize=9, fontweight="bold" if method == REFERENCE else "normal")
    _keys(figure, axes, columns)
    return figure


def _positions(columns: Sequence[HeatColumn]) -> list[float]:
    """Left edge of each column; a gap parts the two types of task."""
    left = [0.0]
    for before, after in pairwise(columns):
        left.append(left[-1] + 1 + (_BLOCK_GAP if before.metric != after.metric else 0.0))
    return left


def _column(axes: Axes, column: HeatColumn, x: float) -> None:
    shades = column.shades()
    best = max((v for v in column.values if v is not None), default=None)
    several = sum(v is not None for v in column.values) > 1
    for y, (value, shade) in enumerate(zip(column.values, shades, strict=True)):
        if not column.applies[y] and value is None:
            axes.text(x + 0.5, y + 0.5, "–", ha="center", va="center", color="#999999")
            continue
        if value is None or shade is None:
            axes.add_patch(
                Rectangle((x, y), 1, 1, facecolor=MISSING_FACE, edgecolor="#AAAAAA", linewidth=0.0,
                          hatch=_HATCH)
            )  # fmt: skip
            axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="white", linewidth=1.0))
            continue
        colour = mpl.colormaps[_MAP](shade)
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.0))
        axes.text(
            x + 0.5, y + 0.5, f"{value:.{DIGITS[column.metric]}f}", ha="center", va="center",
            fontsize=9, color=_ink(colour),
            fontweight="bold" if several and value == best else "normal",
        )  # fmt: skip


def _ink(colour: tuple[float, float, float, float]) -> str:
    """Black or white, whichever contrasts more with the colour (WCAG's relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "black" if luminance > 0.179 else "white"


def _header(column: HeatColumn) -> str:
    unit = UNITS[column.metric]
    score = METRIC_TITLES[column.metric] + (f" ({unit})" if unit else "")
    words = column.title.split()
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) < 12:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join([*lines, score])


def _keys(figure: Figure, axes: Axes, columns: Sequence[HeatColumn]) -> None:
    scale = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _MAP), ax=axes, orientation="horizontal", fraction=0.045,
        pad=0.03, aspect=40, shrink=0.5,
    )  # fmt: skip
    scale.set_ticks([0, 1], labels=["worst of the task", "best of the task"])
    scale.ax.tick_params(length=0)
    pairs = [pair for c in columns for pair in zip(c.values, c.applies, strict=True)]
    handles = []
    if any(v is None and a for v, a in pairs):
        handles.append(
            Patch(facecolor=MISSING_FACE, edgecolor="#AAAAAA", hatch=_HATCH, label="missing run")
        )
    if any(v is None and not a for v, a in pairs):
        handles.append(
            Patch(facecolor=_ABSENT, edgecolor="#BBBBBB", label="–: no network for the task")
        )
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
