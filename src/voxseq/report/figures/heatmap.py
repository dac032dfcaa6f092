"""Heat map of the scores: methods by tasks, coloured by the difference from the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from voxseq.config.report_run import MAIN_TABLES, ReportRun, ReportTask
from voxseq.report.figures.style import MISSING_FACE, bare, new_figure
from voxseq.report.metrics import PRINTED, Metric, printed
from voxseq.report.results import main_scores
from voxseq.report.tables.layout import all_tasks

_DIGITS: Mapping[str, int] = {"dice": 1, "auc": 3}
#: Orange is worse than the reference, blue better: told apart whatever the kind of colour vision.
_WORSE, _BETTER = "#D55E00", "#2C7FB8"
#: Units from the reference at which the colour is full.
FULL = 4.0
_CELL = (0.98, 0.36)
_BLOCK_GAP = 0.25
_MISSING: dict[str, Any] = {"facecolor": MISSING_FACE, "edgecolor": "#AAAAAA", "hatch": "////"}
_FRAME: dict[str, Any] = {"edgecolor": "#CCCCCC", "linewidth": 0.8}


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


def units(study: ReportRun, differences: pd.DataFrame) -> pd.DataFrame:
    """How much better each method is than the reference, in half-widths of the 95 % interval.

    Args:
        study: gives rows and columns.
        differences: frame of ``read_differences``.

    Returns:
        Methods × tasks: above 0 where the method is better; 0 where the interval contains zero or
        has no width; NaN where the method is not compared.
    """
    tasks = all_tasks(study)
    found = pd.DataFrame(np.nan, list(study.methods), [task.name for task in tasks])
    own = differences[(differences["variant"] == "") & (differences["stage"] == "finetune")]
    for task in tasks:
        rows = own[
            (own["table"] == MAIN_TABLES[task.type])
            & (own["task"] == task.name)
            & (own["metric"] == task.metrics[0])
        ]
        sign = 1.0 if PRINTED[task.metrics[0]].lower_is_better else -1.0
        for row in rows.to_dict("records"):
            half = (row["high"] - row["low"]) / 2
            is_clear = half > 0 and (row["low"] > 0 or row["high"] < 0)
            value = sign * row["difference"] / half if is_clear else 0.0
            found.loc[row["other"], task.name] = value if np.isfinite(half) else np.nan
    return found


def colours() -> LinearSegmentedColormap:
    """From ``-FULL`` (worse) over white to ``FULL`` (better) units."""
    return LinearSegmentedColormap.from_list("difference", [_WORSE, "white", _BETTER])


def heatmap_figure(
    study: ReportRun, means: pd.DataFrame, differences: pd.DataFrame
) -> Figure | None:
    """Draw the map; ``None`` where the study has no task or no method."""
    values, tasks, rows = heat_values(study, means), all_tasks(study), len(study.methods)
    if values.empty:
        return None
    # A gap parts the types of task.
    kinds = list(dict.fromkeys(task.type for task in tasks))
    left = [i + _BLOCK_GAP * kinds.index(task.type) for i, task in enumerate(tasks)]
    width, height = (left[-1] + 1) * _CELL[0], rows * _CELL[1]
    figure = new_figure(max(width + 1.6, 5.4), height + 1.5)
    axes = figure.subplots()
    bare(axes)
    # A little more than the cells, so that their frames are whole.
    axes.set_xlim(-0.03, left[-1] + 1.03)
    axes.set_ylim(rows + 0.05, -0.05)
    shares = units(study, differences)
    handles: dict[int, Patch] = {}
    for task, x in zip(tasks, left, strict=True):
        handles |= _column(axes, study, task, x, values[task.name], shares[task.name])
    axes.set_xticks([x + 0.5 for x in left], list(map(_header, tasks)), fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks([i + 0.5 for i in range(rows)], [study.title_of(m) for m in study.methods])
    axes.tick_params(length=0)
    for name, method in zip(axes.get_yticklabels(), study.methods, strict=True):
        name.set(fontsize=9, fontweight="bold" if method == study.reference else "normal")
    if shares.notna().to_numpy().any():
        _scale(figure, axes, study.title_of(study.reference or ""))
    if handles:
        shown = [handles[key] for key in sorted(handles)]
        figure.legend(handles=shown, loc="outside lower center", ncols=2)
    return figure


def _column(
    axes: Axes, study: ReportRun, task: ReportTask, x: float, values: pd.Series, shares: pd.Series
) -> dict[int, Patch]:
    """The cells of one task; returns what the legend has to explain."""
    metric = printed(task.metrics[0], task.unit)
    texts = {m: _text(task, metric, value) for m, value in values.dropna().items()}
    best = texts[values.eq(metric.best(values.dropna())).idxmax()] if len(texts) > 1 else ""
    handles = {}
    for y, method in enumerate(study.methods):
        if method in texts:
            # Means that are printed alike are alike.
            _cell(axes, (x, y), texts[method], shares[method], is_best=texts[method] == best)
        elif method in study.methods_of(task.type):
            axes.add_patch(Rectangle((x, y), 1, 1, linewidth=0.0, **_MISSING))
            axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="white", linewidth=1))
            handles[0] = Patch(**_MISSING, label="missing run")
        else:
            axes.text(x + 0.5, y + 0.5, "–", ha="center", va="center", color="#707070")
            label = "–: no network for the task"
            handles[1] = Patch(facecolor="#FFFFFF", edgecolor="#BBBBBB", label=label)
    return handles


def _text(task: ReportTask, metric: Metric, value: float) -> str:
    return f"{value:.{_DIGITS.get(task.metrics[0], metric.decimals(value))}f}"


def _cell(axes: Axes, corner: tuple[float, int], text: str, share: float, *, is_best: bool) -> None:
    """A coloured number, black or white, whichever contrasts more (WCAG's relative luminance)."""
    place = 0.5 if np.isnan(share) else 0.5 + 0.5 * float(np.clip(share / FULL, -1, 1))
    colour = colours()(place)
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, **_FRAME))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    axes.text(
        corner[0] + 0.5, corner[1] + 0.5, text, ha="center", va="center", fontsize=9,
        color="black" if luminance > 0.179 else "white",
        fontweight="bold" if is_best else "normal",
    )  # fmt: skip


def _scale(figure: Figure, axes: Axes, reference: str) -> None:
    """The scale below the map, white in its middle as far as intervals contain zero."""
    bar = figure.colorbar(
        ScalarMappable(Normalize(-FULL, FULL), colours()), ax=axes, orientation="horizontal",
        fraction=0.045, pad=0.03, aspect=34, shrink=0.62,
    )  # fmt: skip
    bar.ax.axvspan(-1, 1, color="white")
    bar.set_ticks([-FULL, -1, 0, 1, FULL])
    bar.ax.set_xticklabels([f"≤ −{FULL:g}\nworse", "−1", "interval\ncontains 0", "1",
                            f"≥ {FULL:g}\nbetter"])  # fmt: skip
    bar.ax.tick_params(length=0, labelsize=7.5)
    bar.set_label(f"difference from {reference} / half of its 95 % interval", fontsize=8)


def _header(task: ReportTask) -> str:
    lines: list[str] = []
    for word in task.title.split():
        if lines and len(lines[-1]) + len(word) < 12:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join([*lines, printed(task.metrics[0], task.unit).label])
