"""Commands of a user's own studies."""

from __future__ import annotations

from pathlib import Path

import click

from voxseq.cli.options import load

#: Everything a study has: its tables and figures, and all that they need.
EVERYTHING = "reproduce_tables"
#: The workspace's own configuration, over which the workflow lays others.
PARAMS = Path("params.yaml")


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
    from voxseq.cli.results import print_places
    from voxseq.study.launch import require_workspace, snakemake, study_file

    if cores != "all" and not (cores.isdecimal() and int(cores)):
        raise click.BadParameter(f"{cores!r} is neither a number nor all", param_hint="--cores")
    path = study_file(study)
    require_workspace(Path.cwd())
    # Mistakes are named here, before Snakemake adds lines of its own.
    load(PARAMS, (path,))
    status = snakemake(path, target, cores, ["--dry-run"] if dry_run else [])
    if status:
        raise click.exceptions.Exit(status)
    if not dry_run:
        print_places(PARAMS, (path,))
