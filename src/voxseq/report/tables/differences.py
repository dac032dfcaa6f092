"""Every row of a table against its reference: differences with intervals, and marks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import astuple, fields
from itertools import product
from typing import Any, NamedTuple

import pandas as pd

from voxseq.config.report_run import MAIN_TABLES, REFERENCE, ReportRun
from voxseq.config.task_types import TaskType
from voxseq.evaluation.comparison import Comparison
from voxseq.evaluation.statistics import SIGNIFICANT, corrected, marking_rule
from voxseq.report.metrics import PRINTED, printed
from voxseq.report.sheet import NOT_APPLICABLE, Sheet, text_block
from voxseq.report.tables import layout
from voxseq.report.tables.claimed import primary_contrasts
from voxseq.report.tables.rows import RowKey, RowScores
from voxseq.report.writers import notes

#: Stands for the average of Table 1 where a task is named.
ALL_TASKS = ""
_RESULT = tuple(field.name for field in fields(Comparison))
_ASKED = (
    *("table", "stage", "task", "ratio", "metric"),
    *("reference", "reference_variant", "other", "variant"),
)
COLUMNS = (*_ASKED, *_RESULT, "primary", "p_holm", "marked")
HEADER = (
    *("Task", "Labels", "Score", "Reference", "Other", "Difference [95 % interval]"),
    *("p", "p (Holm)", "Marked", "Test", "Cases", "Seeds"),
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


def compare_rows(scores: RowScores) -> pd.DataFrame:
    """Every row of every table against its reference, where both have run.

    The reference of Tables 1–4 is our full method; Table 5 names one for each row. Rows are paired
    by seed, on the seeds that both have.

    Returns:
        One row per comparison, columns ``COLUMNS``; difference = reference − other in 0..1, or in
        the unit of the score; p_holm is corrected over those comparisons of the table that their
        seeds allow to be marked, NaN for others. A column of Table 3 with all labels repeats a
        comparison of Table 1 or 2, corrected anew. The task of the average of Table 1 is empty.
    """
    asked = list(questions(scores.study))
    found = _answers(scores, asked)
    rows = [
        (*question[:5], *question.reference, *question.other, *astuple(one))
        for question in asked
        if (one := found[question]) is not None
    ]
    frame = pd.DataFrame(rows, columns=[*_ASKED, *_RESULT])
    frame["primary"] = _primary(scores.study, frame)
    frame["p_holm"] = math.nan
    for _, part in frame.groupby("table", sort=False):
        family = [Comparison(*one) for one in part[list(_RESULT)].itertuples(index=False)]
        frame.loc[part.index, "p_holm"] = corrected(family, list(part["primary"]))
    frame["marked"] = frame["p_holm"] < SIGNIFICANT
    return frame.loc[:, list(COLUMNS)]


def _answers(scores: RowScores, asked: list[Question]) -> dict[Question, Comparison | None]:
    """Question → comparison; rows that are compared on the same column are compared together."""
    averaged = [task.name for task in layout.average_tasks(scores.study)]
    columns: dict[tuple[Any, ...], list[Question]] = {}
    for question in asked:
        # Rows of Table 5 differ in more than their weights, unless they are of one kind.
        kind = question.other[1] if question.table == 5 else ""
        columns.setdefault((*question[:6], kind), []).append(question)
    found: dict[Question, Comparison | None] = {}
    for members in columns.values():
        first = members[0]
        tasks = averaged if first.task == ALL_TASKS else [first.task]
        # Our full method and the methods of Table 5's references stand in Tables 1 and 2.
        stage = "label_ratio" if first.stage == "label_ratio" else "finetune"
        stage = "beyond" if first.reference[1] else stage
        reference = RowKey(stage, *first.reference, first.ratio)
        others = [RowKey(one.stage, *one.other, one.ratio) for one in members]
        found |= zip(members, scores.against(first.metric, tasks, reference, others), strict=True)
    return found


def _primary(study: ReportRun, frame: pd.DataFrame) -> list[bool]:
    """Whether each comparison is one of the contrasts that were named before any was run."""
    named = primary_contrasts(study)
    keys = ("table", "task", "metric", "other", "variant")
    return [
        row["reference"] == REFERENCE
        and row["ratio"] == 1.0
        and tuple(row[key] for key in keys) in named
        for row in frame.to_dict("records")
    ]


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
            for metric, ratio, other in product(task.metrics, study.ratios, others):
                stage = "finetune" if ratio == 1.0 else "label_ratio"
                yield Question(3, stage, task.name, ratio, metric, own, other)
        for task in (tasks[name] for name in study.ablation_tasks):
            for metric, variant in product(task.metrics, study.ablation):
                other = (REFERENCE, variant)
                yield Question(4, "ablation", task.name, 1.0, metric, own, other)
    compared = [row for row in study.beyond if row.is_compared]
    for task in (tasks[name] for name in study.beyond_tasks):
        for metric, row in product(task.metrics, compared):
            yield Question(5, "beyond", task.name, 1.0, metric, row.reference, row.series)


def _others(study: ReportRun, kind: TaskType) -> list[tuple[str, str]]:
    return [(method, "") for method in study.methods_of(kind) if method != study.reference]


def _columns(study: ReportRun, kind: TaskType) -> list[tuple[str, str]]:
    """Task and metric of the columns of a type's table."""
    tasks, averaged = layout.ordered_tasks(study, kind), layout.average_tasks(study, kind)
    columns = [(task.name, metric) for task in tasks for metric in task.metrics]
    common = layout.common_metrics(averaged) if averaged else ()
    return columns + [(ALL_TASKS, metric) for metric in common]


def rules(frame: pd.DataFrame) -> list[str]:
    """What the numbers of seeds of some comparisons allow to be marked, the most seeds first."""
    seeds = sorted(set(map(int, frame["seeds"])), reverse=True)
    return list(dict.fromkeys(marking_rule(count) for count in seeds))[:1] if seeds else []


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
        rules=rules(frame),
        one_seed=bool((frame["seeds"] == 1).any()),
        primary=bool(frame["primary"].any()),
        papers=set(metrics) <= {"dice", "auc", "accuracy"},
        lower=[PRINTED[name].title for name in metrics if PRINTED[name].lower_is_better],
    )
    return Sheet(
        "differences",
        "Differences from the reference method",
        tuple(blocks),
        lines,
        empty="missing: no pair of methods has run.",
        phantoms=study.phantoms,
    )


def _cells(study: ReportRun, row: Mapping[Any, Any]) -> list[str]:
    """The printed cells of one comparison, one for each word of ``HEADER``."""
    unit = study.tasks[row["task"]].unit if row["task"] else ""
    metric = printed(row["metric"], unit)
    return [
        layout.task_title(study, row["task"]),
        f"{100 * row['ratio']:g} %",
        metric.header if metric.in_unit_of_task else metric.title,
        study.series_title(row["reference"], row["reference_variant"]),
        study.series_title(row["other"], row["variant"]),
        metric.gap(row["difference"], row["low"], row["high"]),
        p_text(row["p"]),
        p_text(row["p_holm"]),
        "yes" if row["marked"] else "no",
        row["test"],
        str(row["cases"] or NOT_APPLICABLE),
        str(row["seeds"]),
    ]


def p_text(p: float) -> str:
    """A p value in print; a dash where there is none."""
    if math.isnan(p):
        return NOT_APPLICABLE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
