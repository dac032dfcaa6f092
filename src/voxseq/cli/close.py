"""``voxseq close``: the end of each stage of DVC."""

from __future__ import annotations

from pathlib import Path

import click

from voxseq.cli.options import check_stages, load, params_option


@click.command()
@params_option
@click.argument("stage")
@click.argument("scale")
@click.argument("results")
def close(params: Path, stage: str, scale: str, results: str) -> None:
    """End a stage of DVC (dvc.yaml calls this).

    Fails unless all that the present parameters name is finished, and DVC is about to record SCALE
    and RESULTS of these parameters. Then moves results that the plan no longer names to the attic.
    """
    from voxseq.engine.dvc import require_complete
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import STAGES, build_plan

    check_stages(stage)
    plan = build_plan(load(params))
    (found,) = (name for name in STAGES if name == stage)
    require_complete(Path.cwd(), plan, found, scale, results)
    for name in Workspace(Path.cwd(), plan).prune((found,)):
        click.echo(f"moved to the attic: {name}")
