"""An encoder with its model card: as our own file, or as the weights of MONAI's ``ViT``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from voxseq.base.errors import ConfigError
from voxseq.base.files import atomic_path, write_json, write_text
from voxseq.models.monai_vit import Projection, to_monai
from voxseq.models.patches import Grid
from voxseq.models.transfer import ENCODER_FILE, open_encoder
from voxseq.predict.export.texts import encoder_page

PLAN, CARD = "adaptation_plan.json", "README.md"
VIT, VIT_ARGUMENTS = "vit.pt", "vit.json"
_PLAN_TEXT = "architecture, token, spacing and the keys of encoder and stem"


def export_safetensors(path: Path, folder: Path) -> list[Path]:
    """Write an encoder's file with a card and an adaptation plan; returns the files.

    Args:
        path: an encoder.safetensors.
        folder: made where it is not there.

    Raises:
        IntegrityError: as :func:`voxseq.models.transfer.open_encoder`.
    """
    encoder, record = open_encoder(path)
    with atomic_path(folder / ENCODER_FILE) as temporary:
        shutil.copyfile(path, temporary)
    keys = {"key_to_encoder": "blocks", "key_to_stem": "patch_embedding", "key_to_lpe": None}
    plan = adaptation_plan("voxseq.models.encoder.Encoder", encoder.config.model_dump(), record)
    write_json(folder / PLAN, {**plan, **keys, "keys_to_in_proj": ["patch_embedding"]})
    files = {ENCODER_FILE: "weights, geometry and record", PLAN: _PLAN_TEXT}
    write_text(folder / CARD, encoder_page(encoder, record, files))
    return [folder / name for name in (*files, CARD)]


def export_monai(
    path: Path, folder: Path, image_size: Grid, projection: Projection = "conv"
) -> list[Path]:
    """Write an encoder as the state and the arguments of MONAI's ``ViT``; returns the files.

    Args:
        path: an encoder.safetensors.
        folder: made where it is not there.
        image_size: voxels of the images that its positions are written for.
        projection: how the ViT embeds tokens.

    Raises:
        ConfigError: the tokens do not divide the image.
        IntegrityError: as :func:`voxseq.models.transfer.open_encoder`.
    """
    encoder, record = open_encoder(path)
    misfit = encoder.config.misfit(image_size)
    if misfit:
        raise ConfigError(
            f"--image-size {misfit.replace('encoder.patch_size', 'the token')}",
            "name voxels along x, y and z that are multiples of the token's",
        )
    made = to_monai(encoder, image_size, projection)
    with atomic_path(folder / VIT) as temporary:
        torch.save(made.state, temporary)
    write_json(folder / VIT_ARGUMENTS, made.arguments)
    stem = "patch_embedding.patch_embeddings"
    keys = {
        "key_to_encoder": "blocks",
        "key_to_stem": stem,
        "keys_to_in_proj": [stem if projection == "conv" else f"{stem}.1"],
        "key_to_lpe": "patch_embedding.position_embeddings",
    }
    plan = adaptation_plan("monai.networks.nets.ViT", made.arguments, record)
    write_json(
        folder / PLAN, {**plan, **keys, "recommended_downstream_patchsize": list(image_size)}
    )
    files = {
        VIT: "state of the ViT, of `torch.save`; `weights_only=True` loads it",
        VIT_ARGUMENTS: "arguments of the ViT",
        PLAN: _PLAN_TEXT,
    }
    write_text(folder / CARD, encoder_page(encoder, record, files, made.arguments))
    return [folder / name for name in (*files, CARD)]


def adaptation_plan(
    architecture: str, arguments: Mapping[str, Any], record: Mapping[str, Any]
) -> dict[str, Any]:
    """What nnssl's checkpoints say about themselves, under the same keys, as far as it is known."""
    preparation = record.get("preprocessing") or {}
    return {
        "architecture_plans": {"arch_class_name": architecture, "arch_kwargs": dict(arguments)},
        "pretrain_plan": dict(record),
        "pretrain_num_input_channels": 1,
        "recommended_downstream_patchsize": preparation.get("window_shape"),
    }
