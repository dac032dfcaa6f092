"""Settings of PCRLv2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from voxseq.config.base import Channels, Depth, NonNegativeFloat, Shape3
from voxseq.config.methods.base import MethodSettings, Misfit, Surroundings
from voxseq.config.methods.view import CropScale
from voxseq.config.model import OptimiserConfig

#: Scales that carry the losses.
SCALES = 3


class PCRLv2Settings(MethodSettings):
    """PCRLv2 (Zhou et al. 2023), for a vision transformer."""

    least_batch: ClassVar[int] = 2
    batch_reason: ClassVar[str] = "batch norm has no statistics of a single item"

    optimiser: OptimiserConfig = OptimiserConfig(
        lr=1.6875e-4, weight_decay=0.05, decay_one_dimensional=False, warmup_steps=10_000
    )
    global_shape: Shape3 = Field((96, 96, 96), description="voxels of each of the two large views")
    local_shape: Shape3 = Field((48, 48, 48), description="voxels of each small view")
    local_views: Depth = Field(6, description="small views of each volume")
    global_side: CropScale = Field(
        (0.5, 1.0),
        description="smallest and largest side of a large view's box, as a share of the volume's",
    )
    local_side: CropScale = Field((0.125, 0.375), description="the same for a small view")
    overlap: float = Field(
        0.3,
        ge=0.0,
        lt=1.0,
        description="intersection over union that the boxes of the two large views exceed",
    )
    decoder_channels: tuple[Channels, ...] = Field(
        (256, 128, 64, 32), min_length=2, description="channels of the decoder, deepest scale first"
    )
    swaps: Depth = Field(100, description="pairs of blocks that are exchanged in a large view")
    swap_block: Shape3 = Field((12, 6, 12), description="voxels of such a block")
    blur: NonNegativeFloat = Field(
        2.0,
        le=100.0,
        description="largest standard deviation of the blur, in voxels of a large view of 64 or a "
        "small one of 16",
    )
    noise: NonNegativeFloat = Field(
        0.25, le=100.0, description="largest standard deviation of the noise"
    )

    def misfits(self, around: Surroundings) -> Iterator[Misfit]:
        """Views, blocks and decoder that do not fit each other, besides."""
        yield from super().misfits(around)
        yield from around.grid("global_shape", self.global_shape)
        yield from around.grid("local_shape", self.local_shape)
        if any(b > n for b, n in zip(self.swap_block, self.global_shape, strict=True)):
            yield (
                "swap_block",
                f"{self.swap_block} is larger than global_shape {self.global_shape}",
            )
        if not around.encoder.has_binary_cubes:
            yield (
                "",
                f"encoder.patch_size {around.encoder.patch_size}: the decoder of PCRLv2 needs a "
                "cube whose side is a power of two",
            )
            return
        stages = around.encoder.patch_size[0].bit_length() - 1
        wanted = max(stages, min(stages + 1, SCALES))
        if len(self.decoder_channels) < wanted:
            yield (
                "decoder_channels",
                f"{self.decoder_channels}: tokens of {2**stages} voxels need {wanted}, one for "
                "each scale, the deepest first",
            )
