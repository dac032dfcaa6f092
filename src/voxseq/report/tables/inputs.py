"""Inputs of the tables, and how a cell is computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from voxseq.config.report_run import MAIN_TABLES, ReportRun, ReportTask
from voxseq.report.metrics import PRINTED
from voxseq.report.results import sizes_of
from voxseq.report.sheet import Cell, Column, summarise
from voxseq.report.tables import layout
from voxseq.report.tables.differences import compare_rows
from voxseq.report.tables.layout import RowSpec
from voxseq.report.tables.paper import PaperValues, in_percent, paper_values
from voxseq.report.tables.rows import RowKey, RowScores, row_scores

#: Stages whose runs fill the cells of each table.
STAGES: Mapping[int, tuple[str, ...]] = {
    **dict.fromkeys(MAIN_TABLES.values(), ("finetune",)),
    3: ("finetune", "label_ratio"),
    4: ("finetune", "ablation"),
    5: ("beyond",),
}


@dataclass(frozen=True)
class TableInputs:
    """Inputs of all tables.

    Attributes:
        scores: of all rows.
        training_cases: (task, label ratio) → number of training cases, where known.
        test_cases: task → number of test cases, where known.
        differences: frame of ``compare_rows``.
    """

    scores: RowScores
    study: ReportRun
    paper: PaperValues
    training_cases: Mapping[tuple[str, float], int]
    test_cases: Mapping[str, int]
    differences: pd.DataFrame

    @property
    def means(self) -> pd.DataFrame:
        """One value for every run and metric."""
        return self.scores.means

    @cached_property
    def _compared(self) -> Mapping[tuple[Any, ...], Mapping[Any, Any]]:
        """Table, task, metric, ratio, method and variant → comparison with the row's reference."""
        return {
            (*(row[k] for k in ("table", "task", "metric", "ratio", "other", "variant")),): row
            for row in self.differences.to_dict("records")
        }

    def columns(self, tasks: tuple[ReportTask, ...]) -> tuple[Column, ...]:
        """A column for each task and metric, at full labels."""
        return tuple(self._column(task, metric) for task in tasks for metric in task.metrics)

    def _column(self, task: ReportTask, metric: str) -> Column:
        chosen = self.means[(self.means["task"] == task.name) & (self.means["metric"] == metric)]
        scored = float(chosen["cases"].max()) if len(chosen) else math.nan
        # AUC and accuracy are one number per run; the number of cases is in its record only.
        cases = int(scored) if math.isfinite(scored) else self.test_cases.get(task.name)
        paper = layout.paper_column(task)
        unit = task.unit if PRINTED[metric].in_unit_of_task else ""
        seeds = self.seeds_of(task.name)
        return Column(
            task.title, task.name, metric, cases=cases, seeds=seeds, paper=paper, unit=unit
        )

    def seeds_of(self, *tasks: str) -> int | None:
        """Number of seeds of the rows of some tasks; ``None`` where nothing has run."""
        chosen = self.means[self.means["task"].isin(tasks)]
        return int(chosen["seed"].nunique()) or None

    def cell(self, table: int, row: RowSpec, column: Column) -> Cell:
        """One cell; a run that is not there gives a missing cell."""
        if column.task:
            runs = self.study.runs_of(column.task, row.method, row.variant, column.ratio)
            planned = len({run.seed for run in runs if run.stage in STAGES[table]})
        else:
            planned = len(self.study.seeds)
        cell = self._summary(table, column, (row.method, row.variant), planned)
        cell = replace(cell, paper=self._paper(table, row, column))
        return self._marked(table, row, column, cell)

    def mean_of(self, series: tuple[str, str], column: Column) -> float | None:
        """Mean over seeds of a row of Table 1, 2 or 5 in the printed unit; None: not run."""
        return self._summary(5 if series[1] else 1, column, series, 0).mean

    def _summary(self, table: int, column: Column, series: tuple[str, str], planned: int) -> Cell:
        """Mean over seeds, and its interval."""
        average = [task.name for task in layout.average_tasks(self.study)]
        tasks = [column.task] if column.task else average
        metric = PRINTED[column.metric]
        for stage in STAGES[table]:
            row = RowKey(stage, *series, column.ratio)
            seeds = self.scores.seeds(column.metric, tasks, row)
            if not seeds:
                continue
            parts = [self.scores.values(column.metric, task, row) for task in tasks]
            values = [sum(float(part[seed]) for part in parts) / len(parts) for seed in seeds]
            found = self.scores.alone(column.metric, tasks, row)
            # The interval is around the mean as it is printed: over cases, then classes.
            half = math.nan if found is None else found.half
            return summarise(values, planned, metric.factor, None, half, metric.bounds)
        return Cell(0, planned)

    def _paper(self, table: int, row: RowSpec, column: Column) -> str | None:
        """The paper's value of a cell in the printed unit."""
        name = f"{row.paper_row} {100 * column.ratio:g}%" if table == 3 else row.paper_row
        value = self.paper.get((table, name, column.paper, column.metric))
        return in_percent(value) if value and PRINTED[column.metric].unit == "%" else value

    def _marked(self, table: int, row: RowSpec, column: Column, cell: Cell) -> Cell:
        key = (table, column.task, column.metric, column.ratio, row.method, row.variant)
        found = self._compared.get(key)
        # Without a corrected p there are too few seeds for a test.
        if found is None or math.isnan(found["p_holm"]):
            return cell
        p = float(found["p_holm"])
        if not found["marked"]:
            return replace(cell, mark="unclear", p_holm=p)
        # The difference is the reference minus this row.
        is_worse = PRINTED[column.metric].is_better(found["difference"])
        return replace(cell, mark="below" if is_worse else "above", p_holm=p)


def table_inputs(study: ReportRun, scores: pd.DataFrame, inputs: Mapping[str, Path]) -> TableInputs:
    """Gather the inputs of the tables, with every comparison.

    Args:
        study: what was planned.
        scores: frame of ``collect``.
        inputs: run id → folder, for the files of the seeds.
    """
    training: dict[tuple[str, float], int] = {}
    test: dict[str, int] = {}
    sizes = sizes_of(study, inputs)
    # Baselines without a network may count their cases otherwise, and come last.
    for run in sorted(study.runs, key=lambda run: run.stage == "beyond"):
        if (run.task, run.ratio) in training and run.task in test:
            continue
        record = sizes.get(run.id, {})
        if "n_train" in record:
            training.setdefault((run.task, run.ratio), record["n_train"])
        if "n_test" in record:
            test.setdefault(run.task, int(record["n_test"]))
    rows = row_scores(study, scores, inputs)
    return TableInputs(rows, study, paper_values(), training, test, compare_rows(rows))
