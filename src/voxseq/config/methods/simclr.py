"""Settings of SimCLR."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from voxseq.config.base import Channels, Shape3, Temperature
from voxseq.config.methods.base import MethodSettings, Misfit, Surroundings
from voxseq.config.methods.view import CropScale
from voxseq.config.model import OptimiserConfig


class SimCLRSettings(MethodSettings):
    """SimCLR (Chen et al. 2020), for a vision transformer and volumes."""

    least_batch: ClassVar[int] = 2
    batch_reason: ClassVar[str] = "a single item has no others to be told from"

    optimiser: OptimiserConfig = OptimiserConfig(
        lr=1.6875e-4, weight_decay=0.1, decay_one_dimensional=False, warmup_steps=10_000
    )
    view_shape: Shape3 = Field((96, 96, 96), description="voxels of each of the two views")
    scale: CropScale = Field(
        (0.2, 1.0), description="smallest and largest share of the volume that a view covers"
    )
    # Below, exp(1 / temperature), which the loss does not shift, is beyond single precision.
    temperature: Temperature = Field(0.1, ge=0.02, description="of the NT-Xent loss")
    output_width: Channels = Field(
        128, ge=2, description="channels of the projection that is compared"
    )

    def misfits(self, around: Surroundings) -> Iterator[Misfit]:
        """Views that cannot be cut into tokens, besides."""
        yield from super().misfits(around)
        yield from around.grid("view_shape", self.view_shape)
