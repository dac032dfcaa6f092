"""The page of single cases: scores of each class, and the worst cases with their pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

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
from voxseq.report.sheet import Block, text_block
from voxseq.report.tables.layout import all_tasks
from voxseq.report.writers import to_html

#: Rows of the table of all cases of a task.
SHOWN = 150
_MISSING = "missing"


def render_cases(study: ReportRun, cases: pd.DataFrame, pictures: Mapping[str, bytes]) -> str:
    """The page; a task without pictures or scores says so.

    Args:
        study: gives tasks and methods.
        cases: frame of ``case_scores``.
        pictures: task → PNG of its worst cases.
    """
    tasks = all_tasks(study)
    parts = [_part(study, task, cases, pictures.get(task.name)) for task in tasks]
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
    study: ReportRun, task: ReportTask, cases: pd.DataFrame, png: bytes | None
) -> dict[str, object]:
    """Contents of the page for one task."""
    mine = cases[cases["task"] == task.name]
    shown: dict[str, object] = {"task": task, "picture": png}
    if mine.empty:
        return shown
    names = short_names(mine["case"].unique())
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
