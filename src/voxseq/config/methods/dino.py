"""Settings of DINO."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from voxseq.config.base import (
    Channels,
    Depth,
    Momentum,
    NonNegativeFloat,
    PositiveFloat,
    Probability,
    Shape3,
    Temperature,
)
from voxseq.config.methods.base import MethodSettings, Misfit, Surroundings
from voxseq.config.methods.view import CropScale
from voxseq.config.model import OptimiserConfig


class DINOSettings(MethodSettings):
    """DINO (Caron et al. 2021), for volumes.

    ``optimiser.weight_decay`` is that of the first step; ``final_weight_decay`` that of the last.
    """

    optimiser: OptimiserConfig = OptimiserConfig(
        lr=5.625e-4,
        weight_decay=0.04,
        decay_one_dimensional=False,
        warmup_steps=10_000,
        final_lr_factor=1.778e-3,
    )
    global_shape: Shape3 = Field((96, 96, 96), description="voxels of each of the two global views")
    local_shape: Shape3 = Field((48, 48, 48), description="voxels of each local view")
    local_views: Depth = Field(8, description="local views of each volume")
    global_scale: CropScale = Field(
        (0.4, 1.0), description="smallest and largest share of the volume that a global view covers"
    )
    local_scale: CropScale = Field((0.05, 0.4), description="the same for a local view")
    hidden_width: Channels = Field(2048, description="channels inside the head")
    bottleneck_width: Channels = Field(256, description="channels before the head's last layer")
    output_width: Channels = Field(
        65_536, ge=2, description="dimensions of the compared distributions"
    )
    student_temperature: Temperature = Field(0.1, description="of the student's softmax")
    teacher_temperature: Temperature = Field(
        0.04, description="of the teacher's softmax at the first step"
    )
    final_teacher_temperature: Temperature = Field(
        0.07, description="of the teacher's softmax after its linear warm-up"
    )
    teacher_temperature_warmup: Probability = Field(
        0.3, description="share of the training in which the teacher's temperature rises"
    )
    centre_momentum: Momentum = Field(0.9, description="of the centre of the teacher's outputs")
    teacher_momentum: Momentum = Field(
        0.996, description="of the teacher at the first step; rises to 1 along half a cosine"
    )
    final_weight_decay: NonNegativeFloat = Field(
        0.4, le=1e6, description="weight decay at the last step, along half a cosine"
    )
    clip_parameter_norm: PositiveFloat = Field(
        3.0, description="largest norm of the gradient of each parameter by itself"
    )
    frozen_last_layer: Probability = Field(
        0.01, description="share of the training in which the head's last layer stays as it is"
    )

    def misfits(self, around: Surroundings) -> Iterator[Misfit]:
        """Views that cannot be cut into tokens, besides."""
        yield from super().misfits(around)
        yield from around.grid("global_shape", self.global_shape)
        yield from around.grid("local_shape", self.local_shape)
