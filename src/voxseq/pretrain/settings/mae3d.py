"""Settings of MAE3D."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from voxseq.config.base import Shape3
from voxseq.config.model import OptimiserConfig
from voxseq.pretrain.settings.masked import MaskedSettings


class MAE3DSettings(MaskedSettings):
    """Masked autoencoder for volumes (Chen et al. 2023; He et al. 2022)."""

    accumulates: ClassVar[bool] = True
    shards: ClassVar[bool] = True

    optimiser: OptimiserConfig = OptimiserConfig(
        lr=3e-4, weight_decay=0.05, warmup_steps=10_000, final_lr_factor=1 / 3
    )
    crop_shape: Shape3 = Field(
        (96, 96, 96), description="voxels of the random box that is cut from each volume"
    )
