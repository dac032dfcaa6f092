"""The encoder and the pre-training of one method."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, model_validator

from voxseq.config.base import (
    Channels,
    Cores,
    Depth,
    Model,
    Momentum,
    Name,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Shape3,
)


class EncoderConfig(Model):
    """Vision transformer shared by all methods (paper, section 4: ViT-B at paper scale)."""

    width: Channels = 96
    depth: Depth = 4
    heads: Channels = 4
    mlp_width: Channels = 384
    patch_size: Shape3 = (4, 4, 4)

    @property
    def has_binary_cubes(self) -> bool:
        """Whether a token is a cube whose side is a power of two, as decoders that double the
        resolution need."""
        side = self.patch_size[0]
        return len(set(self.patch_size)) == 1 and side > 1 and not side & (side - 1)

    @property
    def voxels(self) -> int:
        """Voxels of a token."""
        return math.prod(self.patch_size)

    def misfit(self, shape: Shape3) -> str:
        """Why boxes of this shape cannot be cut into tokens; empty where they can."""
        if all(s % p == 0 for s, p in zip(shape, self.patch_size, strict=True)):
            return ""
        return f"{shape} is not a multiple of encoder.patch_size {self.patch_size}"

    def tokens(self, shape: Shape3) -> int:
        """Tokens of a box of this shape."""
        return math.prod(s // p for s, p in zip(shape, self.patch_size, strict=True))

    @model_validator(mode="after")
    def _divisible(self) -> EncoderConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.width % 6:
            raise ValueError(
                f"width {self.width} is not divisible by 6, which the 3D sine-cosine positions need"
            )
        return self


class OptimiserConfig(Model):
    """AdamW and its schedule."""

    lr: PositiveFloat
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = Field(0.01, le=1e6)
    decay_one_dimensional: bool = Field(
        True, description="whether weight decay also acts on biases, norms and the start token"
    )
    layer_decay: float | None = Field(None, gt=0.0, le=1.0)
    decoder_lr: PositiveFloat | None = Field(None, description="null: lr")
    warmup_steps: NonNegative = 0
    schedule: str = Field("cosine", pattern="^(cosine|poly|constant|multistep)$")
    final_lr_factor: float = Field(
        0.0, ge=0.0, le=1.0, description="learning rate at the end of the cosine, as a share of lr"
    )
    clip_norm: PositiveFloat | None = None


class PretrainTraining(Model):
    """What the pre-trainings of all methods share."""

    steps: Positive = 1200
    batch_size: Positive = 16
    seed: NonNegative = 42
    precision: str = Field("32-true", pattern="^(32-true|bf16-mixed|16-mixed)$")
    threads: Cores = Field(1, description="CPU threads of one training; part of the result")
    validate_every: Positive = 200
    validation_sequences: Positive = Field(128, ge=2)
    log_every: Positive = 20
    checkpoint_every: Positive = 200


class PretrainConfig(PretrainTraining):
    """Pre-training: what all methods share, and the methods."""

    #: method name → its own settings, validated by the method's configuration model
    methods: dict[Name, dict[str, Any]] = Field(default_factory=dict)
