"""Entry points of the stages "tables" and "figures"."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxseq.runs import RunContext


def execute_tables(context: RunContext) -> None:
    """Write tables/, plots/ and metrics.json into ``context.out``, without torch or matplotlib."""
    from voxseq.report import tables

    tables.execute_tables(context)


def execute_figures(context: RunContext) -> None:
    """Write figures/*.png and report/index.html into ``context.out``."""
    from voxseq.report import figures

    figures.execute_figures(context)
