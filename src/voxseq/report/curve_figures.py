"""Figures of the training curves and of the score against the share of labels."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from voxseq.report.curves import mean_over_seeds
from voxseq.report.study import FACTORS, METRIC_TITLES, UNITS, Study, Task, series_title
from voxseq.report.style import MISSING_FACE, MISSING_TEXT, Look, new_figure

_COLUMNS = 4
_PANEL = (2.5, 1.95)
_TRAIN_COLOUR = "#999999"
_VAL_COLOUR = "#0072B2"


def curves_page(
    study: Study,
    pretrain: pd.DataFrame,
    validation: pd.DataFrame,
    look: Look,
    *,
    stage: str = "finetune",
) -> Figure | None:
    """One page of curves of one stage; ``None`` where the stage plans no run.

    Args:
        study: what was planned; a planned run without data gets a panel that says "missing".
        pretrain: frame of ``pretraining_curves``; shown on the pages "finetune" (the methods)
            and "ablation" (the variants).
        validation: frame of ``validation_curves``.
        look: colours of the methods.
        stage: "finetune", "label_ratio" or "ablation".
    """
    wanted = {"finetune": False, "ablation": True}
    pretrained = [
        run for run in study.pretrain_runs if stage in wanted and bool(run.variant) == wanted[stage]
    ]
    panels = list(dict.fromkeys((run.task, run.ratio) for run in study.runs if run.stage == stage))
    used = {(run.method, run.variant) for run in study.runs if run.stage == stage}
    order = [(m, v) for m in study.methods for v in ("", *study.ablation)]
    series = [pair for pair in order if pair in used]
    if not panels and not pretrained:
        return None
    heights = [math.ceil(len(part) / _COLUMNS) for part in (pretrained, panels)]
    figure = new_figure(_COLUMNS * _PANEL[0], sum(h * _PANEL[1] + 0.45 for h in heights if h) + 0.3)
    parts = figure.subfigures(
        sum(1 for h in heights if h),
        1,
        height_ratios=[h * _PANEL[1] + 0.45 for h in heights if h],
        squeeze=False,
    )[:, 0]
    index = 0
    if pretrained:
        parts[index].suptitle("Pre-training loss", fontsize=10, fontweight="bold")
        for axes, run in zip(_grid(parts[index], len(pretrained)), pretrained, strict=True):
            title = series_title(study, run.method, run.variant)
            _pretrain_panel(axes, pretrain[pretrain["run"] == run.id], title)
        _loss_legend(parts[index])
        index += 1
    if panels:
        heading = "Validation score during fine-tuning (thin: seeds, thick: mean)"
        parts[index].suptitle(heading, fontsize=10, fontweight="bold")
        chosen = validation[validation["stage"] == stage]
        for axes, (task, ratio) in zip(_grid(parts[index], len(panels)), panels, strict=True):
            near = (chosen["ratio"].astype(float) - ratio).abs() < 1e-9
            data = chosen[(chosen["task"] == task) & near]
            _score_panel(axes, data, study.tasks[task], ratio, _names(series, look, study))
        _series_legend(parts[index], _names(series, look, study))
    return figure


def label_ratio_figure(study: Study, curve: pd.DataFrame, look: Look) -> Figure | None:
    """Score against the share of labels, one panel a task and metric; mean ± sd over seeds."""
    panels = [(study.tasks[t], m) for t in study.ratio_tasks for m in study.tasks[t].metrics]
    if not panels:
        return None
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(3.3 * columns + 0.2, 2.9 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False)
    flat = [axes for line in grid for axes in line]
    for axes in flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (task, metric) in zip(flat, panels, strict=False):
        data = curve[(curve["task"] == task.name) & (curve["metric"] == metric)]
        _ratio_panel(axes, data, study, task=task, metric=metric, look=look)
    present = list(dict.fromkeys(curve["method"]))
    handles = [
        Line2D(
            [], [],
            color=look.colour(m), marker=look.marker(m), linestyle=look.dashes(m), markersize=4,
            linewidth=look.width(m), label=series_title(study, m, ""),
        )
        for m in study.methods
        if m in present
    ]  # fmt: skip
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))
    return figure


def _grid(figure: Figure, count: int) -> list[Axes]:
    rows = math.ceil(count / _COLUMNS)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    flat: list[Axes] = [axes for line in grid for axes in line]
    for axes in flat[count:]:
        axes.set_visible(False)
    return flat[:count]


def _names(
    series: list[tuple[str, str]], look: Look, study: Study
) -> dict[tuple[str, str], tuple[str, Look, str]]:
    """(method, variant) → key of its look, the look, its title."""
    variants = [v for _, v in series if v]
    own = Look(variants) if variants else look
    return {(m, v): (v or m, own if v else look, series_title(study, m, v)) for m, v in series}


def _pretrain_panel(axes: Axes, data: pd.DataFrame, title: str) -> None:
    axes.set_title(title)
    if data.empty:
        _missing(axes)
        return
    for split, colour, width in (("train", _TRAIN_COLOUR, 0.9), ("val", _VAL_COLOUR, 1.8)):
        part = data[data["split"] == split]
        marker = "o" if split == "val" and len(part) < 15 else None
        axes.plot(
            part["step"],
            part["value"],
            color=colour,
            linewidth=width,
            marker=marker,
            markersize=2.5,
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    _ticks(axes)


def _score_panel(
    axes: Axes,
    data: pd.DataFrame,
    task: Task,
    ratio: float,
    names: dict[tuple[str, str], tuple[str, Look, str]],
) -> None:
    axes.set_title(task.title if ratio == 1.0 else f"{task.title}, {100 * ratio:g} % of labels")
    if data.empty:
        _missing(axes)
        return
    name = str(data["name"].iloc[0])
    factor = FACTORS.get(name, 1.0)
    mean = mean_over_seeds(data)
    for (method, variant), (key, look, _) in names.items():
        mine = data[(data["method"] == method) & (data["variant"] == variant)]
        thick = mean[(mean["method"] == method) & (mean["variant"] == variant)]
        colour = look.colour(key)
        for _, seed in mine.groupby("seed"):
            axes.plot(seed["step"], factor * seed["value"], color=colour, linewidth=0.6, alpha=0.35)
        axes.plot(
            thick["step"],
            factor * thick["value"],
            color=colour,
            linestyle=look.dashes(key),
            linewidth=look.width(key),
        )
    axes.set_xlabel("step")
    axes.set_ylabel(_score_label(name))
    _ticks(axes)


def _ratio_panel(
    axes: Axes, data: pd.DataFrame, study: Study, *, task: Task, metric: str, look: Look
) -> None:
    axes.set_title(task.title)
    if data.empty:
        _missing(axes)
        return
    present = [m for m in study.methods if m in set(data["method"])]
    for position, method in enumerate(present):
        part = data[data["method"] == method].sort_values("ratio")
        # Shifted a little, so that the error bars of the methods stay apart.
        shift = 1.025 ** (position - (len(present) - 1) / 2)
        axes.errorbar(
            100 * part["ratio"].astype(float) * shift,
            part["mean"].astype(float),
            yerr=part["sd"].astype(float).fillna(0.0),
            color=look.colour(method),
            marker=look.marker(method),
            linestyle=look.dashes(method),
            linewidth=look.width(method),
            markersize=4,
            capsize=2,
            elinewidth=0.8,
        )
    ratios = sorted({100 * ratio for ratio in (1.0, *study.ratios)})
    axes.set_xscale("log")
    axes.set_xticks(ratios)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("training labels used (%)")
    axes.set_ylabel(f"test {_score_label(metric)}, mean ± sd over seeds")


def _score_label(metric: str) -> str:
    title = METRIC_TITLES.get(metric, metric.replace("_", " "))
    unit = UNITS.get(metric, "")
    return f"{title} ({unit})" if unit else title


def _ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _loss_legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=_TRAIN_COLOUR, linewidth=0.9, label="training"),
        Line2D([], [], color=_VAL_COLOUR, linewidth=1.8, label="validation"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _series_legend(figure: Figure, names: dict[tuple[str, str], tuple[str, Look, str]]) -> None:
    handles = [
        Line2D(
            [], [],
            color=look.colour(key), linestyle=look.dashes(key), linewidth=look.width(key),
            label=title,
        )
        for key, look, title in names.values()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))


def _missing(axes: Axes) -> None:
    axes.set_facecolor(MISSING_FACE)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.text(
        0.5, 0.5, "missing", transform=axes.transAxes, ha="center", va="center",
        fontsize=9, color=MISSING_TEXT,
    )  # fmt: skip
