"""The tables as plain text for a terminal, from the published CSV files alone."""

from __future__ import annotations

import csv
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from voxseq.base.errors import DataError
from voxseq.base.failures import read_named
from voxseq.config.data import PHANTOMS
from voxseq.config.registry import METHODS
from voxseq.config.report_run import MAIN_TABLES, REFERENCE
from voxseq.report.escape import DATA_FIELD, PHANTOM_DATA
from voxseq.report.metrics import PRINTED
from voxseq.report.metrics import printed as printed_as

_SIGNS = {"above": "▲", "below": "▼"}
_TITLES = {
    **{number: f"{kind}, all labels" for kind, number in MAIN_TABLES.items()},
    3: "fewer labels",
    4: "ablation of the pre-training",
    5: "beyond the paper",
}
#: Titles in a study without tasks of the paper, whose tables have no numbers.
_OWN_TITLES = {**_TITLES, 5: "controls"}
_MEAN = "mean over seeds"
_INTERVAL = " ± half of its 95 % interval"
_OF_ONE_SEED = ", which with one seed is over test cases, of this run only"
_OF_MORE_SEEDS = " over seeds and test cases"
_COUNT = ", (n) where the number of seeds is another than the table's"
_MARKS = (
    "▲ ▼ above or below the reference, which is AR in Tables 1–3 and the full method in Table 4"
)
_OWN_MARKS = "▲ ▼ better or worse than the reference, which differences.md names"
_NO_MARKS = "no marks, as one seed says nothing about another"
_PAPER = "the paper's value"
#: The table whose rows have references of their own.
_CONTROLS = 5
_LEGEND_WIDTH = 95
_ASCII = str.maketrans({"±": "+-", "▲": "^", "▼": "v", "–": "-"})
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


def printed(results: Path, numbers: Sequence[int], *, ascii_only: bool = False) -> str:
    """Tables, claims, cost and collapse of the study whose results are in a folder.

    Cost is left out where its folder is not there, as it is not versioned.

    Args:
        results: folder with ``tables/tableN.csv``.
        numbers: the tables that the study has.
        ascii_only: for terminals without Unicode.

    Raises:
        DataError: a table is missing.
    """
    parts = []
    cells: list[Line] = []
    for number in numbers:
        path = results / "tables" / f"table{number}.csv"
        if not path.is_file():
            raise DataError(f"{path} does not exist", "run `make reproduce` first")
        lines = _read(path)
        cells += lines
        # Tables of a study without tasks of the paper have no column for its values.
        is_papers = not lines or "paper" in lines[0]
        title = (
            f"Table {number}: {_TITLES[number]}" if is_papers else _OWN_TITLES[number].capitalize()
        )
        parts.append(f"{title}\n\n{_table(lines)}")
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
    said = [PHANTOMS] if any(line.get(DATA_FIELD) == PHANTOM_DATA for line in cells) else []
    legend = [_legend(numbers, cells)] if numbers else []
    text = "\n\n".join([*said, *parts, *legend]) + "\n"
    return text.translate(_ASCII) if ascii_only else text


def _legend(numbers: Sequence[int], cells: Sequence[Line]) -> str:
    """What the cells of these tables hold, in lines."""
    is_own = bool(cells) and "paper" not in cells[0]
    bracketed = [_PAPER] if any(line.get("paper", "none") != "none" for line in cells) else []
    if _CONTROLS in numbers:
        where = "among the controls" if is_own else f"in Table {_CONTROLS}"
        bracketed.append(f"{where} the row that is the reference")
    brackets = [f"in brackets {', '.join(bracketed)}"] if bracketed else []
    one_seed = max((int(line["n"]) for line in cells), default=0) == 1
    has_intervals = any(_has_interval(line) for line in cells)
    interval = _INTERVAL + (_OF_ONE_SEED if one_seed else _OF_MORE_SEEDS)
    mean = "".join([_MEAN, interval if has_intervals else "", "" if one_seed else _COUNT])
    whose = "" if is_own else "the paper's method, "
    title = METHODS[REFERENCE].title
    has_reference = any(line["row"] == title for line in cells)
    named = [f"{title} is {whose}`{REFERENCE}` in paths"] if has_reference else []
    marks = _OWN_MARKS if is_own else _MARKS
    said = "; ".join([mean, *brackets, _NO_MARKS if one_seed else marks, *named])
    return "\n".join(textwrap.wrap(said, _LEGEND_WIDTH))


def _read(path: Path) -> list[dict[str, str]]:
    with read_named(path), path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _table(lines: Sequence[Line]) -> str:
    if not lines:
        return "This study has no task of this table."
    usual = Counter(line["planned"] for line in lines if line["planned"] != "0")
    seeds = usual.most_common(1)[0][0] if usual else "0"
    blocks: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        # A block of Table 3 has one score; those of the other tables have several.
        score = line["metric"] if line["table"] == "3" else ""
        blocks.setdefault((line["block"], score), []).append(line)
    return "\n\n".join(_block(title, block, seeds) for (title, _), block in blocks.items())


def _block(title: str, lines: Sequence[Line], seeds: str) -> str:
    columns = list(dict.fromkeys((line["column"], line["metric"]) for line in lines))
    rows = list(dict.fromkeys((line["row"], line["reference"]) for line in lines))
    cells = {
        (line["row"], line["reference"], line["column"], line["metric"]): _cell(line, seeds)
        for line in lines
    }
    units = {(line["column"], line["metric"]): line["unit"] for line in lines}
    details = {line["column"]: line.get("detail", "none").replace("none", "") for line in lines}
    heads = [
        [
            *textwrap.wrap(column, 16),
            *textwrap.wrap(details[column], 16),
            printed_as(metric, units[column, metric]).header,
        ]
        for column, metric in columns
    ]
    body = [
        [
            row if reference == "none" else f"{row} [{reference}]",
            *(cells.get((row, reference, *column), "") for column in columns),
        ]
        for row, reference in rows
    ]
    return _grid([title], heads, body)


def _cell(line: Line, seeds: str) -> str:
    if line["status"] in ("missing", "not applicable"):
        shown = "missing" if line["status"] == "missing" else "–"
    elif line["mean"] == "undefined":
        shown = "undefined"
    else:
        digits = PRINTED[line["metric"]].decimals(float(line["mean"]))
        shown = f"{float(line['mean']):.{digits}f}"
        if _has_interval(line):
            shown += f" ± {(float(line['high']) - float(line['low'])) / 2:.{digits}f}"
        shown += "" if line["n"] == seeds else f" ({line['n']})"
    value = line.get("paper", "none")
    paper = "" if value == "none" else f" [{value}]"
    return f"{shown}{paper} {_SIGNS.get(line['mark'], ' ')}".rstrip(" ")


def _has_interval(line: Line) -> bool:
    return line["low"] not in ("none", "missing")


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
