"""Make workspaces outside of a checkout."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--update", is_flag=True, help="Renew the workflow of a workspace; settings stay.")
def new(folder: Path, update: bool) -> None:
    """Make a workspace in FOLDER: workflow, configuration, profiles for clusters.

    Studies are run there, with this installed voxseq; no checkout of the repository is needed.
    After an upgrade of voxseq --update replaces the workflow's files (Snakefile, dvc.yaml,
    workflow/), not params.yaml, profiles or scales.
    """
    from voxseq.study.laying import lay, renew

    written = (renew if update else lay)(folder)
    if update:
        for path in written:
            click.echo(f"renewed: {folder / path}")
        click.echo(f"{folder} has the workflow of this version")
        return
    click.echo(f"{len(written)} files in {folder}; next:")
    click.echo(f"  cd {folder}")
    click.echo(
        "  voxseq init NAME --images FOLDER   # a study of your own images, then: voxseq run"
    )
    click.echo("  snakemake --cores all              # the demo of params.yaml, on phantoms")
    click.echo("With `git init` first, DVC versions all results.")
