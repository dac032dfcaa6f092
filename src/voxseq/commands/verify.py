"""``voxseq verify``: whether finished results still are what was written."""

from __future__ import annotations

from pathlib import Path

import click

from voxseq.commands.options import overlay_option, params_option


@click.command()
@params_option
@overlay_option
@click.argument("stages", nargs=-1)
def verify(params: Path, overlays: tuple[Path, ...], stages: tuple[str, ...]) -> None:
    """Compare every file of finished runs with its recorded checksum.

    Damaged runs count as not done from then on: the next call of the workflow does them again.
    """
    from voxseq.config import load_config, read_yaml
    from voxseq.errors import IntegrityError, VoxseqError
    from voxseq.markers import verified
    from voxseq.plan import STAGES, build_plan
    from voxseq.runs import Workspace

    unknown = sorted(set(stages) - set(STAGES))
    if unknown:
        raise VoxseqError(f"unknown stage {unknown[0]!r}", f"choose from {', '.join(STAGES)}")
    plan = build_plan(load_config(params, [read_yaml(path) for path in overlays]))
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
    if damaged:
        again = " ".join(sorted({run.stage for run in damaged}))
        raise IntegrityError(
            f"{len(damaged)} runs are not what was written: {', '.join(r.id for r in damaged[:5])}",
            f"look after the disk, then do them again: snakemake --cores all {again}",
        )
