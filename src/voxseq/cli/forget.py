"""``voxseq forget``: have finished runs done again."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click

from voxseq.base.errors import VoxseqError
from voxseq.cli.options import load, overlay_option, params_option


@click.command()
@params_option
@overlay_option
@click.option("--only", is_flag=True, help="Not the runs that follow from them.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.argument("runs", nargs=-1, required=True)
def forget(
    params: Path, overlays: tuple[Path, ...], only: bool, yes: bool, runs: tuple[str, ...]
) -> None:
    """Have RUNS and what follows from them done again by the next call of the workflow.

    RUNS are ids (pretrain/ours), beginnings of ids (pretrain, finetune/la) or patterns in quotes
    ('finetune/*/ours/*'). Nothing is deleted: results and checkpoints move to .voxseq/forgotten.
    """
    from voxseq.engine.forgetting import chosen, with_followers
    from voxseq.engine.forgetting import forget as put_aside
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import build_plan

    plan = build_plan(load(params, overlays))
    named = chosen(plan, runs)
    concerned = named if only else with_followers(plan, named)
    workspace = Workspace(Path.cwd(), plan)
    for run in concerned:
        state = "finished" if workspace.is_finished(run) else "not finished"
        click.echo(f"{run.id}  {state}")
    stages = Counter(run.stage for run in concerned)
    listed = ", ".join(f"{count} of {stage}" for stage, count in stages.items())
    click.echo(f"{len(concerned)} runs of scale {plan.scale}: {listed}")
    if not yes:
        if not sys.stdin.isatty():
            raise VoxseqError("nothing was forgotten: there is nobody to ask", "--yes does it")
        click.confirm("Have these done again?", abort=True)
    place = put_aside(workspace, concerned)
    if place is None:
        click.echo("there was nothing of them")
        return
    click.echo(
        f"moved to {place.relative_to(workspace.root)}, where nothing looks for results; "
        "`snakemake --cores all reproduce_tables` or `dvc repro` does them again"
    )
