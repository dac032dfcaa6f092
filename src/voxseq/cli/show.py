"""The tables as plain text for a terminal, from the published files alone."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from voxseq.base.errors import DataError
from voxseq.base.failures import read_named
from voxseq.config.data import PHANTOMS
from voxseq.config.registry import METHODS
from voxseq.config.report_run import REFERENCE
from voxseq.plan.outputs import SHEETS
from voxseq.report.metrics import PRINTED
from voxseq.report.sheet import SIGNS, Block, Cell, Column, Sheet, read_sheets

_MEAN = "mean over seeds"
_INTERVAL = " ± half of its 95 % interval"
_OF_ONE_SEED = ", which with one seed is over test cases, of this run only"
_OF_MORE_SEEDS = " over seeds and test cases"
_CUT = ", whose ends are shown where a bound of the score cuts it"
_PARTIAL = "† of fewer seeds than planned"
_MARKS = (
    "▲ ▼ above or below the reference, which is AR in Tables 1–3 and the full method in Table 4"
)
_OWN_MARKS = "▲ ▼ better or worse than the reference, which differences.md names"
_NO_MARKS = "no marks, as one seed says nothing about another"
_PAPER = "the paper's value"
#: The table whose rows have references of their own.
_CONTROLS = 5
#: Width of a column's header.
_HEADER_WIDTH = 16
_LEGEND_WIDTH = 95
_ASCII = str.maketrans({"±": "+-", "▲": "^", "▼": "v", "–": "-", "†": "*"})
_COST = {
    "row": "",
    "pretraining_seconds": "pre-training s",
    "finetunings": "fine-tunings",
    "finetuning_seconds_mean": "s each",
    "finetuning_seconds_total": "s in all",
    "pretraining_peak_memory_mb": "MB pre-training",
    "finetuning_peak_memory_mb": "MB fine-tuning",
    "encoder_parameters": "encoder parameters",
    "segmentation_parameters": "segmentation parameters",
    "classification_parameters": "classification parameters",
    "regression_parameters": "regression parameters",
}
_COLLAPSE = {
    "run": "",
    "last_step": "step",
    "last_feature_sd": "feature sd",
    "last_effective_rank": "effective rank",
    "verdict": "collapsed",
}
Line = Mapping[str, str]


def printed(
    results: Path,
    numbers: Sequence[int],
    *,
    make: str = "make reproduce",
    ascii_only: bool = False,
) -> str:
    """Tables, claims, cost and collapse of the study whose results are in a folder.

    Cost is left out where its folder is not there, as it is not versioned.

    Args:
        results: folder of the study's results.
        numbers: the tables that the study has.
        make: the command that makes them, for messages.
        ascii_only: for terminals without Unicode.

    Raises:
        DataError: a table is missing.
    """
    path = results / SHEETS
    if not path.is_file():
        raise DataError(f"{path} does not exist", f"make it: {make}")
    known = {sheet.number: sheet for sheet in read_sheets(path)}
    absent = [f"table{number}" for number in numbers if number not in known]
    if absent:
        raise DataError(f"{path} has no {', '.join(absent)}", f"make it anew: {make}")
    sheets = [known[number] for number in numbers]
    parts = [f"{sheet.heading}\n\n{_table(sheet)}" for sheet in sheets]
    path = results / "tables/claims.csv"
    judged = (
        [line for line in _read(path) if line["verdict"] != "not run"] if path.is_file() else []
    )
    if judged:
        parts.append(f"Claims of the paper at this scale\n\n{_claims(judged)}")
    for path, title, columns in (
        (results / "cost/cost.csv", "Cost", _COST),
        (results / "tables/collapse.csv", "Collapse", _COLLAPSE),
    ):
        if path.is_file():
            parts.append(f"{title}\n\n{_plain_table(_read(path), columns)}")
    said = [PHANTOMS] if any(sheet.phantoms for sheet in sheets) else []
    legend = [_legend(sheets)] if sheets else []
    text = "\n\n".join([*said, *parts, *legend]) + "\n"
    return text.translate(_ASCII) if ascii_only else text


def _legend(sheets: Sequence[Sheet]) -> str:
    """What the cells of these tables hold, in lines."""
    cells = [cell for sheet in sheets for cell in sheet.cells]
    is_own = not any(sheet.papers for sheet in sheets)
    bracketed = [_PAPER] if any(cell.paper for cell in cells) else []
    if any(sheet.number == _CONTROLS for sheet in sheets):
        where = "among the controls" if is_own else f"in Table {_CONTROLS}"
        bracketed.append(f"{where} the row that is the reference")
    is_of_one = max((cell.n for cell in cells), default=0) == 1
    interval = _INTERVAL + (_OF_ONE_SEED if is_of_one else _OF_MORE_SEEDS)
    cut = _CUT if any(_is_cut(cell) for cell in cells) else ""
    title = METHODS[REFERENCE].title
    has_reference = any(r.title == title for s in sheets for b in s.blocks for r in b.rows)
    whose = "" if is_own else "the paper's method, "
    marks = [_OWN_MARKS if is_own else _MARKS] if any(cell.mark for cell in cells) else []
    said = [
        _MEAN + (interval + cut if any(cell.low is not None for cell in cells) else ""),
        *([_PARTIAL] if any(cell.status == "partial" for cell in cells) else []),
        *([f"in brackets {', '.join(bracketed)}"] if bracketed else []),
        *([_NO_MARKS] if is_of_one else marks),
        *([f"{title} is {whose}`{REFERENCE}` in paths"] if has_reference else []),
    ]
    return "\n".join(textwrap.wrap("; ".join(said), _LEGEND_WIDTH))


def _read(path: Path) -> list[dict[str, str]]:
    with read_named(path), path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _table(sheet: Sheet) -> str:
    return "\n\n".join(map(_block, sheet.blocks)) or sheet.empty


def _block(block: Block) -> str:
    heads = [
        [part for line in column.header for part in textwrap.wrap(line, _HEADER_WIDTH)]
        for column in block.columns
    ]
    body = [
        [
            f"{row.title} [{row.reference}]" if row.reference else row.title,
            *(_cell(column, cell) for column, cell in block.pairs(row)),
        ]
        for row in block.rows
    ]
    return _grid([block.heading], heads, body)


def _cell(column: Column, cell: Cell) -> str:
    """ "72.3 ± 2.2 (83.1) ▲", or with both ends of an interval that is not symmetric."""
    shown = cell.printed(column.metric)
    if cell.mean is not None and cell.high is not None and not _is_cut(cell):
        digits = PRINTED[column.metric].decimals(cell.mean)
        shown = f"{PRINTED[column.metric].shown(cell.mean)} ± {cell.high - cell.mean:.{digits}f}"
        shown += "†" if cell.status == "partial" else ""
    else:
        shown = shown.removesuffix(SIGNS[cell.mark]).rstrip()
    paper = "" if cell.paper is None else f"({cell.paper})"
    return " ".join(filter(None, (shown, paper, SIGNS[cell.mark])))


def _is_cut(cell: Cell) -> bool:
    """Whether a bound of the score, such as 100 %, is an end of the interval."""
    if cell.mean is None or cell.low is None or cell.high is None:
        return False
    return not math.isclose(cell.high - cell.mean, cell.mean - cell.low, abs_tol=1e-9)


def _claims(lines: Sequence[Line]) -> str:
    """The differences that decide on the claims that can be judged; Dice in percentage points."""
    heads = [["paper"], ["here", "[95 % interval]"], ["seeds"], ["verdict"]]
    body = []
    for line in lines:
        metric = PRINTED[line["metric"]]
        here = metric.gap(*(float(line[name]) for name in ("difference", "low", "high")))
        paper = f"{metric.factor * float(line['paper']):+.{2 if metric.unit else 4}f}"
        contrast = f"{line['claim']} {line['decided_by'] or line['contrast']}"
        body.append([contrast, paper, here, line["seeds"], line["verdict"]])
    return _grid(["claim"], heads, body)


def _plain_table(lines: Sequence[Line], columns: Mapping[str, str]) -> str:
    # A table leaves out columns that its study has nothing for.
    columns = {name: title for name, title in columns.items() if lines and name in lines[0]}
    heads = [textwrap.wrap(title, 16) for title in list(columns.values())[1:]]
    groups: dict[str, list[list[str]]] = {}
    for line in lines:
        cells = [_short(line[name]) for name in columns]
        groups.setdefault(line.get("group", ""), []).append(cells)
    return "\n\n".join(_grid([group], heads, body) for group, body in groups.items())


def _short(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return text
    return text if value.is_integer() else f"{value:.4g}"


def _grid(
    corner: Sequence[str], heads: Sequence[Sequence[str]], body: Sequence[Sequence[str]]
) -> str:
    """Lines of a table: first column left, the others right, headers at their foot."""
    stacks = [list(corner), *map(list, heads)]
    height = max(len(stack) for stack in stacks)
    top = [[""] * (height - len(stack)) + stack for stack in stacks]
    table = [*map(list, zip(*top, strict=True)), *map(list, body)]
    widths = [max(len(row[i]) for row in table) for i in range(len(stacks))]
    lines = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([*lines[:height], rule, *lines[height:]])
