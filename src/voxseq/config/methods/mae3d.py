"""Settings of MAE3D."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from voxseq.config.base import Shape3
from voxseq.config.methods.base import Misfit, Surroundings
from voxseq.config.methods.masked import MaskedSettings
from voxseq.config.model import OptimiserConfig


class MAE3DSettings(MaskedSettings):
    """Masked autoencoder for volumes (Chen et al. 2023; He et al. 2022)."""

    accumulates: ClassVar[bool] = True

    optimiser: OptimiserConfig = OptimiserConfig(
        lr=3e-4, weight_decay=0.05, warmup_steps=10_000, final_lr_factor=1 / 3
    )
    crop_shape: Shape3 = Field(
        (96, 96, 96), description="voxels of the random box that is cut from each volume"
    )

    def misfits(self, around: Surroundings) -> Iterator[Misfit]:
        """Crops that cannot be masked or cut, besides."""
        yield from super().misfits(around)
        yield from self.masked_grid("crop_shape", self.crop_shape, around)
        whole = around.sequences.image_shape
        if any(c > n for c, n in zip(self.crop_shape, whole, strict=True)):
            yield "crop_shape", f"{self.crop_shape} exceeds sequences.spatial.window_shape {whole}"
