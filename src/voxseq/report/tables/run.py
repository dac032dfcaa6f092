"""Stage "tables": Tables 1–5 with their comparisons, collapse, data of plots and metrics.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from voxseq.base.files import write_json, write_text
from voxseq.config.registry import TaskType
from voxseq.config.report_run import REFERENCE, ReportRun, title_of
from voxseq.plan.outputs import METRICS, PLOTS, SHEETS, lasting, table_numbers
from voxseq.report.escape import DATA_FIELD, PHANTOM_DATA
from voxseq.report.results import class_means, collect, main_scores, missing_runs
from voxseq.report.sheet import Block, Column, Row, Sheet, mark_best, write_sheets
from voxseq.report.tables import curves, layout
from voxseq.report.tables.beyond import table5
from voxseq.report.tables.collapse import collapse_frame, collapse_sheet
from voxseq.report.tables.differences import differences_sheet
from voxseq.report.tables.inputs import TableInputs, table_inputs
from voxseq.report.tables.layout import RowSpec
from voxseq.report.tables.notes import with_notes
from voxseq.report.writers import frame_to_csv, write

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.report.tables.run")


def execute_tables(context: RunContext[ReportRun]) -> None:
    """Write tables, metrics.json and the CSV files behind ``dvc plots``."""
    study = context.config
    scores = collect(study, context.inputs)
    missing = missing_runs(study, scores)
    if missing:
        _LOG.warning("%d of %d runs are missing", len(missing), len(study.runs))
    inputs = table_inputs(study, scores, context.inputs)
    losses = curves.pretraining_curves(study, context.inputs)
    collapse = collapse_frame(study, context.inputs)
    plots = (
        losses,
        curves.mean_over_seeds(curves.validation_curves(study, context.inputs)),
        curves.label_ratio_curve(study, inputs.means),
    )
    frames = {
        "tables/differences.csv": inputs.differences,
        "tables/collapse.csv": collapse,
        "tables/scores.csv": inputs.means,
        "tables/scores_per_class.csv": class_means(scores),
        **dict(zip(PLOTS, plots, strict=True)),
    }
    published = lasting("tables", study)
    for name in (name for name in frames if name in published):
        write_text(context.out / name, frame_to_csv(frames[name], phantoms=study.phantoms))
    tables = all_tables(inputs)
    texts = [differences_sheet(study, inputs.differences), collapse_sheet(study, collapse)]
    texts = [sheet for sheet in texts if f"tables/{sheet.name}.md" in published]
    for sheet in tables:
        write(sheet, context.out / "tables", ("csv", "md", "tex"))
    for sheet in texts:
        write(sheet, context.out / "tables", ("md",))
    head = {DATA_FIELD: PHANTOM_DATA} if study.phantoms else {}
    write_sheets(context.out / SHEETS, (*tables, *texts), head)
    write_json(context.out / METRICS, {**head, **metrics_of(study, inputs.means, losses)})


def all_tables(inputs: TableInputs) -> tuple[Sheet, ...]:
    """The tables that the study has, of Tables 1–5 in order."""
    made = {1: table1, 2: table2, 3: table3, 4: table4, 5: table5}
    return tuple(made[number](inputs) for number in table_numbers(inputs.study))


def table1(inputs: TableInputs) -> Sheet:
    """Table 1: Dice of every method on every segmentation task, and the average."""
    tasks = layout.ordered_tasks(inputs.study, "segmentation")
    columns = (*inputs.columns(tasks), *_average(inputs.study))
    block = _block(inputs, 1, "", columns, layout.method_rows(inputs.study, tasks, 1))
    title = "Segmentation: Dice after fine-tuning with all labels"
    return _sheet(inputs, 1, title, (block,), layout.absent_columns(tasks, 1))


def _average(study: ReportRun) -> tuple[Column, ...]:
    """The column of the average, if there is one; its header says of how many tasks."""
    tasks = layout.average_tasks(study)
    if not tasks:
        return ()
    detail = f"of {len(tasks)} tasks" + (" (MSD)" if all(t.is_decathlon for t in tasks) else "")
    paper = layout.average_column(study)
    return (Column(layout.AVERAGE, metric="dice", detail=detail, paper=paper),)


def table2(inputs: TableInputs) -> Sheet:
    """Table 2: AUC and accuracy of every method on the classification tasks."""
    tasks = layout.ordered_tasks(inputs.study, "classification")
    specs = layout.method_rows(inputs.study, tasks, 2)
    block = _block(inputs, 2, "", inputs.columns(tasks), specs)
    title = "Classification: AUC and accuracy after fine-tuning with all labels"
    return _sheet(inputs, 2, title, (block,), layout.absent_columns(tasks, 2))


def table3(inputs: TableInputs) -> Sheet:
    """Table 3: scores with fewer labels, one block for each score."""
    study = inputs.study
    tasks = tuple(study.tasks[name] for name in study.ratio_tasks)
    blocks = []
    for task in tasks:
        specs = layout.method_rows(study, (task,), 3)
        counts = {ratio: inputs.training_cases.get((task.name, ratio)) for ratio in study.ratios}
        for base in inputs.columns((task,)):
            columns = tuple(
                replace(
                    base,
                    title=f"{100 * ratio:g} % of labels",
                    ratio=ratio,
                    detail="" if count is None else f"{count} training cases",
                )
                for ratio, count in counts.items()
            )
            blocks.append(_block(inputs, 3, task.title, columns, specs))
    absent = layout.absent_columns(tasks, 3)
    return _sheet(inputs, 3, "Fine-tuning with fewer labels", tuple(blocks), absent)


def table4(inputs: TableInputs) -> Sheet:
    """Table 4: our method and what each of its parts is worth."""
    tasks = tuple(inputs.study.tasks[name] for name in inputs.study.ablation_tasks)
    block = _block(inputs, 4, "", inputs.columns(tasks), layout.ablation_rows(inputs.study))
    absent = layout.absent_columns(tasks, 4)
    blocks = (replace(block, corner="Variant"),)
    return _sheet(inputs, 4, "Ablation of our pre-training", blocks, absent)


def _block(
    inputs: TableInputs,
    table: int,
    title: str,
    columns: tuple[Column, ...],
    specs: tuple[RowSpec, ...],
) -> Block:
    rows = tuple(
        Row(s.title, tuple(inputs.cell(table, s, column) for column in columns), s.group)
        for s in specs
    )
    return mark_best(Block(title, columns, rows))


def _sheet(
    inputs: TableInputs, number: int, title: str, blocks: tuple[Block, ...], absent: tuple[str, ...]
) -> Sheet:
    reference = title_of(REFERENCE) if number < 4 else "the full method"
    phantoms = inputs.study.phantoms
    sheet = Sheet(f"table{number}", title, blocks, (), number, phantoms=phantoms)
    return with_notes(sheet, inputs, absent=absent, reference=reference)


def metrics_of(
    study: ReportRun, means: pd.DataFrame, losses: pd.DataFrame
) -> dict[str, Mapping[str, Any]]:
    """The numbers of ``dvc metrics show``; those that are missing or undefined are left out.

    Returns:
        mean_dice and mean_auc: method → mean over all tasks of the type with all labels; ours:
        task → Dice or AUC of our method; pretraining_loss: method → last validation loss.
    """
    scores = main_scores(study, means)

    def average(kind: TaskType) -> dict[Any, float]:
        names = [task.name for task in study.tasks_of(kind)]
        return scores[names].dropna().mean(axis=1).to_dict() if names else {}

    validated = losses[(losses["split"] == "val") & (losses["variant"] == "")]
    groups = {
        "mean_dice": average("segmentation"),
        "mean_auc": average("classification"),
        "ours": scores.loc[REFERENCE].dropna().to_dict() if REFERENCE in scores.index else {},
        "pretraining_loss": validated.groupby("method")["value"].last().dropna().to_dict(),
    }
    return {
        name: {str(key): round(float(value), 6) for key, value in values.items()}
        for name, values in groups.items()
        if values
    }
