"""Commands for trained models: predict images, score predictions, compute features."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from voxseq.base.errors import DataError
from voxseq.cli.options import overlay_option, params_option, require_other
from voxseq.cli.runs import CARD, ENCODER, finished_run

#: Endings of result files, as :data:`voxseq.predict.files.FORMATS`, which loads heavy libraries.
_FORMATS = ("nii.gz", "nii", "mha", "nrrd")
#: Cases that could not be predicted of which the last lines tell.
_SHOWN = 20

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where the networks compute; auto: a CUDA GPU, else the CPU.",
)


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="MODEL... INPUT...")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the predictions.",
)
@click.option("--probabilities", is_flag=True, help="Write the probability of each class too.")
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Write the entropy of the probabilities too, and the spread of an ensemble.",
)
@click.option("--flips", is_flag=True, help="Average over the eight mirror images.")
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of a window that its neighbour covers too  [default: as in training]",
)
@click.option(
    "--gaussian", is_flag=True, help="Let the middle of a window count more than its edges."
)
@device_option
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Processes that read images beside this.",
)
@click.option(
    "--format",
    "ending",
    type=click.Choice(_FORMATS),
    help="Of the masks  [default: as each input, nii.gz of DICOM series]",
)
@click.option(
    "--dicom-seg",
    is_flag=True,
    help="Write masks of DICOM series as DICOM-SEG objects too (pip install 'voxseq[dicom-seg]').",
)
@params_option
@overlay_option
def predict(
    words: tuple[str, ...],
    out: Path,
    probabilities: bool,
    uncertainty: bool,
    flips: bool,
    overlap: float | None,
    gaussian: bool,
    device: str,
    workers: int,
    ending: str | None,
    dicom_seg: bool,
    params: Path,
    overlays: tuple[Path, ...],
) -> None:
    """Predict images with a trained model, or with an ensemble of several.

    MODEL is a run of this workspace, such as finetune/task09_spleen/ours/s0, or a folder with
    model.json; several are averaged. INPUT is a NIfTI, MetaImage or NRRD file, a folder of such
    files (nnU-Net's imagesTs too) or of DICOM series, or a pattern in quotes.

    Called again, it resumes. An image that cannot be predicted is named, and
    the others are done; the status is then 1.
    """
    from voxseq.base.logs import setup_logging
    from voxseq.base.stopping import stop_requests

    setup_logging()
    models, inputs = _models_and_inputs(words, params, overlays)
    with stop_requests():
        from voxseq.predict.inputs import find_cases
        from voxseq.predict.model import Options, TrainedModel
        from voxseq.predict.run import predict_cases

        options = Options(overlap, gaussian, flips, probabilities, uncertainty)
        model = TrainedModel.load(*models, device=device)
        cases = find_cases(inputs, model.card.counts, out)
        outcome = predict_cases(
            *(model, cases, out, options),
            ending=f".{ending}" if ending else None,  # type: ignore[arg-type]
            dicom_seg=dicom_seg,
            workers=workers,
        )
    earlier = f", {len(outcome.kept)} of them before" if outcome.kept else ""
    there = len(outcome.done) + len(outcome.kept)
    click.echo(f"{out}: {there} of {len(cases)} images predicted{earlier}")
    for name, reason in list(outcome.failed.items())[:_SHOWN]:
        click.echo(f"not predicted: {name}: {reason}", err=True)
    if len(outcome.failed) > _SHOWN:
        click.echo(f"not predicted: {len(outcome.failed) - _SHOWN} more", err=True)
    if outcome.failed:
        sys.exit(1)


def _models_and_inputs(
    words: tuple[str, ...], params: Path, overlays: tuple[Path, ...]
) -> tuple[list[Path], list[str]]:
    """Folders of the models that come first, and what follows them."""
    models: list[Path] = []
    for word in words:
        folder = model_folder(word, params, overlays)
        if folder is None:
            break
        models.append(folder)
    if not models:
        raise DataError(
            f"{words[0]}: no trained model (no {CARD} there, and no run of this workspace)",
            "name a run such as finetune/task09_spleen/ours/s0, or its folder, before the images",
        )
    inputs = list(words[len(models) :])
    if not inputs:
        raise DataError("no image is named", "name files, folders or patterns after the model")
    return models, inputs


def model_folder(word: str, params: Path, overlays: tuple[Path, ...]) -> Path | None:
    """Folder of a model: a run of the workspace, or a folder that holds one; None for another word.

    Raises:
        ConfigError: the configuration is not valid.
        DataError: the run is not finished, or its network was not kept.
    """
    place = Path(word).expanduser()
    if any((folder / CARD).is_file() for folder in (place, place / "models")):
        return place
    if place.exists():
        return None
    found = finished_run(word, params, overlays)
    if found is None:
        return None
    workspace, run = found
    if not (workspace.folder(run) / CARD).is_file():
        raise DataError(
            f"{word}: the network of this run was not kept",
            "set finetune.keep_models to all, or name the run of seed 0; "
            "only rows of the stage finetune keep theirs",
        )
    return workspace.folder(run)


@click.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file of all scores  [default: only their means are printed]",
)
@click.option("--names", help="Names of the classes 1, 2, …, separated by commas.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Millimetres within which a surface counts as met.",
)
@click.option("--ignore", "ignored", type=int, help="Value of voxels that are not scored.")
@click.option("--no-surface", is_flag=True, help="Score Dice alone, which is quicker.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Processes that score beside this one.",
)
def evaluate(
    predictions: Path,
    labels: Path,
    out: Path | None,
    names: str | None,
    tolerance: float,
    ignored: int | None,
    no_surface: bool,
    workers: int,
) -> None:
    """Score PREDICTIONS against LABELS: masks of any program, or CSV tables.

    Masks are two files or two folders, whose files belong together by their names. Tables have a
    column case; predictions one of value, probability or probability_CLASS, labels one of target.
    A case that cannot be scored is named; the status is then 1.
    """
    from rich.console import Console
    from rich.table import Table

    from voxseq.base.logs import setup_logging
    from voxseq.predict.evaluate import Settings
    from voxseq.predict.evaluate import evaluate as scores_of

    setup_logging()
    if out is not None:
        require_other(out, predictions, labels)
    given = tuple(name.strip() for name in names.split(",")) if names else ()
    settings = Settings(given, tolerance, ignored, not no_surface)
    found = scores_of(predictions, labels, settings, workers)
    if out is not None:
        found.write(out)
    shown = Table("label", "metric", "mean", "cases", box=None, pad_edge=False)
    for label, metric, mean, count in found.means():
        shown.add_row(label or "all", metric, f"{mean:.4f}", str(count) if label else "")
    if shown.row_count:
        Console(highlight=False).print(shown)
    for name, reason in found.failed.items():
        click.echo(f"not scored: {name}: {reason}", err=True)
    if found.failed:
        sys.exit(1)


@click.command()
@click.argument("encoder")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the features: .npz, .parquet or .csv.",
)
@click.option(
    "--tokens/--pooled",
    default=None,
    help="Features of all tokens, or one vector per image  [default: both in .npz, else pooled]",
)
@click.option(
    "--scale",
    type=click.Choice(["tile", "volume"]),
    default="tile",
    show_default=True,
    help="Scale intensities by percentiles of each tile, as in pre-training, or of the image.",
)
@device_option
@params_option
@overlay_option
def features(
    encoder: str,
    inputs: tuple[str, ...],
    out: Path,
    tokens: bool | None,
    scale: str,
    device: str,
    params: Path,
    overlays: tuple[Path, ...],
) -> None:
    """Compute features of whole images with a trained encoder.

    ENCODER is a run such as pretrain/ours/s0 or finetune/task09_spleen/ours/s0, a file
    encoder.safetensors, or the folder of either. An image that cannot be read is named, and the
    others are done; the status is then 1.
    """
    from voxseq.base.logs import setup_logging
    from voxseq.base.stopping import stop_requests

    setup_logging()
    place = _encoder_place(encoder, params, overlays)
    with stop_requests():
        from voxseq.base.progress import track
        from voxseq.predict.features import ENDINGS, FeatureExtractor, Features, write_features
        from voxseq.predict.inputs import find_cases, read_channels

        if out.suffix.lower() not in ENDINGS:
            raise DataError(f"{out}: expected a file that ends in {', '.join(ENDINGS)}")
        extractor = FeatureExtractor.load(place, device)
        cases = find_cases(inputs, extractor.counts)
        found: dict[str, Features] = {}
        failed: dict[str, str] = {}
        for case in track(cases, "features", len(cases)):
            try:
                volumes = read_channels(case)
                found[case.name] = extractor.extract(
                    volumes,
                    scale,  # type: ignore[arg-type]
                )
            except DataError as error:
                failed[case.name] = error.what
        if found:
            wanted = out.suffix.lower() == ".npz" if tokens is None else tokens
            write_features(out, found, tokens=wanted)
            click.echo(f"{out}: features of {len(found)} of {len(cases)} images")
    for name, reason in failed.items():
        click.echo(f"no features: {name}: {reason}", err=True)
    if failed:
        sys.exit(1)


def _encoder_place(word: str, params: Path, overlays: tuple[Path, ...]) -> Path:
    """File or folder of an encoder."""
    place = Path(word).expanduser()
    if place.is_file() or (place / ENCODER).is_file():
        return place
    folder = place if place.exists() else None
    if word.split("/", 1)[0] == "pretrain" or "/pretrain/" in word:
        found = finished_run(word, params, overlays)
        folder = found[0].folder(found[1]) if found else folder
    else:
        folder = model_folder(word, params, overlays) or folder
    names = (ENCODER, CARD, f"models/{CARD}")
    if folder is None or not any((folder / name).is_file() for name in names):
        raise DataError(
            f"{word}: no encoder (no {ENCODER} or {CARD} there, and no run of this workspace)",
            "name a run such as pretrain/ours/s0, its folder, or an encoder file",
        )
    return folder
