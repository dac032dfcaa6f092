"""Settings of MedCoSS."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from voxseq.config.base import Fraction, Positive
from voxseq.config.model import OptimiserConfig
from voxseq.pretrain.settings.masked import MaskedSettings


class MedCoSSSettings(MaskedSettings):
    """Continual pre-training, CT then MRI, with rehearsal (Ye et al. 2024)."""

    optimiser: OptimiserConfig = OptimiserConfig(
        lr=1.6875e-4,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        decay_one_dimensional=False,
        warmup_steps=6_667,
    )
    decoder_heads: Positive = Field(16, description="attention heads of the decoder")
    buffer_share: Fraction = Field(
        0.05, description="share of the first stage's items that the rehearsal buffer holds"
    )
    cluster_share: Fraction = Field(
        0.01, description="number of k-means clusters, as a share of the first stage's items"
    )
    buffer_candidates: Positive | None = Field(
        None, description="only so many items, drawn by seed, may enter the buffer; null: all"
    )

    @model_validator(mode="after")
    def _clusters_hold_items(self) -> Self:
        if self.cluster_share > self.buffer_share:
            raise ValueError(
                f"cluster_share {self.cluster_share} exceeds buffer_share {self.buffer_share}: "
                "each cluster gives at least one item"
            )
        return self
