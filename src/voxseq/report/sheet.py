"""A sheet: one table of the report with its numbers, whatever format it is written in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter

from voxseq.base.errors import IntegrityError
from voxseq.base.files import read_text, write_text
from voxseq.report.escape import one_line
from voxseq.report.metrics import PRINTED, printed

#: Where a row lies against its reference, "above" being better; "unclear" where the data do not
#: say, empty where nothing is compared.
Mark = Literal["above", "below", "unclear", ""]
SIGNS: dict[Mark, str] = {"above": "▲", "below": "▼", "unclear": "", "": ""}
NOT_APPLICABLE = "–"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: header, such as "Task03 Liver".
        task: task name in the configuration; empty for the average over tasks.
        metric: a key of ``PRINTED``; empty for a column of texts.
        ratio: share of the training labels, 0..1.
        cases: number of test cases of a seed; ``None`` where nothing has run.
        seeds: number of seeds; ``None`` where nothing has run.
        detail: further words of the header.
        paper: column of paper_values.csv, which is the task's data set; empty where the paper has
            none.
        unit: of the task's target, where the metric is in that unit.
    """

    title: str
    task: str = ""
    metric: str = ""
    ratio: float = 1.0
    cases: int | None = None
    seeds: int | None = None
    detail: str = ""
    paper: str = ""
    unit: str = ""

    @property
    def header(self) -> tuple[str, ...]:
        """Lines of the header: title, metric and unit, detail, seeds and test cases."""
        score = printed(self.metric, self.unit).header if self.metric else ""
        seeds = "" if self.seeds is None else f"{self.seeds} seed{'s' if self.seeds != 1 else ''}"
        cases = "" if self.cases is None else f"{self.cases} test cases"
        counts = ", ".join(filter(None, (seeds, cases)))
        return one_line(self.title), *filter(None, (score, self.detail, counts))


@dataclass(frozen=True)
class Cell:
    """A text, or mean over seeds with its 95 % interval in the printed unit (Dice in %).

    Attributes:
        n: number of seeds that the mean is made of; 0: the run is missing.
        planned: number of seeds that the study plans for the cell.
        mean: ``None`` where missing, NaN where the score is undefined.
        low: lower end of the interval; ``None`` where there is none.
        high: upper end.
        paper: the paper's value in the printed unit, ``None`` where the paper has none.
        best: whether the mean is the best of its column, or the text is emphasised.
        mark: the row against its reference.
        p_holm: corrected p value behind the mark; ``None`` where nothing is compared.
        reference: mean of the cell compared with, where the table shows it.
        exists: false where the row has no such task by its nature.
        text: printed in place of numbers.
    """

    n: int = 0
    planned: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    paper: str | None = None
    best: bool = False
    mark: Mark = ""
    p_holm: float | None = None
    reference: float | None = None
    exists: bool = True
    text: str | None = None

    @property
    def status(self) -> str:
        """One of "not applicable", "missing", "partial" (fewer seeds than planned), "complete"."""
        if not self.exists:
            return "not applicable"
        if not self.n:
            return "missing"
        return "partial" if self.n < self.planned else "complete"

    @property
    def kind(self) -> str:
        """How a page shows it: "missing", "best", or empty."""
        if self.text is None and self.status == "missing":
            return "missing"
        return "best" if self.best else ""

    def printed(self, metric: str) -> str:
        """The cell as printed: "72.3 [70.1, 74.5] ▲", "missing", "–" or "undefined"."""
        if self.text is not None:
            return self.text
        if not self.exists:
            return NOT_APPLICABLE
        if self.mean is None:
            return "missing"
        ends = (math.nan if end is None else end for end in (self.low, self.high))
        partial = "†" if self.status == "partial" else ""
        sign = f" {SIGNS[self.mark]}" if SIGNS[self.mark] else ""
        return f"{PRINTED[metric].shown(self.mean, *ends)}{partial}{sign}"

    def bracket(self, metric: str) -> str:
        """In brackets the paper's value or the mean of the reference; empty without either."""
        if self.reference is not None:
            return f"(reference {PRINTED[metric].shown(self.reference)})"
        return "" if self.paper is None else f"(paper {self.paper})"


@dataclass(frozen=True)
class Row:
    """One row, with one cell per column; ``reference`` names the row compared with, empty: none."""

    title: str
    cells: tuple[Cell, ...]
    group: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Block:
    """Rows and columns that are printed together; Table 3 has one for each score.

    Attributes:
        corner: header of the rows' titles.
        shows_reference: whether a column names each row's reference, whose mean is in brackets.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    corner: str = "Method"
    shows_reference: bool = False

    @property
    def heading(self) -> str:
        """Printed above the block: title, and score where its columns have one in common."""
        metric = self.columns[0].metric if self.columns else ""
        if not self.title or self.shows_reference or not metric:
            return self.title
        shown = printed(metric, self.columns[0].unit)
        # A unit of the task's own is not known from the score's name.
        return f"{self.title}, {shown.header if shown.in_unit_of_task else shown.title}"

    @property
    def corners(self) -> tuple[str, ...]:
        """Headers of the columns that hold names."""
        return (self.corner, *(["Reference"] if self.shows_reference else []))

    @property
    def header_lines(self) -> tuple[tuple[str, ...], ...]:
        """The header line by line, names of rows first; a short header ends in empty texts."""
        heads = [*((corner,) for corner in self.corners), *(c.header for c in self.columns)]
        return tuple(zip_longest(*heads, fillvalue=""))

    def names(self, row: Row) -> tuple[str, ...]:
        """A row's title, and that of its reference where the block shows it."""
        shown = [row.reference or NOT_APPLICABLE] if self.shows_reference else []
        return (row.title, *shown)

    def pairs(self, row: Row) -> Iterator[tuple[Column, Cell]]:
        """The row's cells, each with its column."""
        return zip(self.columns, row.cells, strict=True)


@dataclass(frozen=True)
class Sheet:
    """One table of the report.

    Attributes:
        name: stem of its files.
        number: of Tables 1–5; 0 for the others.
        empty: said where there are no blocks.
        phantoms: whether its numbers are of generated volumes.
        papers: whether its study has tasks of the paper, by whose numbers its tables are called.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()
    number: int = 0
    empty: str = ""
    phantoms: bool = False
    papers: bool = True

    @property
    def heading(self) -> str:
        """Title, after the table's number in a study with tasks of the paper."""
        return f"Table {self.number}. {self.title}" if self.number and self.papers else self.title

    @property
    def key(self) -> str:
        """In a list of links: "Table 1", or the title's first words."""
        if self.number and self.papers:
            return f"Table {self.number}"
        return self.title.split(":")[0] if self.number else self.name.capitalize()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells."""
        return tuple(cell for block in self.blocks for row in block.rows for cell in row.cells)


def text_block(title: str, header: Iterable[str], rows: Iterable[Iterable[str | Cell]]) -> Block:
    """A block of texts; the first word of header and rows belongs to the names."""
    corner, *columns = header
    made = [
        (str(name), tuple(c if isinstance(c, Cell) else Cell(text=c) for c in cells))
        for name, *cells in rows
    ]
    return Block(title, tuple(map(Column, columns)), tuple(Row(*m) for m in made), corner)


def summarise(
    values: Iterable[float],
    planned: int,
    factor: float,
    paper: str | None,
    half: float = math.nan,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Cell:
    """Mean of one value per seed and its interval, times ``factor``.

    Args:
        values: one per seed.
        planned: number of seeds.
        factor: of the printed unit.
        paper: the paper's value.
        half: half the width of the interval; NaN: there is none.
        bounds: of the score, where the interval ends.
    """
    scaled = [factor * float(value) for value in values]
    n = len(scaled)
    if not n:
        return Cell(0, planned, paper=paper)
    mean = math.fsum(scaled) / n
    if not math.isfinite(half) or math.isnan(mean):
        return Cell(n, planned, mean, paper=paper)
    low, high = (factor * bound for bound in bounds)
    ends = max(mean - factor * half, low), min(mean + factor * half, high)
    return Cell(n, planned, mean, *ends, paper)


def mark_best(block: Block) -> Block:
    """Mark the best mean of each column, where at least two rows have run."""
    best: dict[int, float] = {}
    for index, column in enumerate(block.columns):
        means = [row.cells[index].mean for row in block.rows]
        finite = [m for m in means if m is not None and not math.isnan(m)]
        if len(finite) > 1:
            best[index] = PRINTED[column.metric].best(finite)
    rows = (
        tuple(replace(c, best=c.n > 0 and c.mean == best.get(i)) for i, c in enumerate(row.cells))
        for row in block.rows
    )
    pairs = zip(block.rows, rows, strict=True)
    return replace(block, rows=tuple(replace(row, cells=cells) for row, cells in pairs))


#: JSON has no NaN, and null stands for a score that is missing.
_SHEETS = TypeAdapter(
    dict[str, tuple[Sheet, ...] | str], config=ConfigDict(ser_json_inf_nan="strings")
)


def write_sheets(path: Path, sheets: Iterable[Sheet], head: dict[str, str]) -> None:
    """Write sheets with all their numbers as JSON, after ``head``; NaN becomes a text."""
    content = _SHEETS.dump_json({**head, "sheets": tuple(sheets)}, exclude_defaults=True)
    write_text(path, content.decode() + "\n")


def read_sheets(path: Path) -> tuple[Sheet, ...]:
    """Read what :func:`write_sheets` wrote.

    Raises:
        IntegrityError: the file holds something else.
    """
    try:
        sheets = _SHEETS.validate_json(read_text(path))["sheets"]
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from None
    return () if isinstance(sheets, str) else sheets
