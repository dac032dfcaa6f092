"""Look at a segmentation: a picture of an image with its labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxseq.cli.options import require_other

if TYPE_CHECKING:
    from voxseq.data.volume import Volume

_DPI = 150
_file = click.Path(path_type=Path, exists=True)


@click.command()
@click.argument("image", type=_file)
@click.argument("labels", type=_file)
@click.option("--truth", type=_file, help="True labels, whose border is drawn in white.")
@click.option(
    "--name",
    "names",
    multiple=True,
    help="Of class 1, 2, …; may be repeated  [default: of voxseq's own predictions their names]",
)
@click.option("--title", default="", help="Above the picture  [default: the image's name]")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PNG file  [default: beside the labels]",
)
def picture(
    image: Path,
    labels: Path,
    truth: Path | None,
    names: tuple[str, ...],
    title: str,
    out: Path | None,
) -> None:
    """Draw IMAGE in three planes with its LABELS, such as a prediction, and print the file's path.

    Both are NIfTI, MetaImage or NRRD files on one grid; IMAGE may be a folder of a DICOM series.
    """
    from voxseq.base.paths import without_ending
    from voxseq.predict.journal import read_made_by
    from voxseq.report.figures.planes import planes_figure
    from voxseq.report.figures.style import save, styled

    path = out or labels.with_name(f"{without_ending(labels.name)}.png")
    require_other(path, image, labels, truth)
    with styled():
        figure = planes_figure(
            _read(image),
            _read(labels),
            None if truth is None else _read(truth),
            title=title or image.name,
            names=names or tuple(read_made_by(labels.parent).get("labels", ())),
        )
        save(figure, path, _DPI)
    click.echo(path)


def _read(path: Path) -> Volume:
    from voxseq.base.errors import DataError
    from voxseq.predict.inputs import find_cases, read_channels

    cases = find_cases([path])
    if len(cases) != 1:
        raise DataError(f"{path}: {len(cases)} images in it", "name one of them")
    return read_channels(cases[0])[0]
