"""Entry points of the stages "tables" and "figures"."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext


def execute_tables(context: RunContext) -> None:
    """Write the tables, the data of plots and metrics.json into ``context.out``.

    Needs neither torch nor matplotlib.
    """
    from voxseq.report.tables import run as tables

    tables.execute_tables(context)


def execute_figures(context: RunContext) -> None:
    """Write figures and the report into ``context.out``."""
    from voxseq.report.figures import run as figures

    figures.execute_figures(context)


def execute_costs(context: RunContext) -> None:
    """Write cost/ into ``context.out`` from what is recorded of the trainings, if anything is."""
    from voxseq.report.tables import cost

    cost.execute_costs(context)
