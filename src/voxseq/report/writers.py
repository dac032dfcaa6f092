"""A sheet as CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from voxseq.base.files import write_text
from voxseq.config.data import PHANTOMS
from voxseq.report.escape import (
    DATA_FIELD,
    PHANTOM_DATA,
    csv_text,
    latex_text,
    markdown_text,
    one_line,
)
from voxseq.report.metrics import printed

if TYPE_CHECKING:
    import pandas as pd

    from voxseq.report.sheet import Block, Cell, Column, Row, Sheet

#: ``mark`` is the row against its reference: above, below, unclear, or none (not compared).
CSV_COLUMNS = (
    *("table", "block", "group", "row", "reference", "column", "metric", "unit", "detail"),
    *("label_ratio", "mean", "low", "high", "n", "planned", "cases"),
    *("paper", "status", "mark", "p_holm"),
)


def write(sheet: Sheet, folder: Path, endings: Iterable[str]) -> None:
    """Write a sheet as files of its name; endings are "csv" (Tables 1–5), "md" and "tex"."""
    writers = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
    for ending in endings:
        write_text(folder / f"{sheet.name}.{ending}", writers[ending](sheet))


def to_csv(sheet: Sheet) -> str:
    """One line per cell, numbers in the printed unit; a missing mean is the word "missing".

    The column of the paper's values is left out in a study without tasks of the paper.
    """
    import pandas as pd

    rows = [
        (
            *(sheet.number, block.title, row.group, row.title, row.reference or "none"),
            *(column.title, column.metric, printed(column.metric, column.unit).range),
            *(column.detail or "none", f"{column.ratio:g}"),
            *(_number(cell.mean, cell), _end(cell.low, cell), _end(cell.high, cell)),
            *(cell.n, cell.planned),
            *("none" if value is None else value for value in (column.cases, cell.paper)),
            *(cell.status, cell.mark or "none"),
            "none" if cell.p_holm is None else f"{cell.p_holm:.6f}",
        )
        for block in sheet.blocks
        for row in block.rows
        for column, cell in block.pairs(row)
    ]
    frame = pd.DataFrame(rows, columns=list(CSV_COLUMNS), dtype=object)
    if not sheet.papers:
        frame = frame.drop(columns="paper")
    return frame_to_csv(frame, phantoms=sheet.phantoms)


def frame_to_csv(frame: pd.DataFrame, *, phantoms: bool = False) -> str:
    """A frame as CSV; an undefined number is written as "nan", never left blank.

    In a study on phantoms each line begins with the field that says so.
    """
    shown = frame.map(_field)
    if phantoms:
        shown.insert(0, DATA_FIELD, PHANTOM_DATA)
    return str(shown.to_csv(index=False, lineterminator="\n"))


def to_markdown(sheet: Sheet) -> str:
    """GitHub Markdown: a heading, one grid per block, footnotes as a list."""
    lines = [f"**{PHANTOMS}**", ""] if sheet.phantoms else []
    lines += [f"## {markdown_text(sheet.heading)}", ""]
    for block in sheet.blocks:
        lines += [f"### {markdown_text(block.heading)}", ""] if block.heading else []
        lines += [*_markdown_grid(block), ""]
    lines += [] if sheet.blocks else [sheet.empty, ""]
    return "\n".join([*lines, *(f"- {markdown_text(note)}" for note in sheet.notes)]) + "\n"


def to_latex(sheet: Sheet) -> str:
    """A complete LaTeX table, for amssymb, booktabs and graphicx."""
    environment = _environment().overlay(
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    return environment.get_template("table.tex").render(sheet=sheet, phantoms=PHANTOMS)


def to_html(template: str, **values: object) -> str:
    """Fill a template of a page; every text is escaped."""
    return _environment().get_template(template).render(phantom_line=PHANTOMS, **values)


def notes(template: str, **values: object) -> tuple[str, ...]:
    """Footnotes from a template that has one per line."""
    return tuple(_environment().get_template(template).render(**values).splitlines())


@cache
def _environment() -> Environment:
    """Templates of pages, LaTeX tables and footnotes; an unknown name in one is an error."""
    environment = Environment(
        loader=PackageLoader("voxseq.report"),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=_one_line,
    )
    # Markup: there is nothing to escape in it.
    environment.filters["base64"] = lambda png: Markup(b64encode(png).decode())  # noqa: S704
    # Bytes 16 to 20 of a PNG file are its width in pixels.
    environment.filters["png_width"] = lambda png: int.from_bytes(png[16:20], "big")
    environment.filters["tex"] = latex_text
    environment.filters["tex_cell"] = _latex_cell
    return environment


def _one_line(value: object) -> object:
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _markdown_grid(block: Block) -> list[str]:
    """Lines of a Markdown table: first column left, the others right, padded to be readable."""
    header = [
        *map(markdown_text, block.corners),
        *("<br>".join(map(markdown_text, column.header)) for column in block.columns),
    ]
    rows = [_markdown_row(block, row) for row in block.rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * max(widths[0], 3), *("-" * max(w - 1, 3) + ":" for w in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
        return f"| {' | '.join(padded)} |"

    return [line(header), f"| {' | '.join(rule)} |", *map(line, rows)]


def _markdown_row(block: Block, row: Row) -> list[str]:
    cells = []
    for column, cell in block.pairs(row):
        text = markdown_text(cell.printed(column.metric))
        bracket = cell.bracket(column.metric)
        cells.append(f"{f'**{text}**' if cell.best else text} {bracket}".strip())
    return [*map(markdown_text, block.names(row)), *cells]


def _latex_cell(pair: tuple[Column, Cell]) -> str:
    column, cell = pair
    text, bracket = latex_text(cell.printed(column.metric)), cell.bracket(column.metric)
    shown = rf"\textbf{{{text}}}" if cell.best else text
    # The brackets are braced: after a line break "[" would be read as an optional argument.
    return f"{shown} {{{bracket}}}" if bracket else shown


def _number(value: float | None, cell: Cell) -> str:
    if not cell.exists:
        return "none"
    if not cell.n or value is None:
        return "missing"
    return "undefined" if math.isnan(value) else f"{value:.6f}"


def _end(value: float | None, cell: Cell) -> str:
    return "none" if cell.n and value is None else _number(value, cell)


def _field(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.9g}"
    return csv_text(value) if isinstance(value, str) else value
