"""Stage "tables": all tables with their comparisons, collapse, data of plots and metrics.json."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from voxseq.base.files import write_json, write_text
from voxseq.config.report_run import MAIN_TABLES, REFERENCE, ReportRun, ReportTask
from voxseq.config.task_types import TaskType
from voxseq.plan.outputs import METRICS, PLOTS, SHEETS, has_claims, lasting, table_numbers
from voxseq.report.escape import DATA_FIELD, PHANTOM_DATA
from voxseq.report.metrics import sentence
from voxseq.report.results import class_means, collect, main_scores, missing_runs
from voxseq.report.seeds.agree import seeds_of, with_further
from voxseq.report.sheet import Block, Column, Row, Sheet, mark_best, write_sheets
from voxseq.report.tables import curves, layout
from voxseq.report.tables.beyond import table5
from voxseq.report.tables.claims import claims_frame, claims_sheet
from voxseq.report.tables.collapse import collapse_frame, collapse_sheet
from voxseq.report.tables.differences import differences_sheet
from voxseq.report.tables.inputs import TableInputs, table_inputs
from voxseq.report.tables.layout import RowSpec
from voxseq.report.tables.notes import with_notes
from voxseq.report.tables.structures import structures_frame, structures_sheet
from voxseq.report.writers import frame_to_csv, write

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.report.tables.run")


def execute_tables(context: RunContext[ReportRun]) -> None:
    """Write tables, metrics.json and the CSV files behind ``dvc plots``.

    Raises:
        IntegrityError: the file of a seed is damaged.
    """
    seeds = seeds_of(context.config, context.inputs)
    for reason in seeds.left_out:
        _LOG.warning("left out: %s", reason)
    study = with_further(context.config, seeds)
    means = write_tables(study, context.inputs, context.out)
    plots = (
        curves.pretraining_curves(study, context.inputs),
        curves.mean_over_seeds(curves.validation_curves(study, context.inputs)),
        curves.label_ratio_curve(study, means),
    )
    for name, frame in zip(PLOTS, plots, strict=True):
        write_text(context.out / name, frame_to_csv(frame, phantoms=study.phantoms))


def write_tables(study: ReportRun, inputs: Mapping[str, Path], out: Path) -> pd.DataFrame:
    """Write all that is made of the files of the seeds alone: tables/ and metrics.json.

    Args:
        study: the study, with its further seeds.
        inputs: run id → folder, for the files of the planned seeds.
        out: folder of the results.

    Returns:
        The frame of ``run_means``.
    """
    scores = collect(study, inputs)
    missing = missing_runs(study, scores)
    if missing:
        _LOG.warning("%d of %d runs are missing", len(missing), len(study.runs))
    made = table_inputs(study, scores, inputs)
    collapse = collapse_frame(study, inputs)
    structures = structures_frame(study, scores, inputs)
    frames = {
        "tables/differences.csv": made.differences,
        "tables/collapse.csv": collapse,
        "tables/scores.csv": made.means,
        "tables/scores_per_class.csv": class_means(scores),
        "tables/structures.csv": structures,
    }
    claimed = claims_frame(made.scores) if has_claims(study) else None
    if claimed is not None:
        frames["tables/claims.csv"] = claimed
    published = lasting("tables", study)
    for name in (name for name in frames if name in published):
        write_text(out / name, frame_to_csv(frames[name], phantoms=study.phantoms))
    tables = all_tables(made)
    first = () if claimed is None else (claims_sheet(study, claimed),)
    texts = [
        structures_sheet(study, structures),
        differences_sheet(study, made.differences),
        collapse_sheet(study, collapse),
    ]
    texts = [sheet for sheet in texts if f"tables/{sheet.name}.md" in published]
    for sheet in tables:
        write(sheet, out / "tables", ("csv", "md", "tex"))
    for sheet in (*first, *texts):
        write(sheet, out / "tables", ("md",))
    head = {DATA_FIELD: PHANTOM_DATA} if study.phantoms else {}
    write_sheets(out / SHEETS, (*first, *tables, *texts), head)
    losses = last_losses(study, inputs)
    write_json(out / METRICS, {**head, **metrics_of(study, made.means, losses)})
    return made.means


def last_losses(study: ReportRun, inputs: Mapping[str, Path]) -> dict[str, float]:
    """Method → loss at the last validation of its own pre-training, mean over seeds."""
    found: dict[str, list[float]] = {}
    for scores in seeds_of(study, inputs).scores:
        for run in (run for run in scores.pretrainings if not run.variant):
            known = [loss for _, loss, *_ in run.validations if loss is not None]
            found.setdefault(run.method, []).extend(known[-1:])
    return {method: sum(losses) / len(losses) for method, losses in found.items() if losses}


def all_tables(inputs: TableInputs) -> tuple[Sheet, ...]:
    """The tables that the study has: of each type of task, then Tables 3–5."""
    made: dict[int, Callable[[TableInputs], Sheet]] = {3: table3, 4: table4, 5: table5}
    made |= {number: partial(main_table, kind=kind) for kind, number in MAIN_TABLES.items()}
    return tuple(made[number](inputs) for number in table_numbers(inputs.study))


def main_table(inputs: TableInputs, kind: TaskType) -> Sheet:
    """Tables 1, 2 and 6: scores of every method on every task of a type, and the average."""
    number, study = MAIN_TABLES[kind], inputs.study
    tasks = layout.ordered_tasks(study, kind)
    columns = (*inputs.columns(tasks), *_average(inputs, kind))
    block = _block(inputs, number, "", columns, layout.method_rows(study, tasks, number))
    scores = sentence(metric for task in tasks for metric in task.metrics)
    title = f"{kind.capitalize()}: {scores} after fine-tuning with all labels"
    return _sheet(inputs, number, title, (block,), tasks)


def _average(inputs: TableInputs, kind: TaskType) -> tuple[Column, ...]:
    """The columns of the average, if there are any; the header says of how many tasks."""
    study = inputs.study
    tasks = layout.average_tasks(study, kind)
    if not tasks:
        return ()
    detail = f"of {len(tasks)} tasks" + (" (MSD)" if all(t.is_decathlon for t in tasks) else "")
    papers = {tasks[0].metrics[0]: layout.average_column(study)}
    return tuple(
        Column(
            layout.AVERAGE,
            metric=metric,
            seeds=inputs.seeds_of(*(task.name for task in tasks)),
            detail=detail,
            paper=papers.get(metric, ""),
        )
        for metric in layout.common_metrics(tasks)
    )


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
    return _sheet(inputs, 3, "Fine-tuning with fewer labels", tuple(blocks), tasks)


def table4(inputs: TableInputs) -> Sheet:
    """Table 4: our method and what each of its parts is worth."""
    tasks = tuple(inputs.study.tasks[name] for name in inputs.study.ablation_tasks)
    block = _block(inputs, 4, "", inputs.columns(tasks), layout.ablation_rows(inputs.study))
    blocks = (replace(block, corner="Variant"),)
    return _sheet(inputs, 4, "Ablation of the pre-training", blocks, tasks)


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
    inputs: TableInputs,
    number: int,
    title: str,
    blocks: tuple[Block, ...],
    tasks: tuple[ReportTask, ...],
) -> Sheet:
    study = inputs.study
    reference = "the full method" if number == 4 else study.title_of(study.reference or "")
    phantoms, papers = study.phantoms, study.is_papers
    sheet = Sheet(f"table{number}", title, blocks, (), number, phantoms=phantoms, papers=papers)
    absent = {
        "columns": layout.absent_columns(tasks, number),
        "rows": layout.absent_rows(study, tasks, number),
    }
    return with_notes(sheet, inputs, absent=absent, reference=reference)


def metrics_of(
    study: ReportRun, means: pd.DataFrame, losses: Mapping[str, float]
) -> dict[str, Mapping[str, Any]]:
    """The numbers of ``dvc metrics show``; those that are missing or undefined are left out.

    Returns:
        mean_dice and mean_auc: method → mean over all tasks of the type with all labels; ours:
        task → Dice or AUC of our method; pretraining_loss: ``losses``.
    """
    scores = main_scores(study, means)

    def average(kind: TaskType) -> dict[Any, float]:
        names = [task.name for task in study.tasks_of(kind)]
        return scores[names].dropna().mean(axis=1).to_dict() if names else {}

    groups = {
        "mean_dice": average("segmentation"),
        "mean_auc": average("classification"),
        "ours": scores.loc[REFERENCE].dropna().to_dict() if REFERENCE in scores.index else {},
        "pretraining_loss": losses,
    }
    return {
        name: {str(key): round(float(value), 6) for key, value in values.items()}
        for name, values in groups.items()
        if values
    }
