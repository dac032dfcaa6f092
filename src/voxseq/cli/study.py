"""Commands of a user's own studies."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxseq.base.commands import EVERYTHING, PHASES, STUDIES
from voxseq.base.words import several
from voxseq.cli.options import workspace_of

if TYPE_CHECKING:
    from rich.console import Console

    from voxseq.study.init import Study
    from voxseq.study.machine import Machine

#: The workspace's own configuration, over which the workflow lays others.
PARAMS = Path("params.yaml")
#: Chains of a study that compares rows.
_SEEDS = 3
#: Columns where the output is not a terminal.
WIDTH = 100


@click.command()
@click.argument("study")
@click.argument("target", default=EVERYTHING)
@click.option("--cores", default="all", show_default=True, help="CPU cores that jobs may use.")
@click.option("-n", "--dry-run", is_flag=True, help="Count the jobs that remain; do none.")
def run(study: str, target: str, cores: str, dry_run: bool) -> None:
    """Run STUDY, the name of a file in studies/ or the path of one.

    TARGET is a phase: download, preprocess, sequences, data, pretrain, finetune, tables, figures;
    without it everything is done. Finished work stays finished: after an interruption (Ctrl-C) the
    same command resumes.
    """
    from voxseq.base.logs import say_last
    from voxseq.cli.results import print_places
    from voxseq.engine.job_logs import JobLogs
    from voxseq.study.launch import require_workspace, snakemake, study_file

    if cores != "all" and not (cores.isdecimal() and int(cores)):
        raise click.BadParameter(f"{cores!r} is neither a number nor all", param_hint="--cores")
    if target not in (EVERYTHING, *PHASES) and not re.fullmatch(r"seed_\d+", target):
        raise click.BadParameter(
            f"{target!r} is no phase: {', '.join(PHASES)}", param_hint="TARGET"
        )
    path = study_file(study)
    require_workspace(Path.cwd())
    # Mistakes are named here, before Snakemake adds lines of its own.
    logs = JobLogs(workspace_of(PARAMS, (path,)))
    status = snakemake(path, target, cores, ["--dry-run"] if dry_run else [])
    if status:
        if failed := logs.failed():
            more = f"{several(len(failed) - 1, 'more job')} failed. " if failed[1:] else ""
            say_last(f"{failed[0]}\n{more}The same command resumes; finished runs are kept.")
        raise click.exceptions.Exit(status)
    if not dry_run:
        print_places(PARAMS, (path,))


@click.command()
@click.argument("name")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the images, or a table or npz file of them.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Folder of segmentations, or a CSV file of classes or numbers.",
)
@click.option(
    "--like",
    type=click.Choice(["files", "nnunet", "msd", "bids", "table", "medmnist"]),
    help="Layout of the folder  [default: the one that it looks like]",
)
@click.option(
    "--modality",
    type=click.Choice(["CT", "MRI"]),
    help="[default: as headers, names or intensities tell]",
)
@click.option(
    "--channels",
    help="Names of the channels of an image, separated by commas  [default: the data set's own]",
)
@click.option("--target", help="Column of the table that is to be predicted.")
@click.option("--pretrain-only", is_flag=True, help="An encoder alone; labels play no part.")
@click.option(
    "--preset",
    type=click.Choice(["tiny", "small", "base", "large"]),
    envvar="VOXSEQ_PRESET",
    help="Size of encoder and training  [default: the largest for images and machine]",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    envvar="VOXSEQ_STEPS",
    help="Of every training  [default: those of the preset]",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    envvar="VOXSEQ_SEEDS",
    help="Whole chains, each with its own pre-training  [default: 3; 1 with --pretrain-only]",
)
@click.option("--force", is_flag=True, help="Replace a study of this name.")
def init(
    name: str,
    images: Path,
    labels: Path | None,
    like: str | None,
    modality: str | None,
    channels: str | None,
    target: str | None,
    pretrain_only: bool,
    preset: str | None,
    steps: int | None,
    seeds: int | None,
    force: bool,
) -> None:
    """Look at images and write a study of them: studies/NAME.yaml.

    Shows what was found, what the study takes on this machine, and the next command. Nothing is
    trained, and nothing is asked.
    """
    from rich.console import Console

    from voxseq.base.files import write_text
    from voxseq.study.init import make, require_name, require_new, require_sound
    from voxseq.study.machine import this_machine
    from voxseq.study.settings import Wishes
    from voxseq.study.source import facts_of

    require_name(name)
    path = STUDIES / f"{name}.yaml"
    require_new(path, force=force)
    named = [name.strip() for name in (channels or "").split(",") if name.strip()]
    facts = facts_of(
        images, labels, like=like, modality=modality, target=target, channels=named or None
    )
    chains = seeds or (1 if pretrain_only else _SEEDS)
    wishes = Wishes(name, facts, target, pretrain_only, steps, chains)
    machine = this_machine()
    study = make(wishes, machine, preset, is_told=modality is not None)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
    _print_images(console, study)
    require_sound(study)
    write_text(path, study.text)
    _print_cost(console, study, machine)
    console.print(f"\nWritten: {path}. Look at it, then: {_next(name)}")


def _next(name: str) -> str:
    """What runs a study, here or, in a folder without the workflow, in a workspace."""
    from voxseq.study.launch import is_workspace

    if is_workspace(Path.cwd()):
        return f"voxseq run {name}"
    return (
        f"voxseq new FOLDER, as this folder is no workspace; move {STUDIES}/ there, and in it: "
        f"voxseq run {name}"
    )


def _print_images(console: Console, study: Study) -> None:
    from rich.table import Table

    from voxseq.study.look import cells

    table = Table(box=None, pad_edge=False, show_header=False)
    for what, value in cells(study.seen):
        table.add_row(what, value)
    if not study.wishes.pretrain_only:
        parts = ", ".join(f"{count} {name}" for name, count in study.division.sizes.items())
        table.add_row("subjects of the splits", parts)
    console.print(table)
    for finding in study.findings:
        if not finding.is_fatal:
            console.print(f"note: {finding.text}")


def _print_cost(console: Console, study: Study, machine: Machine) -> None:
    cost, config = study.cost, study.config
    assert cost is not None
    assert config is not None
    encoder = config.encoder
    console.print(
        f"\npreset {study.preset}: encoder of {encoder.depth} blocks, {encoder.width} channels, "
        f"tokens of {encoder.patch_size[0]} voxels"
    )
    console.print(
        f"on this machine ({machine}): about {_duration(cost.seconds)} for "
        f"{several(cost.runs, 'training')}, "
        f"{_size(cost.memory(machine))} of memory for the largest, {_size(cost.disk)} of disk"
    )
    if config.seeds > 1:
        own = "pre-training and fine-tunings" if config.finetune.tasks else "pre-training"
        console.print(
            f"{config.seeds} seeds, each with its own {own}: about "
            f"{_duration(cost.seconds / config.seeds)} each; --seeds 1 takes a single one"
        )
    if not cost.fits(machine):
        console.print(
            "note: the largest training may not fit the memory of this machine; a smaller preset "
            "or smaller batches do"
        )


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return several(max(round(seconds / 60), 1), "minute")
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 1):.0f} MB"
