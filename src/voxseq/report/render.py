"""Tables as CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from voxseq.report.study import DIGITS, METRIC_TITLES, UNITS

if TYPE_CHECKING:
    import pandas as pd

    from voxseq.report.tables import Block, Cell, Column, Row, Table

MISSING = "missing"
NOT_AVAILABLE = "n/a"
UNDEFINED = "undefined"
NO_SD = "–"
NO_TASK = "This study has no task of this table."
CSV_COLUMNS = (
    *("table", "block", "group", "row", "column", "metric", "unit", "label_ratio"),
    *("mean", "sd", "n", "planned", "cases", "paper", "status"),
)
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "±": r"$\pm$",
    "†": r"$^{\dagger}$",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "×": r"$\times$",
    "³": r"$^3$",
}


def value_text(cell: Cell, digits: int) -> str:
    """Our value of a cell: "72.31 ± 0.52 (n=3)", "missing" or "undefined (n=1)"."""
    if cell.mean is None:
        return MISSING
    if math.isnan(cell.mean):
        return f"{UNDEFINED} (n={cell.n})"
    sd = NO_SD if cell.sd is None else f"{cell.sd:.{digits}f}"
    mark = "†" if cell.status == "partial" else ""
    return f"{cell.mean:.{digits}f} ± {sd} (n={cell.n}){mark}"


def paper_text(cell: Cell) -> str:
    """The paper's value of a cell, or "n/a"."""
    return NOT_AVAILABLE if cell.paper is None else cell.paper


def to_csv(table: Table) -> str:
    """One line a cell, numbers in the printed unit; a missing mean is the word "missing"."""
    rows = [
        (
            *(table.number, block.title, row.group, row.title, column.title, column.metric),
            *(UNITS[column.metric] or "0-1", f"{column.ratio:g}"),
            *(_number(cell.mean, cell), _deviation(cell), cell.n, cell.planned),
            NOT_AVAILABLE if column.cases is None else column.cases,
            paper_text(cell),
            cell.status,
        )
        for block, row, column, cell in _walk(table)
    ]
    return _csv(CSV_COLUMNS, rows)


def frame_to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV; an undefined number is written as "nan", never left blank."""
    rows = [tuple(_plain(value) for value in row) for row in frame.itertuples(index=False)]
    return _csv(tuple(frame.columns), rows)


def to_markdown(table: Table) -> str:
    """GitHub Markdown: a heading, one grid a block, footnotes as a list."""
    lines = [f"## Table {table.number}. {table.title}", ""]
    for block in table.blocks:
        if not block.columns:
            lines += [NO_TASK, ""]
            continue
        if block.title:
            lines += [f"### {block.title}, {METRIC_TITLES[block.columns[0].metric]}", ""]
        lines += markdown_grid(
            [block.corner, *(_markdown(c.header).replace("\n", "<br>") for c in block.columns)],
            [
                [_markdown(row.title), *(_cell_markdown(c, k) for c, k in _pairs(block, row))]
                for row in block.rows
            ],
        )
        lines.append("")
    lines += [f"- {_markdown(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def markdown_grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table: first column left, the others right, padded to be readable."""
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
    """A LaTeX table for booktabs and graphicx, complete with caption, label and footnotes."""
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage{graphicx}",
        r"\begin{table}[t]",
        r"  \centering",
        rf"  \caption{{{_latex(table.title)}.}}",
        rf"  \label{{tab:voxseq-{table.number}}}",
    ]
    for block in table.blocks:
        lines += _latex_block(block) if block.columns else [f"  {NO_TASK}"]
    lines.append(r"  \par\smallskip\footnotesize\raggedright")
    lines += [f"  {_latex(note)}\\par" for note in table.notes]
    lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> str:
    """The table as HTML, every text escaped."""
    parts = []
    for block in table.blocks:
        if not block.columns:
            parts.append(f"<p>{NO_TASK}</p>")
            continue
        if block.title:
            metric = METRIC_TITLES[block.columns[0].metric]
            parts.append(f"<h3>{html.escape(block.title)}, {metric}</h3>")
        parts.append(_html_block(block))
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return "\n".join(parts) + f'\n<ul class="notes">{notes}</ul>'


def _html_block(block: Block) -> str:
    head = "".join(
        f"<th>{html.escape(c.header).replace(chr(10), '<br>')}</th>" for c in block.columns
    )
    top = f"<tr><th>{block.corner}</th>{head}</tr>"
    lines = [f'<div class="wide"><table><thead>{top}</thead><tbody>']
    group = ""
    for row in block.rows:
        if row.group != group:
            group = row.group
            span = len(block.columns) + 1
            lines.append(f'<tr class="group"><th colspan="{span}">{html.escape(group)}</th></tr>')
        cells = "".join(_cell_html(column, cell) for column, cell in _pairs(block, row))
        lines.append(f"<tr><th>{html.escape(row.title)}</th>{cells}</tr>")
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def _cell_html(column: Column, cell: Cell) -> str:
    digits = DIGITS[column.metric]
    kind = "missing" if cell.status == "missing" else "best" if cell.best else "value"
    ours = html.escape(value_text(cell, digits))
    return f'<td class="{kind}">{ours}<br><small>[{paper_text(cell)}]</small></td>'


def _cell_markdown(column: Column, cell: Cell) -> str:
    digits = DIGITS[column.metric]
    ours = value_text(cell, digits)
    return f"{f'**{ours}**' if cell.best else ours} [{paper_text(cell)}]"


def _latex_block(block: Block) -> list[str]:
    lines = []
    if block.title:
        metric = METRIC_TITLES[block.columns[0].metric]
        lines.append(rf"  \par\medskip\textbf{{{_latex(block.title)}, {metric}}}\par\smallskip")
    lines += [
        r"  \resizebox{\linewidth}{!}{%",
        rf"  \begin{{tabular}}{{l{'c' * len(block.columns)}}}",
        r"    \toprule",
    ]
    heads = [c.header.split("\n") for c in block.columns]
    for level in range(max(len(head) for head in heads)):
        texts = [_latex(head[level]) if level < len(head) else "" for head in heads]
        lines.append(f"    {' & '.join(['' if level else block.corner, *texts])} \\\\")
    group = block.rows[0].group if block.rows else ""
    lines.append(r"    \midrule")
    for row in block.rows:
        if row.group != group:
            group = row.group
            lines.append(r"    \midrule")
        cells = [_cell_latex(column, cell) for column, cell in _pairs(block, row)]
        lines.append(f"    {' & '.join([_latex(row.title), *cells])} \\\\")
    return [*lines, r"    \bottomrule", r"  \end{tabular}}"]


def _cell_latex(column: Column, cell: Cell) -> str:
    digits = DIGITS[column.metric]
    # The brackets are braced: after a line break "[" would be read as an optional argument.
    ours = _latex(value_text(cell, digits))
    shown = rf"\textbf{{{ours}}}" if cell.best else ours
    return f"{shown} {{[{paper_text(cell)}]}}"


def _pairs(block: Block, row: Row) -> list[tuple[Column, Cell]]:
    return list(zip(block.columns, row.cells, strict=True))


def _walk(table: Table) -> Iterator[tuple[Block, Row, Column, Cell]]:
    for block in table.blocks:
        for row in block.rows:
            for column, cell in _pairs(block, row):
                yield block, row, column, cell


def _number(value: float | None, cell: Cell) -> str:
    if not cell.n or value is None:
        return MISSING
    return UNDEFINED if math.isnan(value) else f"{value:.6f}"


def _deviation(cell: Cell) -> str:
    return NOT_AVAILABLE if cell.n and cell.sd is None else _number(cell.sd, cell)


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def _plain(value: object) -> object:
    return f"{value:.9g}" if isinstance(value, float) else value


def _markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
