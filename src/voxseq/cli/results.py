"""Commands about results: tables, their place, whether they are whole, doing runs again."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxseq.base.commands import to_make
from voxseq.base.errors import IntegrityError, VoxseqError
from voxseq.base.words import several
from voxseq.cli.options import (
    check_stages,
    overlay_option,
    params_option,
    study_argument,
    workspace_of,
)

if TYPE_CHECKING:
    from voxseq.engine.workspace import Workspace


@click.command()
@params_option
@overlay_option
@study_argument
def tables(params: Path, overlays: tuple[Path, ...]) -> None:
    """Print the tables and the cost of STUDY, a file in studies/; without it of params.yaml."""
    from voxseq.cli.show import printed
    from voxseq.plan.outputs import table_numbers

    workspace = workspace_of(params, overlays)
    plan = workspace.plan
    made = plan.runs["tables/all"]
    numbers = table_numbers(made.config)
    is_ascii = "utf" not in (sys.stdout.encoding or "").lower()
    again = to_make(overlays=overlays)
    text = printed(Path(plan.results), numbers, make=again, ascii_only=is_ascii)
    click.echo(text, nl=False)
    if not workspace.is_finished(made):
        click.echo(f"not made here with the present parameters; `{again}` does it", err=True)


@click.command()
@params_option
@overlay_option
@study_argument
def where(params: Path, overlays: tuple[Path, ...]) -> None:
    """Show where tables, figures and the report of STUDY are, and whether they are up to date."""
    print_places(params, overlays)


def print_places(params: Path, overlays: tuple[Path, ...]) -> None:
    """Print the folders of results, how much is finished, and what is out of date."""
    from voxseq.engine.publishing import state_of_results

    workspace = workspace_of(params, overlays)
    plan = workspace.plan
    for name in ("tables", "figures", "report/index.html", "cost/index.html"):
        click.echo(f"{name.split('/')[0]:8} {Path(plan.results) / name}")
    for path, count in _set_aside(workspace):
        click.echo(f"{several(count, 'image')} set aside, with reasons: {path}")
    jobs = list(plan.jobs.values())
    finished = sum(Path(plan.marker(job)).exists() for job in jobs)
    click.echo(f"scale {plan.scale}: {finished} of {len(jobs)} jobs finished")
    for line in state_of_results(workspace, overlays):
        click.echo(line)


def _set_aside(workspace: Workspace) -> Iterator[tuple[Path, int]]:
    """Lists of images that could not be used, each with their number."""
    from voxseq.data.examined import SET_ASIDE

    for run in workspace.plan.runs.values():
        path = workspace.folder(run) / SET_ASIDE
        if run.stage in ("download", "preprocess") and path.is_file():
            with path.open(newline="", encoding="utf-8") as handle:
                count = sum(1 for _ in csv.DictReader(handle))
            if count:
                yield path.relative_to(workspace.root), count


@click.command()
@params_option
@overlay_option
@click.argument("stages", nargs=-1)
def verify(params: Path, overlays: tuple[Path, ...], stages: tuple[str, ...]) -> None:
    """Compare every file of finished runs, and of the results folder, with its recorded checksum.

    Damaged runs count as not done from then on: the next call of the workflow does them again. It
    publishes files again that are missing in the results folder, or were edited there.
    """
    from voxseq.engine.markers import verified

    check_stages(*sorted(stages))
    workspace = workspace_of(params, overlays)
    plan = workspace.plan
    runs = [run for run in plan.runs.values() if not stages or run.stage in stages]
    finished = [run for run in runs if workspace.marker(run).exists()]
    damaged = []
    for run in finished:
        found = verified(workspace.marker(run), run.id, workspace.memory(run).checksums_anew)
        if found is not None:
            damaged.append(run)
            click.echo(f"damaged: {run.id}: {found}")
    click.echo(f"{len(finished)} finished runs of {len(runs)} compared, {len(damaged)} damaged")
    reports = [run for run in workspace.reports() if run in finished and run not in damaged]
    unlike = {run.stage: one for run in reports if (one := workspace.unpublished(run))}
    for stage, difference in unlike.items():
        click.echo(f"{plan.results}, {stage}: {difference}")
    if damaged:
        again = sorted({run.stage for run in damaged})
        raise IntegrityError(
            f"not as it was written: {several(len(damaged), 'run')}, such as {damaged[0].id}",
            f"look after the disk, then do them again: {to_make(*again, overlays=overlays)}",
        )
    if unlike:
        raise IntegrityError(
            f"{plan.results} does not hold what was published",
            f"publish it anew: {to_make(*unlike, overlays=overlays)}",
        )


@click.command()
@params_option
@overlay_option
@click.option("--only", is_flag=True, help="Not the runs that follow from them.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.argument("runs", nargs=-1, required=True)
def forget(
    params: Path, overlays: tuple[Path, ...], only: bool, yes: bool, runs: tuple[str, ...]
) -> None:
    """Have RUNS and all that follow from them done again by the next call of the workflow.

    RUNS are ids (pretrain/ours/s0), beginnings of ids (pretrain, finetune/la) or patterns in quotes
    ('finetune/*/ours/*'). Nothing is deleted: results and checkpoints move to .voxseq/forgotten.
    """
    from voxseq.engine.forgetting import chosen, with_followers
    from voxseq.engine.forgetting import forget as put_aside

    workspace = workspace_of(params, overlays)
    plan = workspace.plan
    named = chosen(plan, runs)
    concerned = named if only else with_followers(plan, named)
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
        f"`{to_make(overlays=overlays)}`{'' if overlays else ' or `dvc repro`'} does them again"
    )
