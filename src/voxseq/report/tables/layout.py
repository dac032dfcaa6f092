"""Rows and columns of the tables, and how a study's names map onto them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from voxseq.catalogue import CATALOGUE, DECATHLON
from voxseq.config.registry import METHODS
from voxseq.config.report_run import (
    MAIN_TABLES,
    PAPER_COLUMNS,
    REFERENCE,
    ReportRun,
    ReportTask,
)
from voxseq.config.studies import AblationVariant
from voxseq.config.task_types import TaskType
from voxseq.report.tables.paper import AVERAGE as AVERAGE_COLUMN
from voxseq.report.tables.paper import paper_values

SCRATCH_GROUP = "From scratch"
PRETRAINED_GROUP = "Self-supervised pre-training"
OUTSIDE_GROUP = "Encoders from elsewhere"
ABLATION_GROUP = "Ablation"
#: Order of the groups of rows.
_GROUPS = (SCRATCH_GROUP, OUTSIDE_GROUP, PRETRAINED_GROUP)
AVERAGE = "Average"
#: Tables besides those of the types of task, as a study without the paper's tasks calls them.
TABLE_NAMES: Mapping[int, str] = {3: "Fewer labels", 4: "Ablation", 5: "Controls"}
#: Columns of each table in the paper.
_TABLE_COLUMNS: Mapping[int, tuple[str, ...]] = {
    1: tuple(PAPER_COLUMNS["segmentation"]),
    2: tuple(PAPER_COLUMNS["classification"]),
    3: ("la", "ricord"),
    4: ("task06_lung", "ricord"),
}
FULL = "full"
#: Rows of Table 4 besides the full method, in the paper's order.
ABLATION_ROWS: Mapping[str, str] = {
    "no_sequences": "No sequences (single images)",
    "no_random_start": "No random start (causal attention)",
    "without_spatial": "Without spatial sequences",
    "without_contrast": "Without contrast sequences",
    "without_semantic": "Without semantic sequences",
    "stride4": "Shorter stride (paper: 4)",
    "stride12": "Longer stride (paper: 12)",
}
_PAPER_STRIDE = 8
_PAPER_STRIDES: Mapping[str, int] = {"stride4": 4, "stride12": 12}


@dataclass(frozen=True)
class RowSpec:
    """One row; ``paper_row`` is its name in paper_values.csv, empty where the paper has none."""

    title: str
    group: str
    method: str
    variant: str = ""
    paper_row: str = ""


def paper_column(task: ReportTask) -> str:
    """The paper's column for a task; empty for a task that the paper does not have."""
    return task.dataset if task.is_papers else ""


def table_name(study: ReportRun, number: int) -> str:
    """A table inside a sentence: "Table 1"; its contents in a study without the paper's tasks."""
    if study.is_papers:
        return f"Table {number}"
    names = {table: kind.capitalize() for kind, table in MAIN_TABLES.items()}
    return {**TABLE_NAMES, **names}[number]


def task_title(study: ReportRun, name: str) -> str:
    """Title of a task; an empty name is the average."""
    return study.tasks[name].title if name else AVERAGE


def average_tasks(study: ReportRun, kind: TaskType = "segmentation") -> tuple[ReportTask, ...]:
    """The tasks that the average of Table 1 is over; none where there is but one.

    As in the paper those of the Medical Segmentation Decathlon, in a study that has several of
    them; in any other study all segmentations. Other types of task have no average.
    """
    tasks = ordered_tasks(study, kind) if kind == "segmentation" else ()
    decathlon = tuple(task for task in tasks if task.is_decathlon)
    chosen = decathlon if len(decathlon) > 1 else tasks
    return chosen if len(chosen) > 1 else ()


def common_metrics(tasks: Sequence[ReportTask]) -> tuple[str, ...]:
    """Metrics that all of some tasks have, in the order of the columns."""
    first, *others = tasks
    return tuple(m for m in first.metrics if all(m in task.metrics for task in others))


def average_column(study: ReportRun) -> str:
    """The paper's column for the average; empty where it is over other tasks than the paper's."""
    columns = [paper_column(task) for task in average_tasks(study)]
    names = PAPER_COLUMNS["segmentation"]
    papers = [name for name in names if CATALOGUE[name].collection == DECATHLON]
    return AVERAGE_COLUMN if columns == papers else ""


def ordered_tasks(study: ReportRun, kind: TaskType) -> tuple[ReportTask, ...]:
    """The study's tasks of one type: the paper's columns in its order, then further ones."""
    order = list(PAPER_COLUMNS.get(kind, ()))
    tasks = study.tasks_of(kind)
    return tuple(
        sorted(tasks, key=lambda t: order.index(t.dataset) if t.dataset in order else len(order))
    )


def all_tasks(study: ReportRun) -> tuple[ReportTask, ...]:
    """The study's tasks, those of one type together."""
    return tuple(task for kind in MAIN_TABLES for task in ordered_tasks(study, kind))


def absent_columns(tasks: Sequence[ReportTask], table: int) -> tuple[str, ...]:
    """The paper's columns of a table that none of the tasks stands for, where others do."""
    if not _has_papers(tasks, table):
        return ()
    present = {paper_column(task) for task in tasks}
    titles = {name: title for columns in PAPER_COLUMNS.values() for name, title in columns.items()}
    return tuple(titles[name] for name in _TABLE_COLUMNS[table] if name not in present)


def _has_papers(tasks: Sequence[ReportTask], table: int) -> bool:
    """Whether a task is a column that the paper has in a table."""
    return any(paper_column(task) in _TABLE_COLUMNS.get(table, ()) for task in tasks)


def method_rows(study: ReportRun, tasks: Sequence[ReportTask], table: int) -> tuple[RowSpec, ...]:
    """The study's methods, those of the paper in its order before others, the reference last.

    Table 3 has the methods that are trained with fewer labels, no others: Tables 1 and 2 have all
    labels.

    Args:
        study: gives the methods.
        tasks: the columns, of one type.
        table: number of the table.
    """
    kind = tasks[0].type
    methods = study.methods_of(kind)
    if table == 3:
        fewer = {(run.task, run.method) for run in study.runs if run.stage == "label_ratio"}
        methods = tuple(m for m in methods if any((task.name, m) in fewer for task in tasks))
    papers = [name for name in _paper_methods(kind, table) if name in methods]
    names = sorted(
        dict.fromkeys([*papers, *methods]),
        key=lambda name: (_GROUPS.index(group_of(name)), name == REFERENCE),
    )
    return tuple(RowSpec(study.title_of(n), group_of(n), n, "", n) for n in names)


def absent_rows(study: ReportRun, tasks: Sequence[ReportTask], table: int) -> tuple[str, ...]:
    """The paper's rows of a table that the study does not run, beside a column of the paper."""
    if not _has_papers(tasks, table):
        return ()
    if table == 4:
        matched = _match_variants(study)
        return tuple(title for key, title in ABLATION_ROWS.items() if key not in matched)
    present = {row.method for row in method_rows(study, tasks, table)}
    names = _paper_methods(tasks[0].type, table)
    return tuple(study.title_of(name) for name in names if name not in present)


def _paper_methods(kind: TaskType, table: int) -> list[str]:
    """Methods of the paper's rows that have a network for a type of task, in its order."""
    rows = _paper_rows(is_main=table < 3)
    return [m.name for m in METHODS.values() if m.name in rows and kind in m.networks]


@cache
def _paper_rows(*, is_main: bool) -> frozenset[str]:
    """Methods of the paper's Tables 1 and 2, or of its Table 3, whose rows also name a share."""
    tables = (1, 2) if is_main else (3,)
    return frozenset(row.split()[0] for table, row, *_ in paper_values() if table in tables)


def group_of(method: str) -> str:
    """Heading above a method's row."""
    if method not in METHODS:
        return OUTSIDE_GROUP
    return PRETRAINED_GROUP if METHODS[method].is_pretrained else SCRATCH_GROUP


def ablation_rows(study: ReportRun) -> tuple[RowSpec, ...]:
    """The full method, variants that are rows of the paper in its order, then further ones."""
    if REFERENCE not in study.methods:
        return ()
    matched = _match_variants(study)
    stride = study.full_stride
    full = "Full method" if stride is None else f"Full method (stride {stride})"
    rows = [RowSpec(full, "", REFERENCE, "", FULL)]
    for key in (key for key in ABLATION_ROWS if key in matched):
        own = key if _likeness(study, matched[key], key) else ""
        title = study.ablation[matched[key]].title
        rows.append(RowSpec(title, "", REFERENCE, matched[key], own))
    rows.extend(
        RowSpec(study.ablation[name].title, "", REFERENCE, name)
        for name in study.ablation
        if name not in matched.values()
    )
    return tuple(rows)


def _match_variants(study: ReportRun) -> dict[str, str]:
    """Paper's row key → variant of the study, found by what the variant changes."""
    stride = study.full_stride or _PAPER_STRIDE
    matched: dict[str, str] = {}
    for name, variant in study.ablation.items():
        key = _row_key(variant, stride)
        known = matched.get(key)
        if key and (known is None or _likeness(study, name, key) > _likeness(study, known, key)):
            matched[key] = name
    return matched


def _likeness(study: ReportRun, name: str, key: str) -> int:
    """How well a variant that changes the same as the paper's row stands for it.

    Returns:
        2: it has the row's name; 1: it is the same, strides in proportion to the full one; 0: it
        has another stride, for which the paper has no value.
    """
    if name == key:
        return 2
    stride = study.full_stride or _PAPER_STRIDE
    asked = _PAPER_STRIDES.get(key)
    same = asked is None or study.ablation[name].stride == asked * stride / _PAPER_STRIDE
    return int(same)


def _row_key(variant: AblationVariant, stride: int) -> str:
    changes = {
        "no_sequences": not variant.sequences,
        "no_random_start": variant.attention == "causal",
        f"without_{variant.without}": variant.without is not None,
        "token_order": variant.token_order is not None,
        "loss": variant.loss is not None,
        "stride4": variant.stride is not None and variant.stride < stride,
        "stride12": variant.stride is not None and variant.stride > stride,
    }
    made = [key for key, changed in changes.items() if changed]
    # A variant that changes two things is none of the paper's rows.
    return made[0] if len(made) == 1 and made[0] in ABLATION_ROWS else ""
