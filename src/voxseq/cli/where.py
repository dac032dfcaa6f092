"""``voxseq where``: where results are, and whether they are up to date."""

from __future__ import annotations

from pathlib import Path

import click

from voxseq.cli.options import load, overlay_option, params_option


@click.command()
@params_option
@overlay_option
def where(params: Path, overlays: tuple[Path, ...]) -> None:
    """Say where tables, figures and the report lie, and whether they are up to date."""
    from voxseq.engine.publishing import state_of_results
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import build_plan

    plan = build_plan(load(params, overlays))
    for name in ("tables", "figures", "report/index.html", "cost/index.html"):
        click.echo(f"{name.split('/')[0]:8} {Path(plan.results) / name}")
    jobs = list(plan.jobs.values())
    finished = sum(Path(plan.marker(job)).exists() for job in jobs)
    click.echo(f"scale {plan.scale}: {finished} of {len(jobs)} jobs finished")
    for line in state_of_results(Workspace(Path.cwd(), plan)):
        click.echo(line)
