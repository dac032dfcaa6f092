"""Settings of MoCo v3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from voxseq.config.base import Channels, Momentum, Shape3, Temperature
from voxseq.config.methods.base import MethodSettings, Misfit, Surroundings
from voxseq.config.methods.view import CropScale
from voxseq.config.model import OptimiserConfig


class MoCoV3Settings(MethodSettings):
    """MoCo v3 (Chen et al. 2021), for volumes."""

    least_batch: ClassVar[int] = 2
    batch_reason: ClassVar[str] = (
        "a single item has no others to be told from, and batch norm no statistics"
    )

    optimiser: OptimiserConfig = OptimiserConfig(
        lr=1.6875e-4, weight_decay=0.1, warmup_steps=13_333
    )
    view_shape: Shape3 = Field((96, 96, 96), description="voxels of each of the two views")
    scale: CropScale = Field(
        (0.08, 1.0), description="smallest and largest share of the volume that a view covers"
    )
    temperature: Temperature = Field(0.2, description="of the contrastive loss")
    momentum: Momentum = Field(
        0.99, description="of the key encoder at the first step; rises to 1 along half a cosine"
    )
    hidden_width: Channels = Field(4096, description="channels inside projector and predictor")
    output_width: Channels = Field(
        256, ge=2, description="channels of the vectors that are compared"
    )

    def misfits(self, around: Surroundings) -> Iterator[Misfit]:
        """Views that cannot be cut into tokens, besides."""
        yield from super().misfits(around)
        yield from around.grid("view_shape", self.view_shape)
