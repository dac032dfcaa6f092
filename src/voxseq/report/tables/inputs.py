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
from voxseq.report.results import cell_values, run_means, sizes_of
from voxseq.report.sheet import Cell, Column, summarise
from voxseq.report.tables import layout
from voxseq.report.tables.differences import compare_rows, is_clear
from voxseq.report.tables.layout import RowSpec
from voxseq.report.tables.paper import PaperValues, in_percent, paper_values

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
        means: frame of ``run_means``.
        training_cases: (task, label ratio) → number of training cases, where known.
        test_cases: task → number of test cases, where known.
        differences: frame of ``compare_rows``.
    """

    means: pd.DataFrame
    study: ReportRun
    paper: PaperValues
    training_cases: Mapping[tuple[str, float], int]
    test_cases: Mapping[str, int]
    differences: pd.DataFrame

    @cached_property
    def _compared(self) -> Mapping[tuple[Any, ...], Mapping[Any, Any]]:
        """Table, task, metric, ratio, method and variant → comparison with the row's reference."""
        return {
            (*(row[k] for k in ("table", "task", "metric", "ratio", "other", "variant")),): row
            for row in self.differences.to_dict("records")
        }

    @cached_property
    def _by_cell(self) -> Mapping[tuple[Any, ...], pd.Series[Any]]:
        return cell_values(self.means)

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
        return Column(task.title, task.name, metric, cases=cases, paper=paper, unit=unit)

    def cell(self, table: int, row: RowSpec, column: Column) -> Cell:
        """One cell; ``row.method`` None or a run that is not there gives a missing cell."""
        paper = self._paper(table, row, column)
        if row.method is None:
            return Cell(paper=paper)
        if column.task:
            runs = self.study.runs_of(column.task, row.method, row.variant, column.ratio)
            planned = len({run.seed for run in runs if run.stage in STAGES[table]})
            values = list(self._values(table, column, row.method, row.variant))
        else:
            planned = len(self.study.seeds)
            values = self._averages(table, column, row.method)
        cell = summarise(values, planned, PRINTED[column.metric].factor, paper)
        return self._marked(table, row, column, cell)

    def mean_of(self, series: tuple[str, str], column: Column) -> float | None:
        """Mean over seeds of a row of Table 1, 2 or 5 in the printed unit; None: not run."""
        values = self._values(5 if series[1] else 1, column, *series)
        return summarise(values, 0, PRINTED[column.metric].factor, None).mean

    def _averages(self, table: int, column: Column, method: str) -> list[float]:
        """Mean over the tasks of the average for every seed that all of them have."""
        names = [task.name for task in layout.average_tasks(self.study)]
        parts = [self._values(table, replace(column, task=name), method, "") for name in names]
        seeds = set.intersection(*(set(part.index) for part in parts))
        return [sum(float(part[seed]) for part in parts) / len(parts) for seed in sorted(seeds)]

    def _paper(self, table: int, row: RowSpec, column: Column) -> str | None:
        """The paper's value of a cell in the printed unit."""
        name = f"{row.paper_row} {100 * column.ratio:g}%" if table == 3 else row.paper_row
        value = self.paper.get((table, name, column.paper, column.metric))
        return in_percent(value) if value and PRINTED[column.metric].unit == "%" else value

    def _values(self, table: int, column: Column, method: str, variant: str) -> pd.Series[Any]:
        """One score per seed, with the seed as index."""
        for stage in STAGES[table]:
            key = (stage, column.task, column.metric, method, variant, column.ratio)
            if key in self._by_cell:
                return self._by_cell[key]
        return pd.Series(dtype=float)

    def _marked(self, table: int, row: RowSpec, column: Column, cell: Cell) -> Cell:
        key = (table, column.task, column.metric, column.ratio, row.method, row.variant)
        found = self._compared.get(key)
        if found is None:
            return cell
        p = None if math.isnan(found["p_holm"]) else float(found["p_holm"])
        if not is_clear(found):
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
            test.setdefault(run.task, record["n_test"])
    differences = compare_rows(study, scores, inputs)
    return TableInputs(run_means(scores), study, paper_values(), training, test, differences)
