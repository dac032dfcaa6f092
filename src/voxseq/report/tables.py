"""Tables 1–4 of the paper: pure functions of tidy frames, then one file each as CSV, MD, TeX."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from voxseq.files import write_json, write_text
from voxseq.report import layout
from voxseq.report.collect import class_means, collect, missing_runs, read_record, run_means, select
from voxseq.report.layout import RowSpec
from voxseq.report.notes import table_notes
from voxseq.report.paper import PaperValues, paper_values
from voxseq.report.study import FACTORS, METRIC_TITLES, UNITS, Study, Task

if TYPE_CHECKING:
    from voxseq.runs import RunContext

_LOG = logging.getLogger("voxseq.report.tables")


@dataclass(frozen=True)
class Column:
    """One column of numbers.

    Attributes:
        task: task name in the configuration; empty for the average over tasks.
        title: header, such as "Task03 Liver".
        metric: "dice", "auc" or "accuracy".
        ratio: share of the training labels, 0..1.
        cases: number of test cases; ``None`` where nothing has run.
        detail: further words of the header.
        paper: name of the column in paper_values.csv; empty where the paper has none.
    """

    task: str
    title: str
    metric: str
    ratio: float = 1.0
    cases: int | None = None
    detail: str = ""
    paper: str = ""

    @property
    def header(self) -> str:
        """Header lines joined by line feeds: title, metric and unit, number of test cases."""
        unit = f" {UNITS[self.metric]}" if UNITS[self.metric] else ""
        cases = [] if self.cases is None else [f"{self.cases} test cases"]
        detail = [self.detail] if self.detail else []
        return "\n".join([self.title, f"{METRIC_TITLES[self.metric]}{unit}", *detail, *cases])


@dataclass(frozen=True)
class Cell:
    """Mean and sample standard deviation over seeds, in the printed unit (Dice in %).

    Attributes:
        n: number of seeds that the mean is made of; 0: the run is missing.
        planned: number of seeds that the study plans for the cell.
        mean: ``None`` where missing, NaN where the score is undefined.
        sd: ``None`` with fewer than two seeds.
        paper: the paper's value as printed, ``None`` where it is not at hand.
        best: whether the mean is the best of its column.
    """

    n: int
    planned: int
    mean: float | None = None
    sd: float | None = None
    paper: str | None = None
    best: bool = False

    @property
    def status(self) -> str:
        """One of "missing", "partial" (fewer seeds than planned), "complete"."""
        if not self.n:
            return "missing"
        return "partial" if self.n < self.planned else "complete"


@dataclass(frozen=True)
class Row:
    """One row of cells, one a column."""

    title: str
    group: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """Rows and columns that are printed together; Table 3 has one for each score."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    corner: str = "Method"


@dataclass(frozen=True)
class Table:
    """One table of the report."""

    number: int
    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells."""
        return tuple(cell for block in self.blocks for row in block.rows for cell in row.cells)


@dataclass(frozen=True)
class Source:
    """What all tables are made of.

    Attributes:
        means: frame of ``run_means``.
        training_cases: (task, label ratio) → number of training cases, where known.
        test_cases: task → number of test cases, where known.
    """

    means: pd.DataFrame
    study: Study
    paper: PaperValues
    training_cases: Mapping[tuple[str, float], int]
    test_cases: Mapping[str, int]

    def column(self, task: Task, metric: str, ratio: float = 1.0) -> Column:
        """A column of one task and metric at full labels."""
        chosen = self.means[(self.means["task"] == task.name) & (self.means["metric"] == metric)]
        scored = float(chosen["cases"].max()) if len(chosen) else math.nan
        # AUC and accuracy are one number a run; the number of cases is in its record only.
        cases = int(scored) if math.isfinite(scored) else self.test_cases.get(task.name)
        return Column(
            task=task.name,
            title=task.title,
            metric=metric,
            ratio=ratio,
            cases=cases,
            paper=layout.paper_column(task),
        )

    def cell(self, table: int, row: RowSpec, column: Column) -> Cell:
        """One cell; ``row.method`` None or a run that is not there gives a missing cell."""
        paper = self.paper.get((table, row.paper_row, _paper_key(column), column.metric))
        if row.method is None:
            return Cell(0, 0, paper=paper)
        planned = len(
            {
                run.seed
                for run in self.study.runs
                if (run.task, run.method, run.variant) == (column.task, row.method, row.variant)
                and abs(run.ratio - column.ratio) < 1e-9
            }
        )
        values = select(
            self.means,
            task=column.task,
            metric=column.metric,
            method=row.method,
            variant=row.variant,
            ratio=column.ratio,
        )["value"]
        return summarise(values.to_list(), planned, FACTORS[column.metric], paper)

    def average(self, table: int, row: RowSpec, columns: Sequence[Column], paper: str) -> Cell:
        """Mean over tasks for every seed that all tasks have, then over seeds."""
        value = self.paper.get((table, row.paper_row, paper, columns[0].metric))
        if row.method is None:
            return Cell(0, 0, paper=value)
        per_task = [
            select(self.means, task=c.task, metric=c.metric, method=row.method).set_index("seed")[
                "value"
            ]
            for c in columns
        ]
        seeds = set.intersection(*(set(series.index) for series in per_task))
        values = [sum(float(s[seed]) for s in per_task) / len(per_task) for seed in sorted(seeds)]
        return summarise(values, len(self.study.seeds), FACTORS[columns[0].metric], value)


def summarise(values: Iterable[float], planned: int, factor: float, paper: str | None) -> Cell:
    """Mean and sample standard deviation of one value a seed, times ``factor``."""
    scaled = [factor * float(value) for value in values]
    n = len(scaled)
    if not n:
        return Cell(0, planned, paper=paper)
    mean = math.fsum(scaled) / n
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in scaled) / (n - 1)) if n > 1 else None
    return Cell(n, planned, mean, sd, paper)


def table1(source: Source) -> Table:
    """Table 1: Dice of every method on every segmentation task, and the average."""
    tasks = layout.ordered_tasks(source.study, "segmentation")
    columns = tuple(source.column(task, "dice") for task in tasks)
    absent = layout.absent_columns(tasks, tuple(layout.COLUMNS["segmentation"].values()))
    average: tuple[Column, ...] = ()
    if len(columns) > 1:
        same = not absent and all(column.paper for column in columns)
        paper = layout.AVERAGE if same else ""
        average = (
            Column("", layout.AVERAGE, "dice", detail=f"of {len(columns)} tasks", paper=paper),
        )
    rows = tuple(
        Row(
            spec.title,
            spec.group,
            tuple(source.cell(1, spec, column) for column in columns)
            + tuple(source.average(1, spec, columns, column.paper) for column in average),
        )
        for spec in layout.method_rows(source.study, "segmentation")
    )
    block = mark_best(Block("", (*columns, *average), rows if columns else ()))
    title = "Segmentation: Dice after fine-tuning with all labels"
    return _table(source, 1, title, (block,), absent)


def table2(source: Source) -> Table:
    """Table 2: AUC and accuracy of every method on the classification tasks."""
    tasks = layout.ordered_tasks(source.study, "classification")
    columns = tuple(source.column(task, metric) for task in tasks for metric in task.metrics)
    specs = layout.method_rows(source.study, "classification")
    absent = layout.absent_columns(tasks, tuple(layout.COLUMNS["classification"].values()))
    title = "Classification: AUC and accuracy after fine-tuning with all labels"
    return _table(source, 2, title, (_block(source, 2, "", columns, specs),), absent)


def table3(source: Source) -> Table:
    """Table 3: scores with fewer labels, one block for each score."""
    study = source.study
    ratios = tuple(sorted({1.0, *study.ratios}, reverse=True))
    tasks = tuple(study.tasks[name] for name in study.ratio_tasks)
    blocks = []
    for task in tasks:
        specs = layout.method_rows(study, task.type)
        for metric in task.metrics:
            base = source.column(task, metric)
            columns = tuple(
                replace(
                    base,
                    title=f"{100 * ratio:g} % of labels",
                    ratio=ratio,
                    detail=_labels(source.training_cases.get((task.name, ratio))),
                )
                for ratio in ratios
            )
            blocks.append(_block(source, 3, task.title, columns, specs))
    absent = layout.absent_columns(tasks, layout.RATIO_COLUMNS)
    return _table(source, 3, "Fine-tuning with fewer labels", tuple(blocks), absent)


def table4(source: Source) -> Table:
    """Table 4: our method and what each of its parts is worth."""
    tasks = tuple(source.study.tasks[name] for name in source.study.ablation_tasks)
    columns = tuple(source.column(task, metric) for task in tasks for metric in task.metrics)
    specs = layout.ablation_rows(source.study)
    absent = layout.absent_columns(tasks, layout.ABLATION_COLUMNS)
    title = "Ablation of our pre-training"
    block = replace(_block(source, 4, "", columns, specs), corner="Variant")
    return _table(source, 4, title, (block,), absent)


def all_tables(source: Source) -> tuple[Table, ...]:
    """Tables 1–4 in order."""
    return (table1(source), table2(source), table3(source), table4(source))


def mark_best(block: Block) -> Block:
    """Mark the largest mean of each column as best, where at least two rows have run."""
    best: dict[int, float] = {}
    for index in range(len(block.columns)):
        means = [row.cells[index].mean for row in block.rows]
        finite = [m for m in means if m is not None and not math.isnan(m)]
        if len(finite) > 1:
            best[index] = max(finite)
    rows = tuple(
        replace(
            row,
            cells=tuple(
                replace(cell, best=True) if cell.n and cell.mean == best.get(i) else cell
                for i, cell in enumerate(row.cells)
            ),
        )
        for row in block.rows
    )
    return replace(block, rows=rows)


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
    table = Table(number, title, blocks, ())
    columns = [column for block in blocks for column in block.columns]
    tasks = [source.study.tasks[c.task] for c in columns if c.task]
    notes = table_notes(
        scale=source.study.scale,
        absent=absent,
        has_columns=bool(columns),
        any_missing=any(cell.status == "missing" for cell in table.cells),
        any_partial=any(cell.status == "partial" for cell in table.cells),
        any_paper_missing=any(cell.paper is None for cell in table.cells),
        grids={task.title: task.score_grid for task in tasks if task.score_grid},
    )
    return replace(table, notes=notes)


def _paper_key(column: Column) -> str:
    if not column.paper:
        return "no column of the paper"
    return column.paper if column.ratio == 1.0 else f"{column.paper} {100 * column.ratio:g}"


def _labels(count: int | None) -> str:
    return "" if count is None else f"{count} training cases"


def source_of(context: RunContext, scores: pd.DataFrame, study: Study) -> Source:
    """Gather what the tables are made of."""
    training: dict[tuple[str, float], int] = {}
    test: dict[str, int] = {}
    for run in study.runs:
        record = read_record(context.inputs, run.id, "summary.json")
        if "n_train" in record:
            training.setdefault((run.task, run.ratio), int(record["n_train"]))
        if "n_test" in record:
            test.setdefault(run.task, int(record["n_test"]))
    return Source(run_means(scores), study, paper_values(), training, test)


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
    """Write tables, metrics.json and the CSV files behind ``dvc plots`` into ``context.out``."""
    from voxseq.report import curves, render, statistics

    study = Study.from_config(context.config)
    scores = collect(context)
    missing = missing_runs(study, scores)
    if missing:
        _LOG.warning("%d of %d runs are missing", len(missing), len(study.runs))
    source = source_of(context, scores, study)
    folder = context.out / "tables"
    for table in all_tables(source):
        stem = f"table{table.number}"
        write_text(folder / f"{stem}.csv", render.to_csv(table))
        write_text(folder / f"{stem}.md", render.to_markdown(table))
        write_text(folder / f"{stem}.tex", render.to_latex(table))
    differences = statistics.differences(study, scores, context.inputs)
    write_text(folder / "differences.csv", render.frame_to_csv(differences))
    write_text(folder / "differences.md", statistics.to_markdown(study, differences))
    write_text(folder / "scores.csv", render.frame_to_csv(source.means))
    write_text(folder / "scores_per_class.csv", render.frame_to_csv(class_means(scores)))
    write_json(context.out / "metrics.json", metrics_of(source.means))
    curves.write_plot_data(context, study, source.means)
