"""Footnotes of Tables 1–5."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from voxseq.config.report_run import SURFACE_METRICS, ReportTask
from voxseq.report.metrics import PRINTED, sentence
from voxseq.report.sheet import Sheet
from voxseq.report.tables import layout
from voxseq.report.tables.differences import rules
from voxseq.report.tables.inputs import TableInputs
from voxseq.report.tables.sides import tested_metrics
from voxseq.report.writers import notes


def with_notes(
    sheet: Sheet,
    inputs: TableInputs,
    *,
    absent: Mapping[str, Sequence[str]],
    reference: str,
) -> Sheet:
    """The table with the footnotes that it needs.

    Args:
        sheet: the table without them.
        inputs: what it was made of.
        absent: "columns" and "rows" of the paper that the study does not have.
        reference: what the rows are compared with, as a reader calls it.
    """
    study = inputs.study
    columns = [column for block in sheet.blocks for column in block.columns]
    tasks = {column.task: study.tasks[column.task] for column in columns if column.task}
    average = layout.average_tasks(study)
    has_average = any(not column.task for column in columns)
    compared = inputs.differences[inputs.differences["table"] == sheet.number]
    metrics = dict.fromkeys(column.metric for column in columns)
    surfaces = [name for name in metrics if name in SURFACE_METRICS]
    lines = notes(
        "notes_table.txt",
        study=study,
        columns=columns,
        tasks=list(tasks.values()),
        states={cell.status for cell in sheet.cells},
        lower=[PRINTED[name].title for name in metrics if PRINTED[name].lower_is_better],
        surfaces=surfaces,
        segmentation_scores=sentence(["dice", *surfaces]),
        untested=list(dict.fromkeys(_untested(tasks.values()))) if len(compared) else [],
        beyond=any(block.shows_reference for block in sheet.blocks),
        papers=any(cell.paper is not None for cell in sheet.cells),
        absent=absent,
        # Only where the table has tasks that the average is not over.
        average=average if has_average and len(average) < len(tasks) else (),
        reference=reference,
        comparisons=len(compared),
        primary=int(compared["primary"].sum()),
        has_marks=bool(compared["p_holm"].notna().any()),
        rules=rules(compared),
        has_intervals=any(cell.low is not None for cell in sheet.cells),
        one_seed=max((cell.n for cell in sheet.cells), default=0) == 1,
        own_cases=study.phantoms and len(study.seeds) > 1,
        repeated=list(_repeated(inputs, tasks.values())),
    )
    return replace(sheet, notes=lines)


def _untested(tasks: Iterable[ReportTask]) -> Iterator[str]:
    """Names of the metrics that no row is compared by."""
    for task in tasks:
        for name in task.metrics:
            if name not in tested_metrics(task):
                of_many = " of more than two classes" if name == "auc" else ""
                yield f"{PRINTED[name].name}{of_many}"


def _repeated(inputs: TableInputs, tasks: Iterable[ReportTask]) -> Iterator[tuple[str, int, int]]:
    """Title, scans and patients of the tasks that have several scans of a patient."""
    for task in tasks:
        scans, patients = inputs.scores.scans(task.name)
        if scans > patients:
            yield task.title, scans, patients
