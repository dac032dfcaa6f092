"""Footnotes of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from voxseq.report.sheet import Column, Table
from voxseq.report.tables import differences as statistics
from voxseq.report.tables import layout
from voxseq.report.tables.source import Source

LEGEND = (
    "Each cell: mean ± sd over seeds (n = number of seeds){paper}. The sd is the sample standard "
    "deviation; with one seed it is “–”. Bold: best mean of the column."
)
PAPER = " and, in square brackets, the paper's value where it has one"
BEYOND_LEGEND = (
    "Each cell: mean ± sd over seeds (n = number of seeds) and, in square brackets, the mean of "
    "the row it is compared with. The sd is the sample standard deviation; with one seed it is "
    "“–”. Alone in a cell, “–” says that the row has no such task."
)
DICE = (
    "Dice is the mean over test cases, then over classes, for each seed; a class that a case lacks "
    "is left out of its mean."
)
_GRIDS = {
    "stored": "the prepared (resampled, cropped) grid",
    "native": "the original voxel grid of each case",
}


def with_notes(table: Table, source: Source, *, absent: tuple[str, ...], reference: str) -> Table:
    """The table with the footnotes that it needs.

    Args:
        table: the table without them.
        source: what it was made of.
        absent: columns of the paper that the study does not have.
        reference: what the rows are compared with, as a reader calls it.
    """
    columns = [column for block in table.blocks for column in block.columns]
    beyond = any(block.shows_reference for block in table.blocks)
    papers = any(cell.paper is not None for cell in table.cells)
    tasks = [source.study.tasks[c.task] for c in columns if c.task]
    states = {cell.status for cell in table.cells}
    notes = []
    if columns:
        notes.append(BEYOND_LEGEND if beyond else LEGEND.format(paper=PAPER if papers else ""))
        notes += _marks(table, source, reference)
    if papers:
        notes.append(
            f"Scale of this study: {source.study.scale}. The paper's values belong to its own "
            "data, splits and ViT-B encoder; at another scale they give orientation and are not a "
            "target."
        )
    notes += _average(source, columns)
    notes += _grids({task.title: task.score_grid for task in tasks if task.score_grid})
    if "missing" in states:
        row = "a row of the paper or " if papers else ""
        notes.append(f"missing: {row}a planned run that has not been run.")
    if "partial" in states:
        notes.append("†: fewer seeds than planned.")
    if papers and absent:
        notes.append(f"Columns of the paper that are not in this scale: {', '.join(absent)}.")
    return replace(table, notes=tuple(notes))


def _marks(table: Table, source: Source, reference: str) -> list[str]:
    """What the marks mean, and where none can stand."""
    frame = source.differences[source.differences["table"] == table.number]
    if frame.empty:
        return []
    text = (
        f"▲, ▼: clearly above, clearly below {reference}: p below {statistics.SIGNIFICANT:g} after "
        f"Holm's correction over the {len(frame)} comparisons of this table, and a 95 % interval "
        "of the paired difference that leaves out zero; differences.md has all of them."
    )
    unreachable = statistics.out_of_reach(source.study, frame)
    if not unreachable:
        return [text]
    return [
        text,
        "With too few test cases for any mark, so that its absence is no sign of equality: "
        f"{', '.join(unreachable)}.",
    ]


def _average(source: Source, columns: Sequence[Column]) -> list[str]:
    """Which tasks the average is over, where the table has others."""
    tasks = layout.average_tasks(source.study)
    if all(c.task for c in columns) or len(tasks) == len(columns) - 1:
        return []
    return [f"Average: over {', '.join(task.title for task in tasks)}."]


def _grids(grids: Mapping[str, str]) -> list[str]:
    """How Dice is computed, for the titles of segmentation tasks and their grids."""
    if not grids:
        return []
    notes = [DICE]
    for grid in sorted(set(grids.values())):
        tasks = ", ".join(title for title, value in grids.items() if value == grid)
        notes.append(f"Dice of {tasks} on {_GRIDS.get(grid, grid)}.")
    return notes
