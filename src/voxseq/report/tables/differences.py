"""Every row of a table against its reference: paired comparisons with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from voxseq.config.report_run import MAIN_TABLES, REFERENCE, ReportRun
from voxseq.config.task_types import TaskType
from voxseq.evaluation.statistics import (
    DELONG,
    WILCOXON,
    Comparison,
    Draws,
    Pairing,
    compare_auc,
    compare_mean_dice,
    holm,
    smallest_p,
)
from voxseq.report.metrics import PRINTED, printed
from voxseq.report.sheet import Sheet, text_block
from voxseq.report.tables import layout
from voxseq.report.tables.sides import Side, Sides, sides_of_metrics, tested_metrics
from voxseq.report.writers import notes

#: A difference is clear below this corrected p value, if its interval leaves out zero as well.
SIGNIFICANT = 0.05
#: Stands for the average of Table 1 where a task is named.
ALL_TASKS = ""
COLUMNS = (
    *("table", "stage", "task", "ratio", "metric"),
    *("reference", "reference_variant", "other", "variant"),
    *("difference", "low", "high", "p", "p_holm", "test", "cases", "seeds", "seeds_other"),
)
HEADER = (
    *("Task", "Labels", "Score", "Reference", "Other", "Difference [95 % interval]"),
    *("p", "p (Holm)", "Clear", "Test", "Cases", "Seeds"),
)


class Question(NamedTuple):
    """One comparison that a table asks for; an empty task is the average of Table 1.

    Attributes:
        stage: stage of the other's runs.
        reference: method and variant.
        other: method and variant.
    """

    table: int
    stage: str
    task: str
    ratio: float
    metric: str
    reference: tuple[str, str]
    other: tuple[str, str]


def compare_rows(
    study: ReportRun, scores: pd.DataFrame, inputs: Mapping[str, Path]
) -> pd.DataFrame:
    """Every row of every table against its reference, where both have run.

    The reference of Tables 1–4 is our full method; Table 5 names one for each row. Where both
    have the same seeds they are paired by seed. Where they have not, as with a method that draws
    nothing and is run once, each is averaged over its own seeds: the difference is then still
    that of the two cells.

    Args:
        study: what was planned.
        scores: frame of ``collect``.
        inputs: run id → folder, for the files of the seeds.

    Returns:
        One row per comparison, columns ``COLUMNS``; difference = reference − other in 0..1; p_holm
        is corrected over the comparisons of the table. A column of Table 3 with all labels repeats
        a comparison of Table 1 or 2, corrected anew. The task of the average of Table 1 is empty.
    """
    draws = Draws(study.report.bootstrap_samples, (study.report.figure_seed, 7))
    comparer = _Comparer(study, sides_of_metrics(study, scores, inputs), draws)
    rows: list[dict[str, Any]] = []
    known: dict[tuple[Any, ...], Comparison | None] = {}
    for question in questions(study):
        if question[1:] not in known:
            known[question[1:]] = comparer.answer(question)
        found = known[question[1:]]
        if found is not None:
            asked = (*question[:5], *question.reference, *question.other)
            rows.append({**dict(zip(COLUMNS, asked, strict=False)), **vars(found)})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["p_holm"] = frame.groupby("table")["p"].transform(lambda p: holm(p.tolist()))
    return frame


def questions(study: ReportRun) -> Iterator[Question]:
    """The comparisons of Tables 1–5 in order, whether or not they have run."""
    tasks = study.tasks
    if study.reference is not None:
        own = (study.reference, "")
        for kind, table in MAIN_TABLES.items():
            for (name, metric), other in product(_columns(study, kind), _others(study, kind)):
                yield Question(table, "finetune", name, 1.0, metric, own, other)
        for task in (tasks[name] for name in study.ratio_tasks):
            others = _others(study, task.type)
            for metric, ratio, other in product(tested_metrics(task), study.ratios, others):
                stage = "finetune" if ratio == 1.0 else "label_ratio"
                yield Question(3, stage, task.name, ratio, metric, own, other)
        for task in (tasks[name] for name in study.ablation_tasks):
            for metric, variant in product(tested_metrics(task), study.ablation):
                other = (REFERENCE, variant)
                yield Question(4, "ablation", task.name, 1.0, metric, own, other)
    compared = [row for row in study.beyond if row.is_compared]
    for task in (tasks[name] for name in study.beyond_tasks):
        for metric, row in product(tested_metrics(task), compared):
            yield Question(5, "beyond", task.name, 1.0, metric, row.reference, row.series)


def _others(study: ReportRun, kind: TaskType) -> list[tuple[str, str]]:
    return [(method, "") for method in study.methods_of(kind) if method != study.reference]


def _columns(study: ReportRun, kind: TaskType) -> list[tuple[str, str]]:
    """Task and metric of the columns of a type's table that rows are compared by."""
    tasks, averaged = layout.ordered_tasks(study, kind), layout.average_tasks(study, kind)
    columns = [(task.name, metric) for task in tasks for metric in tested_metrics(task)]
    common = layout.common_metrics(averaged) if averaged else ()
    return columns + [(ALL_TASKS, metric) for metric in common]


def is_clear(row: Mapping[Any, Any]) -> bool:
    """Whether a comparison is clear: corrected p below 0.05, and an interval without zero.

    The test is over cases, for the seeds that were run; the interval is over cases and seeds.
    """
    return bool(row["p_holm"] < SIGNIFICANT and (row["low"] > 0 or row["high"] < 0))


def out_of_reach(study: ReportRun, table: pd.DataFrame) -> tuple[str, ...]:
    """Titles of the tasks with too few test cases for any difference of theirs to be clear.

    A signed-rank test of n cases cannot give less than 2^(1-n). Holm's correction multiplies that
    by at least the number of comparisons with no more cases.

    Args:
        study: for the titles.
        table: the comparisons of one table.
    """
    ranked = table[table["test"] == WILCOXON]
    found = []
    for cases in sorted(set(ranked["cases"])):
        if smallest_p(int(cases)) * int((ranked["cases"] <= cases).sum()) >= SIGNIFICANT:
            found += list(dict.fromkeys(ranked.loc[ranked["cases"] == cases, "task"]))
    return tuple(layout.task_title(study, name) for name in found)


def differences_sheet(study: ReportRun, frame: pd.DataFrame) -> Sheet:
    """The comparisons as one block for each table of the study."""
    blocks = (
        text_block(
            layout.table_name(study, int(str(number))),
            HEADER,
            (_cells(study, r) for r in part.to_dict("records")),
        )
        for number, part in frame.groupby("table", sort=False)
    )
    metrics = dict.fromkeys(frame["metric"])
    lines = notes(
        "notes_differences.txt",
        samples=study.report.bootstrap_samples,
        wilcoxon=WILCOXON,
        delong=DELONG,
        significant=SIGNIFICANT,
        papers=set(metrics) <= {"dice", "auc", "accuracy"},
        lower=[PRINTED[name].title for name in metrics if PRINTED[name].lower_is_better],
    )
    return Sheet(
        "differences",
        "Rows against their references",
        tuple(blocks),
        lines,
        empty="missing: no pair of methods has run.",
        phantoms=study.phantoms,
    )


def _cells(study: ReportRun, row: Mapping[Any, Any]) -> list[str]:
    """The printed cells of one comparison, one for each word of ``HEADER``."""
    unit = study.tasks[row["task"]].unit if row["task"] else ""
    metric = printed(row["metric"], unit)
    decimals = metric.decimals(metric.factor * row["difference"])
    scaled = (metric.factor * row[key] for key in ("difference", "low", "high"))
    gap, low, high = (
        "undefined" if math.isnan(value) else f"{value:+.{decimals}f}" for value in scaled
    )
    seeds, seeds_other = row["seeds"], row["seeds_other"]
    return [
        layout.task_title(study, row["task"]),
        f"{100 * row['ratio']:g} %",
        metric.header if metric.in_unit_of_task else metric.title,
        study.series_title(row["reference"], row["reference_variant"]),
        study.series_title(row["other"], row["variant"]),
        f"{gap} [{low}, {high}]",
        _p_text(row["p"]),
        _p_text(row["p_holm"]),
        "yes" if is_clear(row) else "no",
        row["test"],
        str(row["cases"]),
        str(seeds) if seeds == seeds_other else f"{seeds} and {seeds_other}",
    ]


def _p_text(p: float) -> str:
    if math.isnan(p):
        return "undefined"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


@dataclass(frozen=True)
class _Comparer:
    """Answers questions from the scores of single cases of each metric."""

    study: ReportRun
    sides: Mapping[str, Sides]
    draws: Draws

    def answer(self, question: Question) -> Comparison | None:
        """The comparison; ``None`` where one of the two has not run or no case is common."""
        averaged = [task.name for task in layout.average_tasks(self.study)]
        tasks = averaged if question.task == ALL_TASKS else [question.task]
        pairs = [pair for task in tasks if (pair := self._pair(question, task))]
        seeds = {(a.seeds, b.seeds) for a, b in pairs}
        # An average is that of tasks which all have the same seeds.
        if len(pairs) < len(tasks) or len(seeds) != 1:
            return None
        a, b = pairs[0]
        paired = a.seeds == b.seeds
        if a.target is None:
            values = [(a.values, b.values) for a, b in pairs]
            return compare_mean_dice(values, self.draws, paired=paired)
        both = Pairing(a.target, a.values[..., 0], b.values[..., 0], paired)
        return compare_auc(both, self.draws)

    def _pair(self, question: Question, task: str) -> tuple[Side, Side] | None:
        """Both sides on their common cases."""
        sides = self.sides.get(question.metric, {})
        ratio = round(question.ratio, 9)
        # Our full method and the methods of Table 5's references stand in Tables 1 and 2.
        stage = "label_ratio" if question.stage == "label_ratio" else "finetune"
        stage = "beyond" if question.reference[1] else stage
        a = sides.get((stage, task, *question.reference, ratio))
        b = sides.get((question.stage, task, *question.other, ratio))
        if a is None or b is None:
            return None
        cases, labels = np.intersect1d(a.cases, b.cases), np.intersect1d(a.labels, b.labels)
        return (a.part(cases, labels), b.part(cases, labels)) if cases.size else None
