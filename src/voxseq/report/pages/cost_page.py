"""The page of costs: hours and memory of each stage and of each row of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from voxseq.report.escape import html_text
from voxseq.report.pages import markup
from voxseq.report.study import Study
from voxseq.report.tables import cost
from voxseq.report.tables.cost import CostRow

_HEADER = ("Stage", "Runs recorded", "Hours in total", "Peak memory of a run (MB)")


def render_costs(study: Study, rows: Sequence[CostRow], records: Mapping[str, Path]) -> str:
    """The page; without rows it says that nothing is recorded.

    Args:
        study: what was planned.
        rows: of ``cost_rows``.
        records: run id → folder of its record, for cost.json.
    """
    parts = [markup.grid(_HEADER, _stages(study, records))] if rows else []
    for group in dict.fromkeys(row.group for row in rows):
        chosen = [row.cells for row in rows if row.group == group]
        parts += [f"<h2>{html_text(group)}</h2>", markup.grid(cost.HEADER, chosen)]
    notes = markup.notes(cost.NOTES) if rows else f"<p>{html_text(cost.NOT_RECORDED)}</p>"
    return markup.page(
        title=f"voxseq costs: {study.scale}",
        lead=f"<p>Scale: <b>{html_text(study.scale)}</b>.</p>",
        links=[("../report/index.html", "Report")],
        body="\n".join([*parts, notes]),
        phantoms=study.phantoms,
    )


def _stages(study: Study, records: Mapping[str, Path]) -> list[tuple[str, ...]]:
    """One row a stage: its title, runs, hours and memory."""
    rows: list[tuple[str, ...]] = []
    for title, ids in study.stages().items():
        costs = [found for run in ids if (found := cost.numbers_of(records, run, cost.COST))]
        seconds = sum(float(found.get("seconds", 0.0)) for found in costs)
        memory = max((float(found.get("peak_memory_mb", 0.0)) for found in costs), default=0.0)
        counted = f"{len(costs)} of {len(ids)}"
        rows.append((title, counted, f"{seconds / 3600:.2f}", f"{memory:.0f}"))
    return rows
