"""From an encoder or a trained model to a folder for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from voxseq.base.errors import ConfigError, DataError
from voxseq.base.files import size_of
from voxseq.models.bundle import is_model
from voxseq.models.monai_vit import Projection
from voxseq.models.patches import Grid
from voxseq.models.transfer import ENCODER_FILE

Format = Literal["safetensors", "monai", "bundle"]


def export(
    source: Path,
    folder: Path,
    to: Format,
    *,
    image_size: Grid | None = None,
    projection: Projection = "conv",
) -> list[Path]:
    """Export an encoder or a trained model; returns the files that were written.

    Args:
        source: an encoder's file, or the folder of an encoder or a trained model.
        folder: new or empty.
        to: safetensors and monai are for encoders, bundle for trained models.
        image_size: monai: voxels of the images that its positions are for.
        projection: monai: how the ViT embeds tokens.

    Raises:
        ConfigError: a format that does not fit the source, or a setting that is missing.
        DataError: nothing to export there, or files in the way.
        IntegrityError: damaged files.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty", "name a new folder, or empty this one")
    if to == "bundle":
        from voxseq.predict.export.bundle import export_bundle

        return export_bundle(_model(source), folder)
    from voxseq.predict.export.encoder import export_monai, export_safetensors

    path = _encoder(source)
    if to == "safetensors":
        return export_safetensors(path, folder)
    if image_size is None:
        raise ConfigError(
            "--image-size is missing: MONAI's ViT holds positions for images of one size",
            "name voxels along x, y and z, such as --image-size 96 96 96",
        )
    return export_monai(path, folder, image_size, projection)


def _encoder(source: Path) -> Path:
    """File of the encoder that a source names."""
    path = source / ENCODER_FILE if source.is_dir() else source
    if size_of(path) is not None:
        return path
    if is_model(source):
        raise ConfigError(
            f"{source} is a trained model, not an encoder",
            "export it with --to bundle, or name the pre-training that it started from",
        )
    raise DataError(
        f"{source}: no encoder there",
        f"name an {ENCODER_FILE}, or the folder of a pre-training, such as pretrain/ours/s0",
    )


def _model(source: Path) -> Path:
    if is_model(source):
        return source
    if size_of(source / ENCODER_FILE) is not None or size_of(source) is not None:
        raise ConfigError(
            f"{source} is no trained model, of which alone a bundle can be made",
            "name the folder of a fine-tuning, or export the encoder with --to safetensors or "
            "--to monai",
        )
    raise DataError(
        f"{source}: no trained model there",
        "name the folder of a fine-tuning whose model was kept (finetune.keep_models), such as "
        "finetune/la/ours/s0",
    )
