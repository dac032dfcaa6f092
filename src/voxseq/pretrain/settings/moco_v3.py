"""Settings of MoCo v3."""

from __future__ import annotations

from pydantic import Field

from voxseq.config.base import Momentum, Positive, PositiveFloat, Shape3
from voxseq.config.model import OptimiserConfig
from voxseq.pretrain.settings.base import MethodSettings
from voxseq.pretrain.settings.view import CropScale


class MoCoV3Settings(MethodSettings):
    """MoCo v3 (Chen et al. 2021), for volumes."""

    optimiser: OptimiserConfig = OptimiserConfig(
        lr=1.6875e-4, weight_decay=0.1, warmup_steps=13_333
    )
    view_shape: Shape3 = Field((96, 96, 96), description="voxels of each of the two views")
    scale: CropScale = Field(
        (0.08, 1.0), description="smallest and largest share of the volume that a view covers"
    )
    temperature: PositiveFloat = Field(0.2, description="of the contrastive loss")
    momentum: Momentum = Field(
        0.99, description="of the key encoder at the first step; rises to 1 along half a cosine"
    )
    hidden_width: Positive = Field(4096, description="channels inside projector and predictor")
    output_width: Positive = Field(256, description="channels of the vectors that are compared")
