"""The paper's nineteen testable claims, and where a study has the rows and tasks that they name."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, cast

from voxseq.config.registry import METHODS
from voxseq.config.report_run import PAPER_COLUMNS, REFERENCE, ReportRun, ReportTask
from voxseq.report.tables import layout
from voxseq.report.tables.paper import AVERAGE, paper_values
from voxseq.report.tables.rows import RowKey

Kind = Literal["lead", "gain", "groups", "interaction", "trend"]
Parts = Literal["column", "row", ""]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, as claims.csv has it.

    Attributes:
        id: C1 to C19.
        text: what is claimed.
        table: of the paper.
        contrast: difference that it is about.
        paper_values: of that contrast, 0..1, one for each part.
        test: how it is tested.
        kind: "lead": reference minus rows; "gain": rows minus reference; "groups": mean of the
            reference rows minus that of the rows; "interaction": a lead in the first column minus
            that in others; "trend": slope over the share of labels.
        columns: data set (or the average) and metric.
        reference: rows on the one side, as paper_values.csv calls them.
        rows: rows on the other side; "*" in the file: every other row of the table.
        parts: what is judged apart: each "column", each "row", or all together.
        holm: rows of the family over which p values are corrected.
        level: of the one-sided test.
        margin: by which a difference may be below zero.
        named: the row of the primary contrast; empty where the claim is not primary.
    """

    id: str
    text: str
    table: int
    contrast: str
    paper_values: tuple[float, ...]
    test: str
    kind: Kind
    columns: tuple[tuple[str, str], ...]
    reference: tuple[str, ...]
    rows: tuple[str, ...]
    parts: Parts
    holm: tuple[str, ...]
    level: float
    margin: float
    named: str

    @property
    def is_primary(self) -> bool:
        """Whether its contrast is one of the few that three seeds may mark."""
        return bool(self.named)


@cache
def claims() -> tuple[Claim, ...]:
    """Read claims.csv."""
    file = resources.files("voxseq.report.tables").joinpath("claims.csv")
    lines = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(_claim(line) for line in lines)


def _claim(line: dict[str, str]) -> Claim:
    table, rows = int(line["table"]), _names(line["rows"])
    reference = _names(line["reference"])
    if rows == ("*",):
        names = dict.fromkeys(row for number, row, *_ in paper_values() if number == table)
        rows = tuple(name for name in names if name not in reference)
    columns = [column.partition(":") for column in line["columns"].split()]
    return Claim(
        id=line["id"],
        text=line["text"],
        table=table,
        contrast=line["contrast"],
        paper_values=tuple(map(float, _names(line["paper_value"]))),
        test=line["test"],
        kind=cast(Kind, line["kind"]),
        columns=tuple((name, metric) for name, _, metric in columns),
        reference=reference,
        rows=rows,
        parts=cast(Parts, line["parts"]),
        holm=_names(line["holm"]),
        level=float(line["level"]),
        margin=float(line["margin"] or 0),
        named=line["named"],
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(";")))


@dataclass(frozen=True)
class Place:
    """Where a study has the tasks and rows of claims."""

    study: ReportRun

    def tasks(self, column: str) -> list[str]:
        """Names of the tasks of a column; none where the study lacks one of them."""
        if column == AVERAGE:
            known = layout.average_column(self.study) == AVERAGE
            return [task.name for task in layout.average_tasks(self.study)] if known else []
        names = (t.name for t in self.study.tasks.values() if layout.paper_column(t) == column)
        return list(names)[:1]

    def row(self, table: int, name: str) -> RowKey | None:
        """A row of the paper's tables; ``None`` where the study does not plan it."""
        if table == 4:
            for spec in layout.ablation_rows(self.study):
                if spec.paper_row == name:
                    return RowKey(
                        "ablation" if spec.variant else "finetune", REFERENCE, spec.variant
                    )
            return None
        method, _, share = name.partition(" ")
        if method not in self.study.methods:
            return None
        ratio = float(share.rstrip("%")) / 100 if share else 1.0
        if ratio not in (1.0, *self.study.ratios):
            return None
        return RowKey("finetune" if ratio == 1.0 else "label_ratio", method, "", ratio)

    def beside(self, table: int, task: ReportTask, reference: RowKey) -> list[RowKey]:
        """All rows of a table that stand in a task's column beside the reference."""
        if table == 4:
            return [RowKey("ablation", REFERENCE, name) for name in self.study.ablation]
        methods = self.study.methods_of(task.type)
        return [RowKey("finetune", m) for m in methods if m != reference.method]

    def title(self, table: int, name: str) -> str:
        """A row in print."""
        if table == 4:
            return "full" if name == layout.FULL else name.replace("_", " ")
        method, _, share = name.partition(" ")
        title = METHODS[method].title if method in METHODS else method
        return f"{title} {share}".strip()

    def column_title(self, column: str) -> str:
        """A column in print."""
        if column == AVERAGE:
            return "average of six"
        names = {name: title for of in PAPER_COLUMNS.values() for name, title in of.items()}
        return names[column]


def paper_score(table: int, row: str, column: str, metric: str) -> float:
    """The paper's value of a row, 0..1: of a table, or of Table 1 or 2 where that has none."""
    values = paper_values()
    for number in (table, 1, 2):
        found = values.get((number, row, column, metric))
        if found is not None:
            return float(found)
    raise KeyError((table, row, column, metric))


def primary_contrasts(study: ReportRun) -> frozenset[tuple[int, str, str, str, str]]:
    """Table, task (empty: the average), metric, method and variant of the primary contrasts."""
    return frozenset(_primary(study)) if study.is_papers else frozenset()


def _primary(study: ReportRun) -> Iterator[tuple[int, str, str, str, str]]:
    place = Place(study)
    for claim in (claim for claim in claims() if claim.is_primary):
        row = place.row(claim.table, claim.named)
        for column, metric in claim.columns:
            tasks = place.tasks(column)
            if tasks and row is not None:
                task = "" if column == AVERAGE else tasks[0]
                yield claim.table, task, metric, row.method, row.variant
