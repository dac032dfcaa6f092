"""What the tables are made of, and how one cell comes from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from voxseq.report.results import read_record, run_means, select
from voxseq.report.sheet import Cell, Column, Mark, summarise
from voxseq.report.study import FACTORS, UNITS, Study, Task
from voxseq.report.tables import differences as statistics
from voxseq.report.tables import layout
from voxseq.report.tables.layout import RowSpec
from voxseq.report.tables.paper import PaperValues, in_percent, paper_values

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext

#: Stages whose runs fill the cells of each table.
STAGES: Mapping[int, tuple[str, ...]] = {
    1: ("finetune",),
    2: ("finetune",),
    3: ("finetune", "label_ratio"),
    4: ("finetune", "ablation"),
    5: ("beyond",),
}


@dataclass(frozen=True)
class Source:
    """What all tables are made of.

    Attributes:
        means: frame of ``run_means``.
        training_cases: (task, label ratio) → number of training cases, where known.
        test_cases: task → number of test cases, where known.
        differences: frame of ``statistics.differences``.
    """

    means: pd.DataFrame
    study: Study
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
    def _of_table(self) -> Mapping[int, pd.DataFrame]:
        stage = self.means["stage"]
        return {number: self.means[stage.isin(stages)] for number, stages in STAGES.items()}

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
        paper = self._paper(table, row, column)
        if row.method is None:
            return Cell(0, 0, paper=paper)
        runs = self.study.runs_of(column.task, row.method, row.variant, column.ratio)
        planned = len({run.seed for run in runs if run.stage in STAGES[table]})
        cell = summarise(
            self._values(table, column, row.method, row.variant),
            planned,
            FACTORS[column.metric],
            paper,
        )
        return self._marked(table, row, column, cell)

    def average(self, table: int, row: RowSpec, column: Column) -> Cell:
        """Mean over the tasks of the average for every seed that all have, then over seeds."""
        paper = self._paper(table, row, column)
        if row.method is None:
            return Cell(0, 0, paper=paper)
        tasks = layout.average_tasks(self.study)
        per_task = [
            self._values(table, replace(column, task=task.name), row.method, row.variant)
            for task in tasks
        ]
        seeds = set.intersection(*(set(series.index) for series in per_task))
        values = [sum(float(s[seed]) for s in per_task) / len(per_task) for seed in sorted(seeds)]
        cell = summarise(values, len(self.study.seeds), FACTORS[column.metric], paper)
        return self._marked(table, row, column, cell)

    def mean_of(self, series: tuple[str, str], column: Column) -> float | None:
        """Mean over seeds of a row of Table 1, 2 or 5 in the printed unit; None: not run."""
        table = 5 if series[1] else 1
        return summarise(self._values(table, column, *series), 0, FACTORS[column.metric], None).mean

    def _paper(self, table: int, row: RowSpec, column: Column) -> str | None:
        """The paper's value of a cell in the printed unit."""
        name = f"{row.paper_row} {100 * column.ratio:g}%" if table == 3 else row.paper_row
        value = self.paper.get((table, name, column.paper, column.metric))
        return in_percent(value) if value and UNITS[column.metric] == "%" else value

    def _values(self, table: int, column: Column, method: str, variant: str) -> pd.Series[Any]:
        """One score a seed, with the seed as index."""
        return select(
            self._of_table[table],
            task=column.task,
            metric=column.metric,
            method=method,
            variant=variant,
            ratio=column.ratio,
        ).set_index("seed")["value"]

    def _marked(self, table: int, row: RowSpec, column: Column, cell: Cell) -> Cell:
        key = (table, column.task, column.metric, column.ratio, row.method, row.variant)
        found = self._compared.get(key)
        if found is None:
            return cell
        mark: Mark = "unclear"
        if statistics.is_clear(found):
            mark = "below" if found["difference"] > 0 else "above"
        p = float(found["p_holm"])
        return replace(cell, mark=mark, p_holm=None if math.isnan(p) else p)


def source_of(context: RunContext, scores: pd.DataFrame, study: Study) -> Source:
    """Gather what the tables are made of, with every comparison."""
    training: dict[tuple[str, float], int] = {}
    test: dict[str, int] = {}
    # Baselines without a network may count their cases otherwise, and come last.
    for run in sorted(study.runs, key=lambda run: run.stage == "beyond"):
        if (run.task, run.ratio) in training and run.task in test:
            continue
        record = read_record(context.inputs, run.id, "summary.json")
        if "n_train" in record:
            training.setdefault((run.task, run.ratio), int(record["n_train"]))
        if "n_test" in record:
            test.setdefault(run.task, int(record["n_test"]))
    differences = statistics.differences(study, scores, context.inputs)
    return Source(run_means(scores), study, paper_values(), training, test, differences)
