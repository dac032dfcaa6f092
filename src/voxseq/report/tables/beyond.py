"""Table 5: rows beyond the paper, each beside the row that it is compared with."""

from __future__ import annotations

from dataclasses import replace

from voxseq.config.report_run import ControlRow
from voxseq.report.sheet import Block, Cell, Column, Row, Sheet
from voxseq.report.tables.inputs import TableInputs
from voxseq.report.tables.layout import RowSpec, all_tasks
from voxseq.report.tables.notes import with_notes

#: Group of rows → its name in the title.
_GROUPS = {
    "Token order": "token order",
    "Loss": "loss",
    "Recipe and weights": "recipes",
    "Frozen encoder": "frozen encoders",
    "Trivial baselines": "trivial baselines",
}


def table5(inputs: TableInputs) -> Sheet:
    """Table 5: one block per group of rows."""
    study = inputs.study
    chosen = tuple(task for task in all_tasks(study) if task.name in study.beyond_tasks)
    columns = tuple(replace(column, paper="") for column in inputs.columns(chosen))
    blocks = (
        _block(inputs, group, columns) for group in dict.fromkeys(r.group for r in study.beyond)
    )
    # All groups in a study with tasks of the paper, as in the demo; else those that there are.
    shown = _GROUPS if study.is_papers else dict.fromkeys(row.group for row in study.beyond)
    contents = ", ".join(_GROUPS.get(group, group) for group in shown)
    title = f"{'Beyond the paper' if study.is_papers else 'Controls'}: {contents}"
    phantoms, papers = study.phantoms, study.is_papers
    sheet = Sheet("table5", title, tuple(blocks), (), 5, phantoms=phantoms, papers=papers)
    return with_notes(sheet, inputs, absent={}, reference="the row's reference")


def _block(inputs: TableInputs, group: str, columns: tuple[Column, ...]) -> Block:
    """The rows of a group, with the columns of the tasks that it was done on."""
    members = [row for row in inputs.study.beyond if row.group == group]
    series = {row.series for row in members}
    planned = {run.task for run in inputs.study.runs if run.series in series}
    kept = tuple(column for column in columns if column.task in planned)
    rows = tuple(_row(inputs, row, kept) for row in members)
    return Block(group, kept, rows, corner="Variant", shows_reference=True)


def _row(inputs: TableInputs, row: ControlRow, columns: tuple[Column, ...]) -> Row:
    reference = inputs.study.series_title(*row.reference) if row.is_compared else ""
    cells = tuple(_cell(inputs, row, column) for column in columns)
    return Row(row.title, cells, row.group, reference)


def _cell(inputs: TableInputs, row: ControlRow, column: Column) -> Cell:
    runs = inputs.study.runs_of(column.task, *row.series, column.ratio)
    if not any(run.stage == "beyond" for run in runs):
        return Cell(exists=False)
    cell = inputs.cell(5, RowSpec(row.title, row.group, *row.series), column)
    mean = inputs.mean_of(row.reference, column) if row.is_compared else None
    return replace(cell, reference=mean)
