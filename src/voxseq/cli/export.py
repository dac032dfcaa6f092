"""The command that writes encoders and models for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxseq.base.errors import DataError
from voxseq.cli.options import overlay_option, params_option, workspace_of

if TYPE_CHECKING:
    from voxseq.models.monai_vit import Projection
    from voxseq.predict.export.run import Format


@click.command()
@click.argument("source")
@click.option(
    "--to",
    type=click.Choice(["safetensors", "monai", "bundle"]),
    required=True,
    help="safetensors, monai: an encoder; bundle: a trained model.",
)
@click.option(
    "-o", "--out", "folder", type=click.Path(path_type=Path), required=True, help="New folder."
)
@click.option(
    "--image-size",
    type=click.IntRange(min=1),
    nargs=3,
    metavar="X Y Z",
    help="With --to monai: voxels of the images.",
)
@click.option(
    "--projection",
    type=click.Choice(["conv", "perceptron"]),
    default="conv",
    show_default=True,
    help="With --to monai: the ViT's proj_type.",
)
@params_option
@overlay_option
def export(
    source: str,
    to: Format,
    folder: Path,
    image_size: tuple[int, int, int] | None,
    projection: Projection,
    params: Path,
    overlays: tuple[Path, ...],
) -> None:
    """Write an encoder or a trained model for other programs.

    SOURCE is an encoder's file, the folder of an encoder or of a trained model, or a run of the
    configuration, such as pretrain/ours/s0 or finetune/la/ours/s0.
    """
    from voxseq.predict.export.run import export as write

    place = Path(source).expanduser()
    if not place.exists():
        place = _folder_of_run(source, params, overlays)
    written = write(place, folder, to, image_size=image_size, projection=projection)
    for path in written:
        click.echo(str(path))


def _folder_of_run(source: str, params: Path, overlays: tuple[Path, ...]) -> Path:
    """Folder of a finished run of the configuration."""
    if not params.exists():
        raise DataError(
            f"{source}: nothing there, and no configuration {params} of which it could be a run",
            "name a file or a folder, or go to the folder of the study",
        )
    workspace = workspace_of(params, overlays)
    run = workspace.plan.runs.get(source)
    if run is None or not workspace.is_finished(run):
        reason = "no file, no folder and no run of this configuration"
        raise DataError(
            f"{source}: {reason if run is None else 'this run is not finished'}",
            "`voxseq plan` lists the runs and tells which are finished",
        )
    return workspace.folder(run)
