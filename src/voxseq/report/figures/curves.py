"""Figures of the training curves and of the score against the share of labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from voxseq.config.report_run import REFERENCE, PretrainedRun, ReportRun, ReportTask
from voxseq.plan.outputs import is_trained
from voxseq.report.figures.style import FEW, Palette, missing, new_figure, panels
from voxseq.report.metrics import PRINTED, Metric, printed
from voxseq.report.tables.curves import mean_over_seeds

_COLUMNS = 4
#: Columns that titles and legends need.
_FEWEST = 2
_PANEL = (2.5, 1.95)
_RATIO_PANEL = (4.1, 3.3)
_RATIO_COLUMNS = 3
#: Split → name in the legend and line of a loss.
_LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "train": ("training", {"color": "#999999", "linewidth": 0.9}),
    "val": ("validation", {"color": "#0072B2", "linewidth": 1.8}),
}


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

    Args:
        study: what was planned; a planned run without data gets a panel that says "missing".
        pretrain: frame of ``pretraining_curves``; shown on the pages "finetune" (the methods),
            "ablation" (its variants) and "beyond" (all others).
        validation: frame of ``validation_curves``.
        palette: colours of the methods.
        stage: "finetune", "label_ratio", "ablation" or "beyond".
    """
    pretrained: dict[tuple[str, str], list[str]] = {}
    for run in study.pretrain_runs:
        if stage == _page_of(study, run):
            pretrained.setdefault((run.method, run.variant), []).append(run.id)
    trained = [
        one
        for one in study.runs
        if one.stage == stage and is_trained(stage, one.variant, study.tasks[one.task].type)
    ]
    scored = list(dict.fromkeys((one.task, one.ratio) for one in trained))
    if not scored and not pretrained:
        return None
    columns = max(_FEWEST, min(_COLUMNS, max(len(pretrained), len(scored))))
    heights = [math.ceil(len(part) / columns) for part in (pretrained, scored)]
    inches = [h * _PANEL[1] + 0.55 for h in heights if h]
    figure = new_figure(columns * _PANEL[0], sum(inches) + 0.3)
    parts = list(figure.subfigures(len(inches), 1, height_ratios=inches, squeeze=False)[:, 0])
    if pretrained:
        _loss_part(parts.pop(0), study, pretrained, pretrain, columns)
    if scored:
        chosen = validation[validation["stage"] == stage]
        _score_part(parts.pop(0), study, scored, chosen, _series(study, stage, palette), columns)
    return figure


def label_ratio_figure(study: ReportRun, curve: pd.DataFrame, palette: Palette) -> Figure | None:
    """Score against the share of labels, one panel per task and metric; mean ± sd over seeds.

    Args:
        study: gives tasks and methods.
        curve: frame of ``label_ratio_curve``.
        palette: colours of the methods.
    """
    shown = [(study.tasks[t], m) for t in study.ratio_tasks for m in study.tasks[t].metrics]
    if not shown:
        return None
    columns = min(len(shown), _RATIO_COLUMNS)
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(_RATIO_PANEL[0] * columns + 0.2, _RATIO_PANEL[1] * rows + 0.8)
    for axes, (task, metric) in zip(panels(figure, len(shown), columns), shown, strict=True):
        axes.set_title(task.title)
        data = curve[(curve["task"] == task.name) & (curve["metric"] == metric)]
        if data.empty:
            missing(axes)
        else:
            _ratio_panel(axes, data, study, printed(metric, task.unit), palette)
    present = [m for m in study.methods if m in set(curve["method"])]
    lines = [
        Line2D([], [], marker=palette.marker(m), markersize=5, label=study.series_title(m, ""),
               **palette.line(m))
        for m in present
    ]  # fmt: skip
    _legend(figure, lines, 2 * columns, handlelength=3.5)
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
    pretrained: Mapping[tuple[str, str], Sequence[str]],
    losses: pd.DataFrame,
    columns: int,
) -> None:
    """The losses of each method or variant in a panel of its own, with a line for each seed.

    Args:
        figure: to draw in.
        study: for titles.
        pretrained: method and variant → ids of the runs of all seeds.
        losses: frame of ``pretraining_curves``.
        columns: of the page.
    """
    figure.suptitle("Pre-training loss", fontsize=10, fontweight="bold")
    places = panels(figure, len(pretrained), _grid(len(pretrained), columns))
    for axes, (series, runs) in zip(places, pretrained.items(), strict=True):
        axes.set_title(study.series_title(*series))
        data = losses[losses["run"].isin(runs)]
        if data.empty:
            missing(axes)
            continue
        for (_, split), part in data.groupby(["run", "split"], sort=False):
            marker = "o" if split == "val" and len(part) < 15 else None
            line = _LOSSES[str(split)][1]
            axes.plot(part["step"], part["value"], marker=marker, markersize=2.5, **line)
        _axes_of_steps(axes, "loss")
    lines = [Line2D([], [], label=title, **line) for title, line in _LOSSES.values()]
    _legend(figure, lines, 2)


def _grid(count: int, columns: int) -> int:
    """Columns of the panels of a part: a single one has a narrow page to itself."""
    return min(count, columns) if columns == _FEWEST else columns


def _score_part(
    figure: FigureBase,
    study: ReportRun,
    scored: list[tuple[str, float]],
    scores: pd.DataFrame,
    planned: list[_Series],
    columns: int,
) -> None:
    """The validation scores of each task and share of the labels in a panel of its own."""
    ran = set(zip(scores["method"], scores["variant"], strict=True))
    series = [s for s in planned if (s.method, s.variant) in ran]
    lines = "thin: seeds, thick: mean" if len(series) <= FEW else "mean over seeds"
    title = f"Validation score during fine-tuning ({lines})"
    figure.suptitle(title, fontsize=10, fontweight="bold")
    grid = panels(figure, len(scored), _grid(len(scored), columns))
    for axes, (name, ratio) in zip(grid, scored, strict=True):
        near = (scores["ratio"].astype(float) - ratio).abs() < 1e-9
        _score_panel(
            axes, scores[(scores["task"] == name) & near], study.tasks[name], ratio, series
        )
    longest = max((len(item.title) for item in series), default=0)
    # Titles that fit beside each other on a page of four columns.
    titles = 6 if longest <= 14 else 4 if longest <= 28 else 3
    handles = [Line2D([], [], label=item.title, **item.line) for item in series]
    _legend(figure, handles, max(1, titles * columns // _COLUMNS), handlelength=3.0)


def _score_panel(
    axes: Axes, data: pd.DataFrame, task: ReportTask, ratio: float, series: list[_Series]
) -> None:
    axes.set_title(task.title if ratio == 1.0 else f"{task.title}, {100 * ratio:g} % of labels")
    if data.empty:
        missing(axes)
        return
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
    axes: Axes, data: pd.DataFrame, study: ReportRun, metric: Metric, palette: Palette
) -> None:
    present = [m for m in study.methods if m in set(data["method"])]
    # Shifted a little, so that the error bars of the methods stay apart.
    step = 1.025 if len(present) <= FEW else 1.018
    for position, method in enumerate(present):
        part = data[data["method"] == method].sort_values("ratio")
        x = 100 * part["ratio"].astype(float) * step ** (position - (len(present) - 1) / 2)
        ours = method == REFERENCE
        lines = axes.errorbar(
            x, part["mean"].astype(float), yerr=part["sd"].astype(float).fillna(0.0),
            marker=palette.marker(method), markersize=5 if ours else 3.8,
            capsize=2 if ours else 1.5, elinewidth=1.2 if ours else 0.7,
            zorder=palette.order(method), **palette.line(method),
        )  # fmt: skip
        for bar in (*lines[1], *lines[2]):
            bar.set_alpha(1.0 if ours else 0.55)
    axes.set_xscale("log")
    axes.set_xticks(sorted(100 * ratio for ratio in study.ratios))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("training labels used (%)")
    axes.set_ylabel(f"test {metric.label}, mean ± sd over seeds")


def _axes_of_steps(axes: Axes, label: str) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _legend(figure: FigureBase, lines: list[Line2D], columns: int, **options: float) -> None:
    if lines:
        count = min(len(lines), columns)
        figure.legend(handles=lines, loc="outside lower center", ncols=count, **options)
