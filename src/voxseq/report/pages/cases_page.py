"""The page of single cases: scores of each class, and the worst cases with their pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from voxseq.report.escape import html_text
from voxseq.report.pages import markup
from voxseq.report.pages.markup import Section
from voxseq.report.study import Study, Task, title_of
from voxseq.report.tables.layout import ordered_tasks
from voxseq.report.tables.worst_cases import NAMED, class_summary, short_names, worst_of

#: Rows of the table of all cases of a task.
SHOWN = 150
_MISSING = "missing"
_WHAT: Mapping[str, str] = {
    "segmentation": "Dice in %, mean over seeds",
    "classification": "probability given to the true class, mean over seeds",
}
_LEAD = (
    "Test cases after fine-tuning with all labels. Segmentation: Dice. Classification: the "
    "probability that a method gives to a case's true class; below 0.5 the case is wrong."
)


def render_cases(study: Study, cases: pd.DataFrame, pictures: Mapping[str, bytes]) -> str:
    """The page; a task without pictures or scores says so.

    Args:
        study: gives tasks and methods.
        cases: frame of ``case_scores``.
        pictures: task → PNG of its worst cases.
    """
    tasks = [*ordered_tasks(study, "segmentation"), *ordered_tasks(study, "classification")]
    parts = [
        Section(task.name, task.title, task.title, _task(study, task, cases, pictures))
        for task in tasks
    ]
    return markup.page(
        title=f"voxseq cases: {study.scale}",
        lead=f"<p>{html_text(_LEAD)}</p>",
        links=[("index.html", "Report"), *markup.links(parts)],
        body="\n".join(markup.section(part) for part in parts) or "<p>This study has no task.</p>",
        phantoms=study.phantoms,
    )


def _task(study: Study, task: Task, cases: pd.DataFrame, pictures: Mapping[str, bytes]) -> str:
    mine = cases[cases["task"] == task.name]
    methods = study.methods_of(task.type)
    what = _WHAT[task.type]
    parts = [_picture(task, pictures.get(task.name))]
    if mine.empty:
        return "\n".join([*parts, "<p>missing: no run has scores of single cases.</p>"])
    parts += [
        f"<h3>Classes: {html_text(what)}</h3>",
        _classes(task, methods, mine),
        f"<h3>The {NAMED} worst cases of each method</h3>",
        _worst(task, methods, mine),
        _all_cases(task, methods, mine),
    ]
    return "\n".join(parts)


def _picture(task: Task, png: bytes | None) -> str:
    if png is None:
        return "<p>missing: no run has kept a picture of its worst case.</p>"
    caption = "The worst test case of each method over its seeds, one slice."
    if task.type == "segmentation":
        caption += (
            " Filled: the classes; white line: ground truth. The part around both is shown. "
            "Dice is that of the whole case, mean over classes."
        )
    else:
        caption += " p: probability given to the true class."
    return markup.picture(markup.Picture(f"Worst cases of {task.title}", caption, png))


def _classes(task: Task, methods: tuple[str, ...], mine: pd.DataFrame) -> str:
    found = {(r["method"], r["label"]): r for r in class_summary(mine).to_dict("records")}
    rows = []
    for method in methods:
        for label in task.labels:
            row = found.get((method, label))
            if row is None:
                rows.append((title_of(method), label, *([_MISSING] * 4)))
                continue
            shown = (_text(task, float(row[key])) for key in ("mean", "median", "min"))
            rows.append((title_of(method), label, str(row["cases"]), *shown))
    return markup.grid(("Method", "Class", "Cases", "Mean", "Median", "Minimum"), rows)


def _worst(task: Task, methods: tuple[str, ...], mine: pd.DataFrame) -> str:
    names = short_names(mine["case"].unique())
    ran = [m for m in methods if m in set(mine["method"])]
    rows = []
    for method in ran:
        worst = worst_of(mine[mine["method"] == method])
        rows.append((title_of(method), *_cells(task, worst, names)))
    if len(ran) > 1:
        # Each method counts once, however many classes a case has.
        means = mine.groupby(["method", "case"], sort=False)["value"].mean().reset_index()
        rows.append(("Mean over methods", *_cells(task, worst_of(means), names)))
    return markup.grid(("Method", *(f"{i}." for i in range(1, NAMED + 1))), rows)


def _cells(task: Task, worst: list[tuple[str, float]], names: Mapping[str, str]) -> list[str]:
    shown = [f"{names[case]}: {_text(task, value)}" for case, value in worst]
    return [*shown, *([""] * (NAMED - len(shown)))]


def _all_cases(task: Task, methods: tuple[str, ...], mine: pd.DataFrame) -> str:
    """A folded table: rows are cases and classes, the hardest first; columns are methods."""
    names = short_names(mine["case"].unique())
    table = mine.pivot_table(index=["case", "label"], columns="method", values="value", sort=False)
    hardest = table.loc[table.mean(axis=1).sort_values(kind="stable").index[:SHOWN]]
    columns = [
        [_text(task, float(v)) for v in hardest[m]] if m in hardest else [_MISSING] * len(hardest)
        for m in methods
    ]
    labels = [(names[str(case)], str(label)) for case, label in hardest.index]
    rows = [(*label, *cells) for label, *cells in zip(labels, *columns, strict=True)]
    body = markup.grid(("Case", "Class", *map(title_of, methods)), rows)
    if len(table) > SHOWN:
        body += markup.notes(
            [f"{len(table) - SHOWN} rows with higher scores are left out; scores.csv or "
             "predictions.csv of each run has all."]
        )  # fmt: skip
    return markup.folded(f"All cases, the hardest first ({_WHAT[task.type]})", body)


def _text(task: Task, value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{100 * value:.1f}" if task.type == "segmentation" else f"{value:.3f}"
