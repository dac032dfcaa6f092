"""The page of single cases: scores of each class, and the worst cases with their pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from voxseq.config.report_run import ReportRun, ReportTask
from voxseq.report.cases import (
    NAMED,
    class_summary,
    is_error,
    short_names,
    target_name,
    worst_of,
)
from voxseq.report.metrics import PRINTED
from voxseq.report.predictions import class_name
from voxseq.report.sheet import Block, text_block
from voxseq.report.slices import Slices, Strip
from voxseq.report.tables.layout import all_tasks
from voxseq.report.writers import to_html

#: Rows of the table of all cases of a task.
SHOWN = 150
_MISSING = "missing"


@dataclass(frozen=True)
class Card:
    """The worst case of one method: its picture, and lines of text below it."""

    method: str
    strip: Strip | None = None
    lines: tuple[str, ...] = ()


def render_cases(
    study: ReportRun, cases: pd.DataFrame, strips: Mapping[tuple[str, str], Strip]
) -> str:
    """The page; a task without pictures or scores says so.

    Args:
        study: gives tasks and methods.
        cases: frame of ``case_scores``.
        strips: (task, method) → picture of its worst case.
    """
    tasks = all_tasks(study)
    parts = [_part(study, task, cases, strips) for task in tasks]
    return to_html(
        "cases.html",
        study=study,
        parts=parts,
        types={task.type for task in tasks},
        many=any(task.has_many_classes for task in tasks),
        named=NAMED,
        shown=SHOWN,
    )


def _part(
    study: ReportRun,
    task: ReportTask,
    cases: pd.DataFrame,
    strips: Mapping[tuple[str, str], Strip],
) -> dict[str, object]:
    """Contents of the page for one task."""
    mine = cases[cases["task"] == task.name]
    names = short_names(mine["case"].unique())
    found = {m: strips.get((task.name, m)) for m in study.methods_of(task.type)}
    cards = [
        Card(study.title_of(m)) if one is None else _card(study.title_of(m), task, one, names)
        for m, one in found.items()
    ]
    shown: dict[str, object] = {"task": task, "cards": cards if any(found.values()) else []}
    if mine.empty:
        return shown
    everything = mine.pivot_table(
        index=["case", "label"], columns="method", values="value", sort=False
    )
    return {
        **shown,
        "classes": _classes(study, task, mine),
        "worst": _worst(study, task, mine, names),
        "everything": _all_cases(study, task, everything, names),
        "hidden": len(everything) - SHOWN,
    }


def _card(title: str, task: ReportTask, strip: Strip, names: Mapping[str, str]) -> Card:
    item = strip.item
    lines = [names.get(item.case, item.case), _score(task, item)]
    if task.type == "segmentation":
        lines += [f"{label}: {text}" for label, text in _errors(task, item)]
    x, y, z = item.spacing
    lines.append(f"Pixels {x:.3g} × {y:.3g} mm, slices {z:.3g} mm apart")
    if not item.oriented:
        lines.append("The file states no orientation")
    return Card(title, strip, tuple(lines))


def _score(task: ReportTask, item: Slices) -> str:
    """Score of a case and the seed of its run."""
    if task.type == "segmentation":
        return f"Dice {100 * item.score:.1f} % (seed {item.seed})"
    if task.type == "regression":
        given, true = (f"{float(value):.3g}" for value in (item.prediction, item.truth))
        return f"{given}, true {true} {task.unit}".rstrip() + f" (seed {item.seed})"
    return f"{class_name(task, int(item.truth))}: p = {item.score:.2f} (seed {item.seed})"


def _errors(task: ReportTask, item: Slices) -> Iterator[tuple[str, str]]:
    """Each class that the truth or the prediction has: distance of surfaces and volumes."""
    if item.volumes is None:
        return
    for label, distance, true, given in zip(
        task.labels, item.hd95, item.volumes[0], item.volumes[1], strict=True
    ):
        if not true:
            if given:
                yield label, f"{given:.3g} ml, the truth has none"
        elif not given:
            yield label, f"not found, true volume {true:.3g} ml"
        else:
            error = 100 * (given / true - 1)
            change = f"{error:+.0f}".replace("-", "−")
            volumes = f"{given:.3g} ml, true {true:.3g} ml ({change} %)"
            yield label, f"HD95 {distance:.3g} mm, {volumes}"


def _classes(study: ReportRun, task: ReportTask, mine: pd.DataFrame) -> Block:
    summary = class_summary(mine, errors=is_error(task))
    found = {(r["method"], r["label"]): r for r in summary.to_dict("records")}
    rows = []
    for method in study.methods_of(task.type):
        for label in task.labels or (target_name(task),):
            row = found.get((method, label))
            cells = [_MISSING] * 4
            if row is not None:
                numbers = (_text(task, row[key]) for key in ("mean", "median", "worst"))
                cells = [str(row["cases"]), *numbers]
            rows.append((study.title_of(method), label, *cells))
    worst = "Maximum" if is_error(task) else "Minimum"
    return text_block("", ("Method", _of(task), "Cases", "Mean", "Median", worst), rows)


def _of(task: ReportTask) -> str:
    """Header of the names of structures, classes or targets."""
    return "Target" if is_error(task) else "Class"


def _worst(
    study: ReportRun, task: ReportTask, mine: pd.DataFrame, names: Mapping[str, str]
) -> Block:
    def rows() -> Iterator[tuple[str, ...]]:
        ran = [m for m in study.methods_of(task.type) if m in set(mine["method"])]
        parts = {study.title_of(m): mine[mine["method"] == m] for m in ran}
        if len(ran) > 1:
            # Each method counts once, however many classes a case has.
            means = mine.groupby(["method", "case"], sort=False)["value"].mean().reset_index()
            parts["Mean over methods"] = means
        for title, part in parts.items():
            worst = worst_of(part, errors=is_error(task))
            cells = [f"{names[case]}: {_text(task, value)}" for case, value in worst]
            yield title, *cells, *([""] * (NAMED - len(cells)))

    return text_block("", ("Method", *(f"{i}." for i in range(1, NAMED + 1))), rows())


def _all_cases(
    study: ReportRun, task: ReportTask, table: pd.DataFrame, names: Mapping[str, str]
) -> Block:
    """Rows are cases and classes, the hardest first; columns are methods."""
    methods = study.methods_of(task.type)
    order = table.mean(axis=1).sort_values(kind="stable", ascending=not is_error(task))
    hardest = table.loc[order.index[:SHOWN]]
    columns = [
        [_text(task, v) for v in hardest[m]] if m in hardest else [_MISSING] * len(hardest)
        for m in methods
    ]
    labels = [(names[str(case)], str(label)) for case, label in hardest.index]
    rows = ((*label, *cells) for label, *cells in zip(labels, *columns, strict=True))
    return text_block("", ("Case", _of(task), *map(study.title_of, methods)), rows)


def _text(task: ReportTask, value: float) -> str:
    if math.isnan(value):
        return "–"
    if is_error(task):
        return f"{value:.{PRINTED['mae'].decimals(value)}f}"
    return f"{100 * value:.1f}" if task.type == "segmentation" else f"{value:.3f}"
