"""Tables 1–5: pure functions of tidy frames, then one file each as CSV, MD, TeX."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from voxseq.base.files import write_json, write_text
from voxseq.report.escape import DATA_FIELD, PHANTOM_DATA
from voxseq.report.results import class_means, collect, missing_runs
from voxseq.report.sheet import Block, Cell, Column, Row, Table, mark_best, summarise
from voxseq.report.study import REFERENCE, Study, title_of
from voxseq.report.tables import layout
from voxseq.report.tables.beyond import table5
from voxseq.report.tables.layout import RowSpec
from voxseq.report.tables.notes import with_notes
from voxseq.report.tables.source import Source, source_of

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext

__all__ = [
    "Block",
    "Cell",
    "Column",
    "Row",
    "Source",
    "Table",
    "all_tables",
    "execute_tables",
    "metrics_of",
    "source_of",
    "summarise",
]

_LOG = logging.getLogger("voxseq.report.tables.run")


def table1(source: Source) -> Table:
    """Table 1: Dice of every method on every segmentation task, and the average."""
    tasks = layout.ordered_tasks(source.study, "segmentation")
    columns = tuple(source.column(task, "dice") for task in tasks)
    average = _average(source.study)
    rows = tuple(
        Row(
            spec.title,
            spec.group,
            tuple(source.cell(1, spec, column) for column in columns)
            + tuple(source.average(1, spec, column) for column in average),
        )
        for spec in layout.method_rows(source.study, tasks, 1)
    )
    block = mark_best(Block("", (*columns, *average), rows if columns else ()))
    title = "Segmentation: Dice after fine-tuning with all labels"
    return _table(source, 1, title, (block,), layout.absent_columns(tasks, 1))


def _average(study: Study) -> tuple[Column, ...]:
    """The column of the average, if there is one; its header says of how many tasks."""
    tasks = layout.average_tasks(study)
    if not tasks:
        return ()
    detail = f"of {len(tasks)} tasks" + (" (MSD)" if all(t.is_decathlon for t in tasks) else "")
    paper = layout.average_column(study)
    return (Column("", layout.AVERAGE, "dice", detail=detail, paper=paper),)


def table2(source: Source) -> Table:
    """Table 2: AUC and accuracy of every method on the classification tasks."""
    tasks = layout.ordered_tasks(source.study, "classification")
    columns = tuple(source.column(task, metric) for task in tasks for metric in task.metrics)
    specs = layout.method_rows(source.study, tasks, 2)
    absent = layout.absent_columns(tasks, 2)
    title = "Classification: AUC and accuracy after fine-tuning with all labels"
    return _table(source, 2, title, (_block(source, 2, "", columns, specs),), absent)


def table3(source: Source) -> Table:
    """Table 3: scores with fewer labels, one block for each score."""
    study = source.study
    tasks = tuple(study.tasks[name] for name in study.ratio_tasks)
    blocks = []
    for task in tasks:
        specs = layout.method_rows(study, (task,), 3)
        for metric in task.metrics:
            base = source.column(task, metric)
            columns = tuple(
                replace(
                    base,
                    title=f"{100 * ratio:g} % of labels",
                    ratio=ratio,
                    detail=_labels(source.training_cases.get((task.name, ratio))),
                )
                for ratio in study.all_ratios
            )
            blocks.append(_block(source, 3, task.title, columns, specs))
    absent = layout.absent_columns(tasks, 3)
    return _table(source, 3, "Fine-tuning with fewer labels", tuple(blocks), absent)


def table4(source: Source) -> Table:
    """Table 4: our method and what each of its parts is worth."""
    tasks = tuple(source.study.tasks[name] for name in source.study.ablation_tasks)
    columns = tuple(source.column(task, metric) for task in tasks for metric in task.metrics)
    specs = layout.ablation_rows(source.study)
    absent = layout.absent_columns(tasks, 4)
    title = "Ablation of our pre-training"
    block = replace(_block(source, 4, "", columns, specs), corner="Variant")
    return _table(source, 4, title, (block,), absent)


def all_tables(source: Source) -> tuple[Table, ...]:
    """The tables that the study has, of Tables 1–5 in order."""
    made = {1: table1, 2: table2, 3: table3, 4: table4, 5: table5}
    return tuple(made[number](source) for number in source.study.table_numbers)


def _block(
    source: Source,
    table: int,
    title: str,
    columns: tuple[Column, ...],
    specs: tuple[RowSpec, ...],
) -> Block:
    rows = tuple(
        Row(s.title, s.group, tuple(source.cell(table, s, column) for column in columns))
        for s in specs
    )
    return mark_best(Block(title, columns, rows if columns else ()))


def _table(
    source: Source, number: int, title: str, blocks: tuple[Block, ...], absent: tuple[str, ...]
) -> Table:
    reference = title_of(REFERENCE) if number < 4 else "the full method"
    table = Table(number, title, blocks, (), source.study.phantoms)
    return with_notes(table, source, absent=absent, reference=reference)


def _labels(count: int | None) -> str:
    return "" if count is None else f"{count} training cases"


def metrics_of(means: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Mean over seeds at full labels: task → method → metric (0..1), for ``dvc metrics``."""
    full = means[(means["variant"] == "") & ((means["ratio"].astype(float) - 1.0).abs() < 1e-9)]
    nested: dict[str, dict[str, dict[str, float]]] = {}
    means = full.groupby(["task", "method", "metric"], sort=True)["value"].mean().reset_index()
    for row in means.to_dict("records"):
        value = float(row["value"])
        if not math.isnan(value):
            scores = nested.setdefault(str(row["task"]), {}).setdefault(str(row["method"]), {})
            scores[str(row["metric"])] = round(value, 6)
    return nested


def execute_tables(context: RunContext) -> None:
    """Write tables, metrics.json and the CSV files behind ``dvc plots``."""
    from voxseq.report import render
    from voxseq.report.render import frame_to_csv
    from voxseq.report.tables import collapse, curves
    from voxseq.report.tables import differences as statistics

    study = Study.from_config(context.config)
    scores = collect(context)
    missing = missing_runs(study, scores)
    if missing:
        _LOG.warning("%d of %d runs are missing", len(missing), len(study.runs))
    source, phantoms = source_of(context, scores, study), study.phantoms
    folder = context.out / "tables"
    for table in all_tables(source):
        stem = f"table{table.number}"
        write_text(folder / f"{stem}.csv", render.to_csv(table))
        write_text(folder / f"{stem}.md", render.to_markdown(table))
        write_text(folder / f"{stem}.tex", render.to_latex(table))
    if study.publishes("tables/differences.csv"):
        write_text(folder / "differences.csv", frame_to_csv(source.differences, phantoms=phantoms))
        write_text(folder / "differences.md", statistics.to_markdown(study, source.differences))
    if study.publishes("tables/collapse.csv"):
        collapse.write(folder, collapse.collapse_rows(study, context.inputs), phantoms=phantoms)
    if study.publishes("tables/scores.csv"):
        per_class = frame_to_csv(class_means(scores), phantoms=phantoms)
        write_text(folder / "scores.csv", frame_to_csv(source.means, phantoms=phantoms))
        write_text(folder / "scores_per_class.csv", per_class)
    said = {DATA_FIELD: PHANTOM_DATA} if phantoms else {}
    write_json(context.out / "metrics.json", said | metrics_of(source.means))
    curves.write_plot_data(context, study, source.means)
