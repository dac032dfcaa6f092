"""Settings of PCRLv2."""

from __future__ import annotations

from pydantic import Field

from voxseq.config.base import NonNegativeFloat, Positive, Shape3
from voxseq.config.model import OptimiserConfig
from voxseq.pretrain.settings.base import MethodSettings
from voxseq.pretrain.settings.view import CropScale


class PCRLv2Settings(MethodSettings):
    """PCRLv2 (Zhou et al. 2023), for a vision transformer."""

    optimiser: OptimiserConfig = OptimiserConfig(
        lr=1.6875e-4, weight_decay=0.05, decay_one_dimensional=False, warmup_steps=10_000
    )
    global_shape: Shape3 = Field((96, 96, 96), description="voxels of each of the two large views")
    local_shape: Shape3 = Field((48, 48, 48), description="voxels of each small view")
    local_views: Positive = Field(6, description="small views of each volume")
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
    decoder_channels: tuple[Positive, ...] = Field(
        (256, 128, 64, 32), min_length=2, description="channels of the decoder, deepest scale first"
    )
    swaps: Positive = Field(100, description="pairs of blocks that are exchanged in a large view")
    swap_block: Shape3 = Field((12, 6, 12), description="voxels of such a block")
    blur: NonNegativeFloat = Field(
        2.0,
        description="largest standard deviation of the blur, in voxels of a large view of 64 or a "
        "small one of 16",
    )
    noise: NonNegativeFloat = Field(0.25, description="largest standard deviation of the noise")
