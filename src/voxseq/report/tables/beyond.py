"""Table 5: what the paper does not ask, each row beside the row that it is compared with."""

from __future__ import annotations

from dataclasses import replace

from voxseq.report.sheet import Block, Cell, Column, Row, Table
from voxseq.report.study import BeyondRow, series_title
from voxseq.report.tables.layout import RowSpec, ordered_tasks
from voxseq.report.tables.notes import with_notes
from voxseq.report.tables.source import Source

TITLE = "Beyond the paper: token order, recipes, frozen encoders, trivial baselines"


def table5(source: Source) -> Table:
    """Table 5: one block a group of rows; without tasks or rows a table that says so."""
    study = source.study
    tasks = [
        task
        for kind in ("segmentation", "classification")
        for task in ordered_tasks(study, kind)
        if task.name in study.beyond_tasks
    ]
    columns = tuple(
        replace(source.column(task, metric), paper="") for task in tasks for metric in task.metrics
    )
    groups = dict.fromkeys(row.group for row in study.beyond) if columns else {}
    blocks = tuple(_block(source, group, columns) for group in groups)
    table = Table(5, TITLE, blocks or (Block("", (), ()),), (), study.phantoms)
    return with_notes(table, source, absent=(), reference="the row's reference")


def _block(source: Source, group: str, columns: tuple[Column, ...]) -> Block:
    """The rows of a group, with the columns of the tasks that it was done on."""
    members = [row for row in source.study.beyond if row.group == group]
    names = {(row.method, row.variant) for row in members}
    runs = source.study.runs
    planned = {run.task for run in runs if (run.method, run.variant) in names}
    kept = tuple(column for column in columns if column.task in planned)
    return Block(
        title=group,
        columns=kept,
        rows=tuple(_row(source, row, kept) for row in members),
        corner="Row",
        shows_reference=True,
    )


def _row(source: Source, row: BeyondRow, columns: tuple[Column, ...]) -> Row:
    reference = series_title(source.study, *row.reference) if row.is_compared else ""
    cells = tuple(_cell(source, row, column) for column in columns)
    return Row(row.title, row.group, cells, reference)


def _cell(source: Source, row: BeyondRow, column: Column) -> Cell:
    runs = source.study.runs_of(column.task, row.method, row.variant, column.ratio)
    if not any(run.stage == "beyond" for run in runs):
        return Cell(0, 0, exists=False)
    cell = source.cell(5, RowSpec(row.title, row.group, row.method, row.variant), column)
    mean = source.mean_of(row.reference, column) if row.is_compared else None
    return replace(cell, paper=None, reference=mean)
