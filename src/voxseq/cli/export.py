"""The command that writes encoders and models for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxseq.base.errors import DataError
from voxseq.cli.options import overlay_option, params_option
from voxseq.cli.runs import finished_run

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
    configuration, such as pretrain/ours/s0 or finetune/la/ours/s0; of your own study with --overlay
    NAME.
    """
    from voxseq.predict.export.run import export as write

    place = Path(source).expanduser()
    if not place.exists():
        found = finished_run(source, params, overlays)
        if found is None:
            raise DataError(
                f"{source}: no file, no folder and no run",
                "name an encoder, a model, or a run such as pretrain/ours/s0",
            )
        workspace, run = found
        place = workspace.folder(run)
    written = write(place, folder, to, image_size=image_size, projection=projection)
    for path in written:
        click.echo(str(path))
