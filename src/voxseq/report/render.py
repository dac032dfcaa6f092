"""Tables as CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from voxseq.report.escape import (
    DATA_FIELD,
    PHANTOM_DATA,
    PHANTOMS,
    Markdown,
    csv_text,
    html_lines,
    html_text,
    latex_text,
    markdown_lines,
    markdown_text,
)
from voxseq.report.sheet import SIGNS
from voxseq.report.study import DIGITS, UNITS

if TYPE_CHECKING:
    import pandas as pd

    from voxseq.report.sheet import Block, Cell, Column, Row, Table

MISSING = "missing"
NOT_AVAILABLE = "n/a"
UNDEFINED = "undefined"
NO_SD = "–"
NOT_APPLICABLE = "–"
NO_TASK = "This study has no task of this table."
REFERENCE_HEADER = "Compared with"
#: ``mark`` is the row against its reference: above, below, unclear, or none (not compared).
CSV_COLUMNS = (
    *("table", "block", "group", "row", "reference", "column", "metric", "unit", "detail"),
    *("label_ratio", "mean", "sd", "n", "planned", "cases", "paper", "status", "mark", "p_holm"),
)


def value_text(cell: Cell, digits: int) -> str:
    """Our value of a cell: "72.31 ± 0.52 (n=3) ▲", "missing", "–" or "undefined (n=1)"."""
    if not cell.exists:
        return NOT_APPLICABLE
    if cell.mean is None:
        return MISSING
    if math.isnan(cell.mean):
        return f"{UNDEFINED} (n={cell.n})"
    sd = NO_SD if cell.sd is None else f"{cell.sd:.{digits}f}"
    partial = "†" if cell.status == "partial" else ""
    sign = f" {SIGNS[cell.mark]}" if SIGNS[cell.mark] else ""
    return f"{cell.mean:.{digits}f} ± {sd} (n={cell.n}){partial}{sign}"


def bracket_text(block: Block, cell: Cell, digits: int) -> str:
    """In brackets the paper's value, or the mean of the row's reference; empty without one."""
    if not block.shows_reference:
        return "" if cell.paper is None else f"[{cell.paper}]"
    return "" if cell.reference is None else f"[{cell.reference:.{digits}f}]"


def to_csv(table: Table) -> str:
    """One line a cell, numbers in the printed unit; a missing mean is the word "missing"."""
    rows = [
        (
            *(table.number, block.title, row.group, row.title, row.reference or "none"),
            *(column.title, column.metric),
            *(UNITS[column.metric] or "0-1", column.detail or "none", f"{column.ratio:g}"),
            *(_number(cell.mean, cell), _deviation(cell), cell.n, cell.planned),
            NOT_AVAILABLE if column.cases is None else column.cases,
            NOT_AVAILABLE if cell.paper is None else cell.paper,
            *(cell.status, cell.mark or "none"),
            NOT_AVAILABLE if cell.p_holm is None else f"{cell.p_holm:.6f}",
        )
        for block, row, column, cell in _walk(table)
    ]
    return _csv(CSV_COLUMNS, rows, table.phantoms)


def frame_to_csv(frame: pd.DataFrame, *, phantoms: bool = False) -> str:
    """A frame as CSV; an undefined number is written as "nan", never left blank."""
    rows = [tuple(_plain(value) for value in row) for row in frame.itertuples(index=False)]
    return _csv(tuple(frame.columns), rows, phantoms)


def to_markdown(table: Table) -> str:
    """GitHub Markdown: a heading, one grid a block, footnotes as a list."""
    lines = markdown_head(f"Table {table.number}. {table.title}", phantoms=table.phantoms)
    for block in table.blocks:
        if not block.columns:
            lines += [NO_TASK, ""]
            continue
        if block.heading:
            lines += [f"### {markdown_text(block.heading)}", ""]
        heads = [markdown_lines(c.header) for c in block.columns]
        lines += markdown_grid(
            [*_corners(block), *heads],
            [
                [*_names(block, row), *(_cell_markdown(block, c, k) for c, k in _pairs(block, row))]
                for row in block.rows
            ],
        )
        lines.append("")
    return "\n".join([*lines, *markdown_notes(table.notes)]) + "\n"


def markdown_head(title: str, *, phantoms: bool) -> list[str]:
    """First lines of a Markdown file: whether its data are phantoms, and its title."""
    return [*([f"**{PHANTOMS}**", ""] if phantoms else []), f"## {markdown_text(title)}", ""]


def markdown_notes(notes: Iterable[str]) -> list[str]:
    """Footnotes as the items of a list."""
    return [f"- {markdown_text(note)}" for note in notes]


def markdown_grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table: first column left, the others right, padded to be readable.

    Every cell is escaped, unless it is :class:`~voxseq.report.escape.Markdown` already.
    """
    header, *rows = [[markdown_text(cell) for cell in line] for line in (header, *rows)]
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    rule = ["-" * max(widths[0], 3), *("-" * max(w - 1, 3) + ":" for w in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        padded = [
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    return [line(header), f"| {' | '.join(rule)} |", *(line(row) for row in rows)]


def to_latex(table: Table) -> str:
    """A complete LaTeX table, for amssymb, booktabs and graphicx."""
    lines = [
        *latex_head(phantoms=table.phantoms),
        "% needs \\usepackage{amssymb}, \\usepackage{booktabs} and \\usepackage{graphicx}",
        r"\begin{table}[t]",
        r"  \centering",
        rf"  \caption{{{latex_caption(table.title, phantoms=table.phantoms)}}}",
        rf"  \label{{tab:voxseq-{table.number}}}",
    ]
    for block in table.blocks:
        lines += _latex_block(block) if block.columns else [f"  {NO_TASK}"]
    lines.append(r"  \par\smallskip\footnotesize\raggedright")
    lines += [f"  {latex_text(note)}\\par" for note in table.notes]
    lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def latex_head(*, phantoms: bool) -> list[str]:
    """First line of a LaTeX file whose data are phantoms, as a comment; the caption shows it."""
    return [f"% {PHANTOMS}"] if phantoms else []


def latex_caption(title: str, *, phantoms: bool) -> str:
    """Text of a caption, after that of the data."""
    return f"{latex_text(PHANTOMS)} {latex_text(title)}." if phantoms else f"{latex_text(title)}."


def to_html(table: Table) -> str:
    """The table as HTML, every text escaped."""
    parts = []
    for block in table.blocks:
        if not block.columns:
            parts.append(f"<p>{NO_TASK}</p>")
            continue
        if block.heading:
            parts.append(f"<h3>{html_text(block.heading)}</h3>")
        parts.append(_html_block(block))
    notes = "".join(f"<li>{html_text(note)}</li>" for note in table.notes)
    return "\n".join(parts) + f'\n<ul class="notes">{notes}</ul>'


def _html_block(block: Block) -> str:
    head = "".join(f"<th>{html_lines(c.header)}</th>" for c in block.columns)
    corners = "".join(f"<th>{corner}</th>" for corner in _corners(block))
    top = f"<tr>{corners}{head}</tr>"
    lines = [f'<div class="wide"><table><thead>{top}</thead><tbody>']
    # A block of one group has the group's name as its heading.
    group = block.title if block.shows_reference else ""
    for row in block.rows:
        if row.group != group:
            group = row.group
            span = len(block.columns) + 1
            lines.append(f'<tr class="group"><th colspan="{span}">{html_text(group)}</th></tr>')
        names = "".join(f"<th>{html_text(name)}</th>" for name in _names(block, row))
        cells = "".join(_cell_html(block, column, cell) for column, cell in _pairs(block, row))
        lines.append(f"<tr>{names}{cells}</tr>")
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def _corners(block: Block) -> list[str]:
    """Headers of the columns that hold names."""
    return [block.corner, *([REFERENCE_HEADER] if block.shows_reference else [])]


def _names(block: Block, row: Row) -> list[str]:
    """A row's title, and that of its reference where the block shows it."""
    return [row.title, *([row.reference or NOT_APPLICABLE] if block.shows_reference else [])]


def _cell_html(block: Block, column: Column, cell: Cell) -> str:
    digits = DIGITS[column.metric]
    kind = "missing" if cell.status == "missing" else "best" if cell.best else "value"
    ours = html_text(value_text(cell, digits))
    bracket = bracket_text(block, cell, digits)
    below = f"<br><small>{bracket}</small>" if bracket else ""
    return f'<td class="{kind}">{ours}{below}</td>'


def _cell_markdown(block: Block, column: Column, cell: Cell) -> str:
    digits = DIGITS[column.metric]
    ours = value_text(cell, digits)
    shown = f"{f'**{ours}**' if cell.best else ours} {bracket_text(block, cell, digits)}"
    return Markdown(shown.strip())


def _latex_block(block: Block) -> list[str]:
    lines = []
    names = _corners(block)
    if block.heading:
        lines.append(rf"  \par\medskip\textbf{{{latex_text(block.heading)}}}\par\smallskip")
    lines += [
        r"  \resizebox{\linewidth}{!}{%",
        rf"  \begin{{tabular}}{{{'l' * len(names)}{'c' * len(block.columns)}}}",
        r"    \toprule",
    ]
    heads = [c.header.split("\n") for c in block.columns]
    for level in range(max(len(head) for head in heads)):
        texts = [latex_text(head[level]) if level < len(head) else "" for head in heads]
        corners = [""] * len(names) if level else names
        lines.append(f"    {' & '.join([*corners, *texts])} \\\\")
    group = block.rows[0].group if block.rows else ""
    lines.append(r"    \midrule")
    for row in block.rows:
        if row.group != group:
            group = row.group
            lines.append(r"    \midrule")
        cells = [_cell_latex(block, column, cell) for column, cell in _pairs(block, row)]
        lines.append(f"    {' & '.join([*map(latex_text, _names(block, row)), *cells])} \\\\")
    return [*lines, r"    \bottomrule", r"  \end{tabular}}"]


def _cell_latex(block: Block, column: Column, cell: Cell) -> str:
    digits = DIGITS[column.metric]
    # The brackets are braced: after a line break "[" would be read as an optional argument.
    ours = latex_text(value_text(cell, digits))
    shown = rf"\textbf{{{ours}}}" if cell.best else ours
    bracket = bracket_text(block, cell, digits)
    return f"{shown} {{{bracket}}}" if bracket else shown


def _pairs(block: Block, row: Row) -> list[tuple[Column, Cell]]:
    return list(zip(block.columns, row.cells, strict=True))


def _walk(table: Table) -> Iterator[tuple[Block, Row, Column, Cell]]:
    for block in table.blocks:
        for row in block.rows:
            for column, cell in _pairs(block, row):
                yield block, row, column, cell


def _number(value: float | None, cell: Cell) -> str:
    if not cell.exists:
        return NOT_AVAILABLE
    if not cell.n or value is None:
        return MISSING
    return UNDEFINED if math.isnan(value) else f"{value:.6f}"


def _deviation(cell: Cell) -> str:
    return NOT_AVAILABLE if cell.n and cell.sd is None else _number(cell.sd, cell)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]], phantoms: bool) -> str:
    """The lines; of a study on phantoms each begins with the field that says so."""
    head, first = ((DATA_FIELD,), (PHANTOM_DATA,)) if phantoms else ((), ())
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((*head, *header))
    for row in rows:
        texts = (csv_text(value) if isinstance(value, str) else value for value in row)
        writer.writerow((*first, *texts))
    return stream.getvalue()


def _plain(value: object) -> object:
    return f"{value:.9g}" if isinstance(value, float) else value
