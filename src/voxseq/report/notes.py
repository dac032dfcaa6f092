"""Footnotes of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LEGEND = (
    "Each cell: mean ± sd over seeds (n = number of seeds) and, in square brackets, the paper's "
    "value. The sd is the sample standard deviation; with one seed it is “–”. Bold: best mean of "
    "the column."
)
DICE = (
    "Dice is the mean over test cases, then over classes, for each seed; a class that a case lacks "
    "is left out of its mean."
)
PAPER = (
    "n/a: the paper's value is not at hand. The paper's full tables could not be obtained; only "
    "values with a source are shown, and the source of each is in paper_values.csv."
)
_GRIDS = {
    "stored": "the prepared (resampled, cropped) grid, as published",
    "native": "the original voxel grid of each case",
}


def table_notes(
    *,
    scale: str,
    absent: Sequence[str],
    has_columns: bool,
    any_missing: bool,
    any_partial: bool,
    any_paper_missing: bool,
    grids: Mapping[str, str],
) -> tuple[str, ...]:
    """The footnotes that a table needs.

    Args:
        scale: name of the study's scale.
        absent: columns of the paper that the study does not have.
        has_columns: whether the study has any column of this table.
        any_missing: whether a run of the table is missing.
        any_partial: whether a cell has fewer seeds than planned.
        any_paper_missing: whether a value of the paper is not at hand.
        grids: title of each segmentation task → grid on which Dice is computed.
    """
    notes = []
    if has_columns:
        notes.append(LEGEND)
        notes.append(
            f"Scale of this study: {scale}. The paper's values belong to its own data, splits and "
            "ViT-B encoder; at another scale they give orientation and are not a target."
        )
    if grids:
        notes.append(DICE)
        for grid in sorted(set(grids.values())):
            tasks = ", ".join(title for title, value in grids.items() if value == grid)
            notes.append(f"Dice of {tasks} on {_GRIDS.get(grid, grid)}.")
    if any_missing:
        notes.append("missing: a row of the paper or a planned run that has not been run.")
    if any_partial:
        notes.append("†: fewer seeds than planned.")
    if any_paper_missing:
        notes.append(PAPER)
    if absent:
        notes.append(f"Columns of the paper that are not in this scale: {', '.join(absent)}.")
    return tuple(notes)
