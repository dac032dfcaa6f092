"""Contrasts of one place, which must lie on one grid: sequences take the same box of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from voxseq.data.headers import COMPARE, GRID_TOLERANCE, ROUNDING, corner_distance, in_ras
from voxseq.data.volume import Array, Remark

Row = Mapping[str, Any]


def check_groups(
    rows: Iterable[Row], contrasts: Sequence[str]
) -> tuple[dict[str, str], list[Remark]]:
    """Compare the grids of each group of aligned contrasts, in the world of their headers.

    The order and direction in which axes are stored are no difference: they are turned to RAS.
    Corners may lie :data:`~voxseq.data.headers.GRID_TOLERANCE` of the shortest side of a voxel
    apart; from :data:`~voxseq.data.headers.ROUNDING` of it they are named.

    Args:
        rows: of the usable images in the index.
        contrasts: those that every group needs.

    Returns:
        Reasons why a group cannot be used, by the name of the group; and remarks on the others.
    """
    groups: dict[str, dict[str, Row]] = {}
    for row in rows:
        groups.setdefault(row["group"], {})[row["contrast"]] = row
    reasons: dict[str, str] = {}
    remarks: list[Remark] = []
    for group, members in groups.items():
        missing = [c for c in contrasts if c not in members]
        if missing:
            reasons[group] = f"the contrast {', '.join(missing)} of {group} is missing or unusable"
        else:
            reason, odd = _compare(group, [members[c] for c in contrasts])
            reasons |= {group: reason} if reason else {}
            remarks += odd
    return reasons, remarks


def _compare(group: str, rows: Sequence[Row]) -> tuple[str, list[Remark]]:
    """The reason why contrasts do not lie on one grid, or ""; and remarks where they just do."""
    unoriented = [row["contrast"] for row in rows if not row["orientation"]]
    if 0 < len(unoriented) < len(rows):
        reason = f"of {group} the header of {', '.join(unoriented)} states no orientation"
        return f"{reason}: whether it lies on the grid of the others cannot be told", []
    grids = [_grid(row) for row in rows]
    sizes = {shape for _, shape in grids}
    if len(sizes) > 1:
        return f"the contrasts of {group} have different shapes {sorted(sizes)}", []
    first, shape = grids[0]
    side = float(np.sqrt((first[:3, :3] ** 2).sum(axis=0)).min())
    distances = [corner_distance(affine, first, shape) for affine, _ in grids]
    furthest = int(np.argmax(distances))
    found = f"up to {distances[furthest]:.3g} mm apart"
    names = f"{rows[furthest]['contrast']} and {rows[0]['contrast']} of {group}"
    if not distances[furthest] <= GRID_TOLERANCE * side:
        return f"{names} do not lie on one grid, their corners are {found}", []
    if distances[furthest] > ROUNDING * side:
        reason = f"the grids of {names} differ, their corners are {found}: taken as one grid"
        return "", [Remark(rows[furthest]["path"], reason, COMPARE)]
    return "", []


def _grid(row: Row) -> tuple[Array, tuple[int, ...]]:
    affine = np.reshape(np.asarray(row["affine"], dtype=float), (4, 4))
    shape = [row[f"shape_{axis}"] for axis in "xyz"]
    return in_ras(affine, shape) if row["orientation"] else (affine, tuple(shape))
