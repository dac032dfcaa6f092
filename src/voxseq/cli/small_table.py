"""A study in a few lines for README.md: the paper's method beside random initialisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxseq.catalogue import CATALOGUE, DECATHLON
from voxseq.config.data import PHANTOMS
from voxseq.config.registry import ENCODER_NETWORKS, METHODS
from voxseq.config.report_run import METRICS, REFERENCE
from voxseq.plan.outputs import SHEETS
from voxseq.report.metrics import printed
from voxseq.report.sheet import NOT_APPLICABLE, SIGNS, Block, Cell, Column, Mark, read_sheets
from voxseq.report.tables.layout import PRETRAINED_GROUP

HEADER = (
    *("Task", "Random initialisation", METHODS[REFERENCE].title, "AR − random", "AR is"),
    *("Best other pre-training", "Convolutional network"),
)
#: The mark of random initialisation, seen from AR.
_VERDICTS: Mapping[Mark, str] = {
    "below": "clearly better",
    "above": "clearly worse",
    "unclear": "not clearly different",
    "": "not tested",
}
_REFERENCE = frozenset({METHODS[REFERENCE].title})
_RANDOM = {METHODS[name].title: name for name in ENCODER_NETWORKS.values()}
_CONVOLUTIONAL = frozenset(METHODS[name].title for name in ("unet3d", "resnet"))
#: Metrics that stand for their task.
_MAIN = frozenset(names[0] for names in METRICS.values())
_NOTE = (
    "AR: the paper's method. Mean [95 % interval]; "
    "▲ ▼: clearly above, clearly below AR, corrected over its table."
)
_ORDER = ("supported", "contradicted", "cannot tell", "not run")


def small_table(results: Path, link: str) -> list[str]:
    """Lines of Markdown: a grid with a row for each task, and the verdicts on the claims.

    Args:
        results: folder of the study's results.
        link: its address in the page that the lines are for.
    """
    sheets = {sheet.number: sheet for sheet in read_sheets(results / SHEETS)}
    gaps = _gaps(results / "tables/differences.csv")
    found = [
        _Task(number, block, index, gaps)
        for number in (1, 2, 3)
        for block in (sheets[number].blocks if number in sheets else ())
        for index in range(len(block.columns))
    ]
    rows = [task.cells() for task in found if task.is_shown]
    rule = ("---", *("---:" for _ in HEADER[1:]))
    lines = [f"| {' | '.join(line)} |" for line in (HEADER, rule, *rows)]
    head = [f"**{PHANTOMS}**", ""] if any(sheet.phantoms for sheet in sheets.values()) else []
    return [*head, *lines, "", _NOTE, *_claims(results / "tables/claims.csv", link)]


@dataclass(frozen=True)
class _Task:
    """One column of Table 1, 2 or 3, which is a row of the small table."""

    number: int
    block: Block
    index: int
    gaps: Mapping[tuple[Any, ...], tuple[float, float, float]]

    @property
    def column(self) -> Column:
        return self.block.columns[self.index]

    @property
    def is_shown(self) -> bool:
        """Main scores; an average in place of its tasks, and of Table 3 the fewest labels."""
        column, columns = self.column, self.block.columns
        if column.metric not in _MAIN:
            return False
        if self.number == 3:
            return column.ratio == min(other.ratio for other in columns) < 1
        same = [other for other in columns if other.metric == column.metric]
        if not column.task:
            return any(map(_is_averaged, same))
        return not (_is_averaged(column) and any(not other.task for other in same))

    def cells(self) -> list[str]:
        """The texts of the row, one for each word of ``HEADER``."""
        cells = {row.title: row.cells[self.index] for row in self.block.rows}
        ran = {title: cell for title, cell in cells.items() if cell.mean is not None}
        own, random, convolutional = (
            next(((title, ran[title]) for title in ran if title in names), None)
            for names in (_REFERENCE, _RANDOM.keys(), _CONVOLUTIONAL)
        )
        others = [
            (row.title, ran[row.title])
            for row in self.block.rows
            if row.group == PRETRAINED_GROUP and row.title in ran and row.title not in _REFERENCE
        ]
        metric = printed(self.column.metric, self.column.unit)
        best = metric.best([cell.mean or 0.0 for _, cell in others]) if others else None
        compared = own is not None and random is not None
        return [
            self._header(),
            self._shown(random),
            self._shown(own),
            self._gap(random[0]) if compared and random else NOT_APPLICABLE,
            _VERDICTS[random[1].mark] if compared and random else NOT_APPLICABLE,
            self._shown(next((one for one in others if one[1].mean == best), None), named=True),
            self._shown(convolutional, named=True),
        ]

    def _header(self) -> str:
        title, *details = self.column.header
        place = title if self.number != 3 else f"{self.block.title}, {title}"
        return "<br>".join([place, *details])

    def _shown(self, row: tuple[str, Cell] | None, *, named: bool = False) -> str:
        """A cell; one of a row that the header does not name with its title and its mark."""
        if row is None:
            return NOT_APPLICABLE
        title, cell = row
        ends = (float("nan") if end is None else end for end in (cell.low, cell.high))
        metric = printed(self.column.metric, self.column.unit)
        text = metric.shown(float("nan") if cell.mean is None else cell.mean, *ends)
        return " ".join(filter(None, (title, text, SIGNS[cell.mark]))) if named else text

    def _gap(self, random: str) -> str:
        """AR minus random initialisation, with the interval of the difference."""
        column = self.column
        key = (self.number, column.task, round(column.ratio, 9), column.metric, _RANDOM[random])
        gap = self.gaps.get(key)
        return NOT_APPLICABLE if gap is None else printed(column.metric, column.unit).gap(*gap)


def _is_averaged(column: Column) -> bool:
    """Whether the column is one of the paper's six, which its average stands for."""
    known = CATALOGUE.get(column.paper)
    return known is not None and known.collection == DECATHLON


def _gaps(path: Path) -> dict[tuple[Any, ...], tuple[float, float, float]]:
    """(table, task, share of the labels, metric, method) → difference from it, low, high."""
    if not path.is_file():
        return {}
    import pandas as pd

    frame = pd.read_csv(path, keep_default_na=False, na_values=["nan"])
    return {
        (row["table"], row["task"], round(row["ratio"], 9), row["metric"], row["other"]): (
            *(row["difference"], row["low"], row["high"]),
        )
        for row in frame[frame["variant"] == ""].to_dict("records")
    }


def _claims(path: Path, link: str) -> Iterator[str]:
    """A line with the number of the paper's claims of each verdict; none without claims."""
    if not path.is_file():
        return
    import pandas as pd

    verdicts = pd.read_csv(path).groupby("claim")["claim_verdict"].first()
    counts = [f"{int((verdicts == word).sum())} {word}" for word in _ORDER if word in set(verdicts)]
    whole = f"Of the paper's {len(verdicts)} claims, each judged by itself"
    yield f"{whole}: {', '.join(counts)} ([all]({link}/tables/claims.md))."
