"""Figures of the training curves and of the score against the share of labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from voxseq.config.registry import ENCODER_NETWORKS
from voxseq.config.report_run import PretrainedRun, ReportRun, ReportTask
from voxseq.plan.outputs import is_trained
from voxseq.report.figures.style import FEW, Palette, new_figure, nothing, panels
from voxseq.report.metrics import PRINTED, Metric, printed
from voxseq.report.tables.curves import mean_over_seeds, smooth

_COLUMNS = 4
#: Columns that titles and legends need.
_FEWEST = 2
_PANEL = (2.5, 1.95)
#: Letters of a title that a panel has room for.
_TITLE = 30
_RATIO_PANEL = (4.1, 3.9)
_RATIO_COLUMNS = 3
#: Height in inches of a line of a legend.
_LINE = 0.17
#: Split → name in the legend and line of a loss.
_LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "train": ("training, smoothed", {"color": "#777777", "linewidth": 1.2}),
    "val": ("validation", {"color": "#0072B2", "linewidth": 1.8}),
}
#: Where a further stage of a training begins.
_STAGE: dict[str, Any] = {"color": "#A84300", "linewidth": 1.0, "linestyle": (0.0, (3, 2))}
_GREY = "#BBBBBB"


@dataclass(frozen=True)
class _Series:
    """One line of a panel: a method or a variant of one."""

    method: str
    variant: str
    title: str
    line: dict[str, Any]
    order: float


def curves_page(
    study: ReportRun,
    pretrain: pd.DataFrame,
    validation: pd.DataFrame,
    palette: Palette,
    *,
    stage: str = "finetune",
) -> Figure | None:
    """One page of curves of one stage; ``None`` where the stage plans no run.

    A panel for which there are no data is left out; without any the page says "missing".

    Args:
        study: what was planned.
        pretrain: frame of ``pretraining_curves``; shown on the pages "finetune" (the methods),
            "ablation" (its variants) and "beyond" (all others).
        validation: frame of ``validation_curves``.
        palette: colours of the methods.
        stage: "finetune", "label_ratio", "ablation" or "beyond".
    """
    logged = set(pretrain["run"])
    pretrained: dict[tuple[str, str], list[PretrainedRun]] = {}
    planned = [run for run in study.pretrain_runs if stage == _page_of(study, run)]
    for run in (run for run in planned if run.id in logged):
        pretrained.setdefault((run.method, run.variant), []).append(run)
    trained = [
        one
        for one in study.runs
        if one.stage == stage and is_trained(stage, one.variant, study.tasks[one.task].type)
    ]
    scored = list(dict.fromkeys((one.task, one.ratio) for one in trained))
    if not scored and not planned:
        return None
    chosen = validation[validation["stage"] == stage]
    known = set(zip(chosen["task"], chosen["ratio"].astype(float).round(9), strict=True))
    scored = [(task, ratio) for task, ratio in scored if (task, round(ratio, 9)) in known]
    if not scored and not pretrained:
        return nothing()
    columns = max(_FEWEST, min(_COLUMNS, max(len(pretrained), len(scored))))
    heights = [math.ceil(len(part) / columns) for part in (pretrained, scored)]
    ran = set(zip(chosen["method"], chosen["variant"], strict=True))
    series = [s for s in _series(study, stage, palette) if (s.method, s.variant) in ran]
    lines = math.ceil(len(series) / _titles(series, columns))
    inches = [h * _PANEL[1] + 0.55 for h in heights if h]
    inches[-1] += _LINE * lines
    figure = new_figure(columns * _PANEL[0], sum(inches) + 0.3)
    parts = list(figure.subfigures(len(inches), 1, height_ratios=inches, squeeze=False)[:, 0])
    if pretrained:
        _loss_part(parts.pop(0), study, pretrained, pretrain, columns)
    if scored:
        _score_part(parts.pop(0), study, scored, chosen, series, columns)
    return figure


def label_ratio_figure(study: ReportRun, curve: pd.DataFrame, palette: Palette) -> Figure | None:
    """Score against the share of labels, one panel per task and metric that has data.

    In colour the reference, the same network from random initialisation and the best of the other
    methods, with sd over seeds; grey lines are the means of all others.

    Args:
        study: gives tasks and methods.
        curve: frame of ``label_ratio_curve``.
        palette: colours of the methods.
    """
    planned = [(study.tasks[t], m) for t in study.ratio_tasks for m in study.tasks[t].metrics]
    if not planned:
        return None
    parts = {(t.name, m): curve[(curve["task"] == t.name) & (curve["metric"] == m)]
             for t, m in planned}  # fmt: skip
    shown = [(task, metric) for task, metric in planned if len(parts[task.name, metric])]
    if not shown:
        return nothing()
    columns = min(len(shown), _RATIO_COLUMNS)
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(_RATIO_PANEL[0] * columns + 0.2, _RATIO_PANEL[1] * rows + 0.4)
    for axes, (task, metric) in zip(panels(figure, len(shown), columns), shown, strict=True):
        axes.set_title(task.title)
        _ratio_panel(axes, parts[task.name, metric], study, task, metric, palette)
    return figure


def _page_of(study: ReportRun, run: PretrainedRun) -> str:
    """The stage on whose page a pre-training is."""
    if run.stage in ("ablation", "beyond"):
        return run.stage
    return "ablation" if run.variant in study.ablation else "finetune"


def _series(study: ReportRun, stage: str, palette: Palette) -> list[_Series]:
    """The methods and variants that a stage plans, in the order of its table."""
    place = {name: i for i, name in enumerate(study.methods)}
    variants = {name: i for i, name in enumerate(study.ablation)}
    rows = {row.series: i for i, row in enumerate(study.beyond)} if stage == "beyond" else {}

    def order(pair: tuple[str, str]) -> tuple[int, int, int]:
        method, variant = pair
        return rows.get(pair, 0), place.get(method, len(place)), variants.get(variant, -1)

    used = dict.fromkeys(run.series for run in study.runs if run.stage == stage)
    pairs = sorted(used, key=order)
    keys = {pair: "/".join(filter(None, pair)) for pair in pairs}
    own = Palette([keys[pair] for pair in pairs if pair[1]])
    series = []
    for pair in pairs:
        colours = own if pair[1] else palette
        line, place_of_line = colours.line(keys[pair]), colours.order(keys[pair])
        series.append(_Series(*pair, study.series_title(*pair), line, place_of_line))
    return series


def _loss_part(
    figure: FigureBase,
    study: ReportRun,
    pretrained: Mapping[tuple[str, str], Sequence[PretrainedRun]],
    losses: pd.DataFrame,
    columns: int,
) -> None:
    """The losses of each method or variant in a panel of its own, with a line for each seed.

    Args:
        figure: to draw in.
        study: for titles.
        pretrained: method and variant → the runs of all seeds.
        losses: frame of ``pretraining_curves``.
        columns: of the page.
    """
    figure.suptitle("Pre-training loss", fontsize=10, fontweight="bold")
    places = panels(figure, len(pretrained), _grid(len(pretrained), columns))
    for axes, (series, runs) in zip(places, pretrained.items(), strict=True):
        axes.set_title("\n".join(wrap(study.series_title(*series), _TITLE)))
        for run in runs:
            loss_panel(axes, losses[losses["run"] == run.id], run.stage_starts)
    lines = [Line2D([], [], label=title, **line) for title, line in _LOSSES.values()]
    if any(run.stage_starts for runs in pretrained.values() for run in runs):
        lines.append(Line2D([], [], label="next stage of the training begins", **_STAGE))
    _legend(figure, lines, len(lines))


def loss_panel(axes: Axes, data: pd.DataFrame, stage_starts: tuple[int, ...]) -> None:
    """Losses of one pre-training, smoothed within each of its stages."""
    for split, (_, line) in _LOSSES.items():
        part = data[data["split"] == split]
        if split == "val":
            marker = "o" if len(part) < 15 else None
            axes.plot(part["step"], part["value"], marker=marker, markersize=2.5, **line)
            continue
        axes.plot(part["step"], part["value"], color=line["color"], linewidth=0.6, alpha=0.35)
        stage = np.searchsorted(stage_starts, part["step"], side="right")
        for _, piece in part.groupby(stage):
            axes.plot(piece["step"], smooth(piece["value"]), **line)
    for start in stage_starts:
        axes.axvline(start, **_STAGE)
    _axes_of_steps(axes, "loss")


def _grid(count: int, columns: int) -> int:
    """Columns of the panels of a part: a single one has a narrow page to itself."""
    return min(count, columns) if columns == _FEWEST else columns


def _score_part(
    figure: FigureBase,
    study: ReportRun,
    scored: list[tuple[str, float]],
    scores: pd.DataFrame,
    series: list[_Series],
    columns: int,
) -> None:
    """The validation scores of each task and share of the labels in a panel of its own."""
    lines = "thin: seeds, thick: mean" if len(series) <= FEW else "mean over seeds"
    title = f"Validation score during fine-tuning ({lines})"
    figure.suptitle(title, fontsize=10, fontweight="bold")
    grid = panels(figure, len(scored), _grid(len(scored), columns))
    for axes, (name, ratio) in zip(grid, scored, strict=True):
        near = (scores["ratio"].astype(float) - ratio).abs() < 1e-9
        _score_panel(
            axes, scores[(scores["task"] == name) & near], study.tasks[name], ratio, series
        )
    handles = [Line2D([], [], label=item.title, **item.line) for item in series]
    _legend(figure, handles, _titles(series, columns), handlelength=3.0)


def _titles(series: list[_Series], columns: int) -> int:
    """Titles that fit beside each other in the legend of a page with that many columns."""
    longest = max((len(item.title) for item in series), default=0)
    titles = 6 if longest <= 14 else 4 if longest <= 28 else 3
    return max(1, titles * columns // _COLUMNS)


def _score_panel(
    axes: Axes, data: pd.DataFrame, task: ReportTask, ratio: float, series: list[_Series]
) -> None:
    axes.set_title(task.title if ratio == 1.0 else f"{task.title}, {100 * ratio:g} % of labels")
    name = str(data["name"].iloc[0])
    known = name in PRINTED
    metric = printed(name, task.unit) if known else Metric(name.replace("_", " "))
    means = dict(list(mean_over_seeds(data).groupby(["method", "variant"])))
    for item in series:
        mean = means.get((item.method, item.variant))
        if mean is None:
            continue
        # With more series than these, the single seeds are left out.
        if len(series) <= FEW:
            mine = data[(data["method"] == item.method) & (data["variant"] == item.variant)]
            thin = {"color": item.line["color"], "linewidth": 0.6, "alpha": 0.35}
            for _, seed in mine.groupby("seed"):
                axes.plot(seed["step"], metric.factor * seed["value"], **thin)
        axes.plot(mean["step"], metric.factor * mean["value"], zorder=item.order, **item.line)
    _axes_of_steps(axes, metric.label)


def _ratio_panel(
    axes: Axes,
    data: pd.DataFrame,
    study: ReportRun,
    task: ReportTask,
    name: str,
    palette: Palette,
) -> None:
    metric = printed(name, task.unit)
    curves = {str(m): part.sort_values("ratio") for m, part in data.groupby("method")}
    titled = _chosen(study, task, metric, curves)
    for method in (m for m in study.methods if m in curves and m not in titled):
        part = curves[method]
        axes.plot(_percent(part), part["mean"].astype(float), color=_GREY, linewidth=1.0)
    handles: list[Any] = []
    for position, (method, title) in enumerate(titled.items()):
        part = curves[method]
        # Shifted a little, so that the error bars stay apart.
        x = _percent(part) * 1.02 ** (position - (len(titled) - 1) / 2)
        drawn = axes.errorbar(
            x, part["mean"].astype(float), yerr=part["sd"].astype(float).fillna(0.0),
            marker=palette.marker(method), markersize=4.5, capsize=2, elinewidth=1.0,
            zorder=palette.order(method), label=title, **palette.line(method),
        )  # fmt: skip
        handles.insert(0, drawn)
    if len(curves) > len(titled):
        handles.append(Line2D([], [], color=_GREY, linewidth=1.0, label="the others"))
    axes.set_xscale("log")
    axes.set_xticks(sorted(100 * ratio for ratio in study.ratios))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("training labels used (%)")
    has_spread = any(curves[method]["sd"].notna().any() for method in titled)
    axes.set_ylabel(f"test {metric.label}, mean{' ± sd' if has_spread else ''} over seeds")
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.14), handlelength=3.0)


def _chosen(
    study: ReportRun, task: ReportTask, metric: Metric, curves: Mapping[str, pd.DataFrame]
) -> dict[str, str]:
    """The methods in colour, each with its words in the legend; the reference is drawn last."""
    scratch = ENCODER_NETWORKS[task.type]
    others = [m for m in curves if m not in (study.reference, scratch)]
    means = {m: float(curves[m]["mean"].astype(float).mean()) for m in others}
    titled = {}
    if means:
        value = metric.best(means.values())
        best = next(m for m in study.methods if means.get(m) == value)
        titled[best] = f"{study.title_of(best)} (best of the others)"
    if scratch in curves and scratch != study.reference:
        titled[scratch] = f"{study.title_of(scratch)} (random initialisation)"
    if study.reference is not None and study.reference in curves:
        titled[study.reference] = study.title_of(study.reference)
    return titled


def _percent(part: pd.DataFrame) -> pd.Series[float]:
    return 100 * part["ratio"].astype(float)


def _axes_of_steps(axes: Axes, label: str) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _legend(figure: FigureBase, lines: list[Line2D], columns: int, **options: float) -> None:
    if lines:
        count = min(len(lines), columns)
        figure.legend(handles=lines, loc="outside lower center", ncols=count, **options)
