"""Scores of each structure of a segmentation, and of each class of a classification."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from voxseq.config.report_run import SURFACE_METRICS, ReportRun, ReportTask
from voxseq.plan.outputs import detailed_tasks
from voxseq.report.metrics import PRINTED, Metric
from voxseq.report.predictions import class_columns, class_name, predicted_class, read_predictions
from voxseq.report.sheet import NOT_APPLICABLE, Block, Sheet, text_block
from voxseq.report.writers import notes

#: Share of the cases of a class that are found; there is no run's score of that name.
RECALL = Metric("Recall", "recall", "%", 1, 100.0)
#: ``label`` is a structure or class; ``cases`` have a score, of which mean and median are.
COLUMNS = ("task", "method", "title", "label", "metric", "mean", "median", "cases")
#: Columns of a score; recall is a mean of yes and no, and AUC no mean over cases.
_ALL_PARTS = ("mean", "median", "n")
_PARTS: Mapping[str, tuple[str, ...]] = {"recall": ("mean", "n"), "auc": ("mean",)}
_MISSING = "missing"


def structures_frame(
    study: ReportRun, scores: pd.DataFrame, inputs: Mapping[str, Path]
) -> pd.DataFrame:
    """Scores of each structure and class at full labels, of tasks that the paper does not have.

    Args:
        study: what was planned.
        scores: frame of ``collect``.
        inputs: run id → folder, for the files of the seeds.

    Returns:
        Columns ``COLUMNS``, one row per task × method × label × metric that has run. Mean and
        median are over cases, each averaged over seeds, in the unit of the file: shares 0..1, HD95
        in mm. The median of a score that no single case has (AUC) is NaN.
    """
    full = scores[scores["stage"] == "finetune"]
    rows: list[tuple[Any, ...]] = []
    for task in detailed_tasks(study):
        mine = full[full["task"] == task.name]
        found = (
            _of_structures(task, mine)
            if task.type == "segmentation"
            else _of_classes(study, task, mine, inputs)
        )
        rows += [(task.name, m, study.title_of(m), *values) for m, *values in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_structures(task: ReportTask, scores: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Method, label, metric, mean, median and number of cases."""
    by = ["method", "label", "metric"]
    chosen = scores[scores["metric"].isin(task.metrics)]
    cases = chosen.groupby([*by, "case"], sort=False)["value"].mean().dropna()
    grouped = cases.groupby(level=by, sort=False).agg(["mean", "median", "count"]).reset_index()
    yield from grouped.itertuples(index=False, name=None)


def _of_classes(
    study: ReportRun, task: ReportTask, scores: pd.DataFrame, inputs: Mapping[str, Path]
) -> Iterator[tuple[Any, ...]]:
    """Method, label, metric, mean, median and number of cases."""
    frame = read_predictions(study, task, inputs, ("finetune",))
    frame["right"] = (predicted_class(task, frame) == frame["target"]).astype(float)
    by_class = scores[(scores["metric"] == "auc") & (scores["label"] != "")]
    names = [class_name(task, index) for index in range(len(class_columns(task)))]
    for method in study.methods_of(task.type):
        for index, label in enumerate(names):
            of_class = frame[(frame["method"] == method) & (frame["target"] == index)]
            cases = of_class.groupby("case")["right"].mean()
            if len(cases):
                yield method, label, "recall", cases.mean(), cases.median(), len(cases)
            # The AUC of a class is one number for a run.
            areas = by_class[(by_class["method"] == method) & (by_class["label"] == label)]
            if len(areas):
                yield method, label, "auc", areas["value"].mean(), math.nan, len(cases)


def structures_sheet(study: ReportRun, frame: pd.DataFrame) -> Sheet:
    """One block per task: rows are structures and methods."""
    tasks = detailed_tasks(study)
    blocks = tuple(_block(study, task, frame[frame["task"] == task.name]) for task in tasks)
    lines = notes(
        "notes_structures.txt",
        segmented=any(task.type == "segmentation" for task in tasks),
        surfaces=any(task.surface for task in tasks),
        classified=any(task.type == "classification" for task in tasks),
        many=any(task.has_many_classes for task in tasks),
        missing=any(cell.text == _MISSING for b in blocks for row in b.rows for cell in row.cells),
    )
    title = "Scores of each structure and class"
    return Sheet("structures", title, blocks, lines, phantoms=study.phantoms)


def _metrics(task: ReportTask) -> dict[str, Metric]:
    """The scores of a structure or class of a task."""
    if task.type == "segmentation":
        names = [name for name in task.metrics if name == "dice" or name in SURFACE_METRICS]
        return {name: PRINTED[name] for name in names}
    return {"recall": RECALL, **({"auc": PRINTED["auc"]} if task.has_many_classes else {})}


def _block(study: ReportRun, task: ReportTask, frame: pd.DataFrame) -> Block:
    found = {(r["label"], r["method"], r["metric"]): r for r in frame.to_dict("records")}
    metrics = _metrics(task)
    parts = [(name, part) for name in metrics for part in _PARTS.get(name, _ALL_PARTS)]
    header = [f"{metrics[name].header}, {part}" for name, part in parts]
    ran = set(frame["method"])
    rows = []
    for label in task.labels:
        for method in study.methods_of(task.type):
            cells = [_text(metrics[n], found.get((label, method, n)), part) for n, part in parts]
            shown = cells if method in ran else [_MISSING] * len(cells)
            rows.append((label, study.title_of(method), *shown))
    corner = "Structure" if task.type == "segmentation" else "Class"
    return text_block(task.title, (corner, "Method", *header), rows)


def _text(metric: Metric, row: Mapping[Any, Any] | None, part: str) -> str:
    if part == "n":
        return "0" if row is None else str(row["cases"])
    if row is None or math.isnan(row[part]):
        return NOT_APPLICABLE
    value = metric.factor * row[part]
    return f"{value:.{metric.decimals(value)}f}"
