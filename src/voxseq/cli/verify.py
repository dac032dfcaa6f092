"""``voxseq verify``: whether finished results still are what was written."""

from __future__ import annotations

from pathlib import Path

import click

from voxseq.cli.options import load, overlay_option, params_option


@click.command()
@params_option
@overlay_option
@click.argument("stages", nargs=-1)
def verify(params: Path, overlays: tuple[Path, ...], stages: tuple[str, ...]) -> None:
    """Compare every file of finished runs, and of the results folder, with its recorded checksum.

    Damaged runs count as not done from then on: the next call of the workflow does them again. It
    publishes anew what is missing in the results folder, or was edited there.
    """
    from voxseq.base.errors import IntegrityError, VoxseqError
    from voxseq.engine.markers import verified
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import STAGES, build_plan

    unknown = sorted(set(stages) - set(STAGES))
    if unknown:
        raise VoxseqError(f"unknown stage {unknown[0]!r}", f"choose from {', '.join(STAGES)}")
    plan = build_plan(load(params, overlays))
    workspace = Workspace(Path.cwd(), plan)
    runs = [run for run in plan.runs.values() if not stages or run.stage in stages]
    finished = [run for run in runs if workspace.marker(run).exists()]
    damaged = []
    for run in finished:
        found = verified(workspace.marker(run), run.id)
        if found is not None:
            damaged.append(run)
            click.echo(f"damaged: {run.id}: {found}")
    click.echo(f"{len(finished)} finished runs of {len(runs)} compared, {len(damaged)} damaged")
    reports = [run for run in workspace.reports() if run in finished and run not in damaged]
    unlike = {run.stage: one for run in reports if (one := workspace.unpublished(run))}
    for stage, difference in unlike.items():
        click.echo(f"{plan.results}, {stage}: {difference}")
    if damaged:
        again = " ".join(sorted({run.stage for run in damaged}))
        raise IntegrityError(
            f"{len(damaged)} runs are not what was written: {', '.join(r.id for r in damaged[:5])}",
            f"look after the disk, then do them again: snakemake --cores all {again}",
        )
    if unlike:
        raise IntegrityError(
            f"{plan.results} does not hold what was published",
            f"publish it anew: snakemake --cores all {' '.join(unlike)}",
        )
