"""The encoder and the pre-training of one method."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from voxseq.config.base import (
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

    width: Positive = 96
    depth: Positive = 4
    heads: Positive = 4
    mlp_width: Positive = 384
    patch_size: Shape3 = (4, 4, 4)

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
    weight_decay: NonNegativeFloat = 0.01
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


class PretrainConfig(Model):
    """Pre-training: what all methods share, and the methods."""

    steps: Positive = 1200
    batch_size: Positive = 16
    seed: NonNegative = 42
    precision: str = Field("32-true", pattern="^(32-true|bf16-mixed|16-mixed)$")
    threads: Positive = Field(1, description="CPU threads of one training; part of the result")
    validate_every: Positive = 200
    validation_sequences: Positive = 128
    log_every: Positive = 20
    checkpoint_every: Positive = 200
    #: method name → its own settings, validated by the method's configuration model
    methods: dict[Name, dict[str, Any]] = Field(default_factory=dict)
