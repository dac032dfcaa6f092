"""The encoder and the pre-training of one method."""

from __future__ import annotations

import math
from typing import Any, Literal

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

#: Arithmetic of a training, by Lightning's names.
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class EncoderConfig(Model):
    """Vision transformer shared by all methods (paper, section 4: ViT-B at paper scale)."""

    width: Channels = 96
    """channels C; divisible by heads and by 6"""
    depth: Depth = 4
    """transformer blocks"""
    heads: Channels = 4
    """attention heads"""
    mlp_width: Channels = 384
    """hidden channels of a block's two-layer perceptron"""
    patch_size: Shape3 = (4, 4, 4)
    """voxels of a token; segmentation needs a cube whose side is a power of two"""

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
    """learning rate at the end of warm-up"""
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    """decay rates of AdamW's two averages"""
    weight_decay: NonNegativeFloat = Field(0.01, le=1e6)
    """decoupled weight decay"""
    decay_one_dimensional: bool = True
    """whether weight decay also acts on biases, norms and the start token"""
    layer_decay: float | None = Field(None, gt=0.0, le=1.0)
    """factor of the learning rate from each block to the one below; fine-tuning only; null: none"""
    decoder_lr: PositiveFloat | None = None
    """null: lr"""
    warmup_steps: NonNegative = 0
    """steps of linear rise from 0"""
    schedule: Literal["cosine", "poly", "constant", "multistep"] = "cosine"
    """after warm-up: half cosine to 0, (1 - t/T)^0.9, constant, or a tenth from 50 % and again from
    75 % of the steps"""
    final_lr_factor: float = Field(0.0, ge=0.0, le=1.0)
    """learning rate at the end of the cosine, as a share of lr"""
    clip_norm: PositiveFloat | None = None
    """largest norm of the whole gradient; null: no clipping"""


class PretrainTraining(Model):
    """Settings that the pre-trainings of all methods share."""

    steps: Positive = 1200
    """optimiser steps of every method"""
    batch_size: Positive = 16
    """sequences, or single images, of a step"""
    precision: Precision = "32-true"
    """arithmetic of forward and backward passes"""
    threads: Cores = 1
    """CPU threads of one training; part of the result"""
    validate_every: Positive = 200
    """steps between validations; which weights are kept is the method's: the last ones, or those of
    the smallest validation loss"""
    validation_sequences: Positive = Field(128, ge=2)
    """held-out sequences that are scored, at most"""
    log_every: Positive = 20
    """steps between entries of metrics.csv"""
    checkpoint_every: Positive = 200
    """steps between checkpoints"""


class PretrainConfig(PretrainTraining):
    """Pre-training: settings of all methods, and the methods."""

    methods: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    """methods to pre-train, each with its own settings, below"""
