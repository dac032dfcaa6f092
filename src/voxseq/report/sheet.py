"""What a table consists of: columns, cells, rows, blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from voxseq.report.escape import one_line
from voxseq.report.study import METRIC_TITLES, UNITS

#: Where a row's score lies against its reference; "unclear" where the data do not say, empty where
#: nothing is compared.
Mark = Literal["above", "below", "unclear", ""]
SIGNS: dict[Mark, str] = {"above": "▲", "below": "▼", "unclear": "", "": ""}


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
        paper: column of paper_values.csv, which is the task's data set; empty where the paper has
            none.
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
        score = f"{METRIC_TITLES[self.metric]}{unit}"
        return "\n".join([one_line(self.title), score, *detail, *cases])


@dataclass(frozen=True)
class Cell:
    """Mean and sample standard deviation over seeds, in the printed unit (Dice in %).

    Attributes:
        n: number of seeds that the mean is made of; 0: the run is missing.
        planned: number of seeds that the study plans for the cell.
        mean: ``None`` where missing, NaN where the score is undefined.
        sd: ``None`` with fewer than two seeds.
        paper: the paper's value in the printed unit, ``None`` where the paper has none.
        best: whether the mean is the best of its column.
        mark: the row against its reference.
        p_holm: corrected p value behind the mark; ``None`` where nothing is compared.
        reference: mean of the cell compared with, where the table shows it.
        exists: false where the row has no such task by its nature.
    """

    n: int
    planned: int
    mean: float | None = None
    sd: float | None = None
    paper: str | None = None
    best: bool = False
    mark: Mark = ""
    p_holm: float | None = None
    reference: float | None = None
    exists: bool = True

    @property
    def status(self) -> str:
        """One of "not applicable", "missing", "partial" (fewer seeds than planned), "complete"."""
        if not self.exists:
            return "not applicable"
        if not self.n:
            return "missing"
        return "partial" if self.n < self.planned else "complete"


@dataclass(frozen=True)
class Row:
    """One row of cells, one a column; ``reference`` names the row compared with, empty: none."""

    title: str
    group: str
    cells: tuple[Cell, ...]
    reference: str = ""


@dataclass(frozen=True)
class Block:
    """Rows and columns that are printed together; Table 3 has one for each score.

    Attributes:
        heading: title of the block as it is printed above it.
        shows_reference: whether a column names each row's reference, and brackets hold its mean
            in place of the paper's value.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    corner: str = "Method"
    shows_reference: bool = False

    @property
    def heading(self) -> str:
        """Title and score of a block; empty where the table has one block only."""
        if not self.title or self.shows_reference:
            return self.title
        return f"{self.title}, {METRIC_TITLES[self.columns[0].metric]}"


@dataclass(frozen=True)
class Table:
    """One table of the report; ``phantoms`` tells whether its scores are of generated volumes."""

    number: int
    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    phantoms: bool = False

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells."""
        return tuple(cell for block in self.blocks for row in block.rows for cell in row.cells)


def summarise(values: Iterable[float], planned: int, factor: float, paper: str | None) -> Cell:
    """Mean and sample standard deviation of one value a seed, times ``factor``."""
    scaled = [factor * float(value) for value in values]
    n = len(scaled)
    if not n:
        return Cell(0, planned, paper=paper)
    mean = math.fsum(scaled) / n
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in scaled) / (n - 1)) if n > 1 else None
    return Cell(n, planned, mean, sd, paper)


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
