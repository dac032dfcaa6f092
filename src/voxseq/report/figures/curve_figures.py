"""Figures of the training curves and of the score against the share of labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from voxseq.plan.outputs import is_trained
from voxseq.report.figures.style import Look, missing, new_figure
from voxseq.report.study import (
    FACTORS,
    METRIC_TITLES,
    REFERENCE,
    UNITS,
    PretrainRun,
    Run,
    Study,
    Task,
    series_title,
)
from voxseq.report.tables.curves import mean_over_seeds

_COLUMNS = 4
_PANEL = (2.5, 1.95)
_RATIO_PANEL = (4.1, 3.3)
_RATIO_COLUMNS = 3
_TRAIN_COLOUR = "#999999"
_VAL_COLOUR = "#0072B2"
#: With more series than this, the single seeds are left out of a panel.
_FEW = 4


@dataclass(frozen=True)
class _Series:
    """One line of a panel: a method or a variant of one."""

    method: str
    variant: str
    key: str
    title: str
    look: Look


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
        pretrain: frame of ``pretraining_curves``; shown on the pages "finetune" (the methods),
            "ablation" (its variants) and "beyond" (all others).
        validation: frame of ``validation_curves``.
        look: colours of the methods.
        stage: "finetune", "label_ratio", "ablation" or "beyond".
    """
    pretrained = [run for run in study.pretrain_runs if stage == _stage_of(study, run)]
    trained = [run for run in study.runs if run.stage == stage and _is_trained(study, run)]
    panels = list(dict.fromkeys((run.task, run.ratio) for run in trained))
    series = _series(study, stage, look)
    if not panels and not pretrained:
        return None
    heights = [math.ceil(len(part) / _COLUMNS) for part in (pretrained, panels)]
    inches = [h * _PANEL[1] + 0.55 for h in heights if h]
    figure = new_figure(_COLUMNS * _PANEL[0], sum(inches) + 0.3)
    parts = list(figure.subfigures(len(inches), 1, height_ratios=inches, squeeze=False)[:, 0])
    if pretrained:
        part = parts.pop(0)
        part.suptitle("Pre-training loss", fontsize=10, fontweight="bold")
        for axes, run in zip(_grid(part, len(pretrained)), pretrained, strict=True):
            title = series_title(study, run.method, run.variant)
            _pretrain_panel(axes, pretrain[pretrain["run"] == run.id], title)
        _loss_legend(part)
    if panels:
        part = parts.pop(0)
        chosen = validation[validation["stage"] == stage]
        ran = set(zip(chosen["method"], chosen["variant"], strict=True))
        series = [s for s in series if (s.method, s.variant) in ran]
        part.suptitle(_heading(len(series)), fontsize=10, fontweight="bold")
        for axes, (task, ratio) in zip(_grid(part, len(panels)), panels, strict=True):
            near = (chosen["ratio"].astype(float) - ratio).abs() < 1e-9
            data = chosen[(chosen["task"] == task) & near]
            _score_panel(axes, data, study.tasks[task], ratio, series)
        _series_legend(part, series)
    return figure


def label_ratio_figure(study: Study, curve: pd.DataFrame, look: Look) -> Figure | None:
    """Score against the share of labels, one panel a task and metric; mean ± sd over seeds."""
    panels = [(study.tasks[t], m) for t in study.ratio_tasks for m in study.tasks[t].metrics]
    if not panels:
        return None
    columns = min(len(panels), _RATIO_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(_RATIO_PANEL[0] * columns + 0.2, _RATIO_PANEL[1] * rows + 0.8)
    grid = figure.subplots(rows, columns, squeeze=False)
    flat = [axes for line in grid for axes in line]
    for axes in flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (task, metric) in zip(flat, panels, strict=False):
        data = curve[(curve["task"] == task.name) & (curve["metric"] == metric)]
        _ratio_panel(axes, data, study, task=task, metric=metric, look=look)
    present = set(curve["method"])
    handles = [
        Line2D(
            [], [],
            color=look.colour(m), marker=look.marker(m), linestyle=look.dashes(m), markersize=5,
            linewidth=look.width(m), label=series_title(study, m, ""),
        )
        for m in study.methods
        if m in present
    ]  # fmt: skip
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(handles), 2 * columns),
            handlelength=3.5,
        )  # fmt: skip
    return figure


def _is_trained(study: Study, run: Run) -> bool:
    return is_trained(run.stage, run.variant, study.tasks[run.task].type)


def _stage_of(study: Study, run: PretrainRun) -> str:
    """The page that a pre-training belongs to; its id begins with its stage."""
    stage = run.id.split("/")[0]
    if stage in ("ablation", "beyond"):
        return stage
    return "ablation" if run.variant in study.ablation else "finetune"


def _series(study: Study, stage: str, look: Look) -> list[_Series]:
    """The methods and variants that a stage plans, in the order of its table."""
    used = dict.fromkeys((run.method, run.variant) for run in study.runs if run.stage == stage)
    place = {name: i for i, name in enumerate(study.methods)}
    variants = {name: i for i, name in enumerate(study.ablation)}
    rows = {row.series: i for i, row in enumerate(study.beyond)} if stage == "beyond" else {}

    def order(pair: tuple[str, str]) -> tuple[int, int, int]:
        method, variant = pair
        return rows.get(pair, 0), place.get(method, len(place)), variants.get(variant, -1)

    pairs = sorted(used, key=order)
    keys = {pair: "/".join(filter(None, pair)) for pair in pairs}
    own = Look([keys[pair] for pair in pairs if pair[1]])
    return [
        _Series(m, v, keys[m, v], series_title(study, m, v), own if v else look) for m, v in pairs
    ]


def _heading(count: int) -> str:
    lines = "thin: seeds, thick: mean" if count <= _FEW else "mean over seeds"
    return f"Validation score during fine-tuning ({lines})"


def _grid(figure: FigureBase, count: int) -> list[Axes]:
    rows = math.ceil(count / _COLUMNS)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    flat: list[Axes] = [axes for line in grid for axes in line]
    for axes in flat[count:]:
        axes.set_visible(False)
    return flat[:count]


def _pretrain_panel(axes: Axes, data: pd.DataFrame, title: str) -> None:
    axes.set_title(title)
    if data.empty:
        missing(axes)
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
    axes: Axes, data: pd.DataFrame, task: Task, ratio: float, series: list[_Series]
) -> None:
    axes.set_title(task.title if ratio == 1.0 else f"{task.title}, {100 * ratio:g} % of labels")
    if data.empty:
        missing(axes)
        return
    name = str(data["name"].iloc[0])
    factor = FACTORS.get(name, 1.0)
    means = dict(list(mean_over_seeds(data).groupby(["method", "variant"])))
    for item in series:
        thick = means.get((item.method, item.variant))
        if thick is None:
            continue
        colour = item.look.colour(item.key)
        if len(series) <= _FEW:
            mine = data[(data["method"] == item.method) & (data["variant"] == item.variant)]
            for _, seed in mine.groupby("seed"):
                values = factor * seed["value"]
                axes.plot(seed["step"], values, color=colour, linewidth=0.6, alpha=0.35)
        axes.plot(
            thick["step"],
            factor * thick["value"],
            color=colour,
            linestyle=item.look.dashes(item.key),
            linewidth=item.look.width(item.key),
            zorder=item.look.order(item.key),
        )
    axes.set_xlabel("step")
    axes.set_ylabel(_score_label(name))
    _ticks(axes)


def _ratio_panel(
    axes: Axes, data: pd.DataFrame, study: Study, *, task: Task, metric: str, look: Look
) -> None:
    axes.set_title(task.title)
    if data.empty:
        missing(axes)
        return
    present = [m for m in study.methods if m in set(data["method"])]
    # Shifted a little, so that the error bars of the methods stay apart.
    step = 1.025 if len(present) <= _FEW else 1.018
    for position, method in enumerate(present):
        part = data[data["method"] == method].sort_values("ratio")
        x = 100 * part["ratio"].astype(float) * step ** (position - (len(present) - 1) / 2)
        mean, sd = part["mean"].astype(float), part["sd"].astype(float).fillna(0.0)
        ours = method == REFERENCE
        lines = axes.errorbar(
            x, mean, yerr=sd, color=look.colour(method), marker=look.marker(method),
            linestyle=look.dashes(method), linewidth=look.width(method),
            markersize=5 if ours else 3.8, capsize=2 if ours else 1.5,
            elinewidth=1.2 if ours else 0.7, zorder=look.order(method),
        )  # fmt: skip
        for bar in (*lines[1], *lines[2]):
            bar.set_alpha(1.0 if ours else 0.55)
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


def _loss_legend(figure: FigureBase) -> None:
    handles = [
        Line2D([], [], color=_TRAIN_COLOUR, linewidth=0.9, label="training"),
        Line2D([], [], color=_VAL_COLOUR, linewidth=1.8, label="validation"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _series_legend(figure: FigureBase, series: list[_Series]) -> None:
    handles = [
        Line2D(
            [], [],
            color=item.look.colour(item.key), linestyle=item.look.dashes(item.key),
            linewidth=item.look.width(item.key), label=item.title,
        )
        for item in series
    ]  # fmt: skip
    if handles:
        longest = max(len(item.title) for item in series)
        columns = 6 if longest <= 14 else 4 if longest <= 28 else 3
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(handles), columns),
            handlelength=3.0,
        )  # fmt: skip
