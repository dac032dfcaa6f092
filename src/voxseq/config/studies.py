"""The studies around fine-tuning, and the report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from voxseq.config.base import (
    Axis,
    Distinct,
    Fraction,
    Model,
    Name,
    NonNegative,
    Positive,
    Quantity,
    Title,
)
from voxseq.config.finetune import Names

#: Less is no case of any data set here.
LabelShare = Annotated[Fraction, Field(ge=1e-4)]


class LabelRatioConfig(Model):
    """Fine-tuning with fewer labels (Table 3)."""

    ratios: Annotated[tuple[LabelShare, ...], Distinct] = (0.5, 0.25, 0.1)
    """shares of the training cases; all of them always belong to the table"""
    tasks: Names = ()
    """tasks of the table; none: no such runs"""
    methods: Names | None = None
    """rows of the study that are trained so, as far as it has them; null: all"""


class AblationVariant(Model):
    """Changes of one row of Table 4; a field left out stays as in the full method."""

    title: Title
    """name in the table"""
    sequences: bool = True
    """false: single images in place of sequences"""
    attention: Literal["prefix", "causal"] | None = None
    """as in the settings of ours"""
    token_order: Literal["patch_major", "raster"] | None = None
    """as in the settings of ours"""
    loss: Literal["squared", "norm"] | None = None
    """as in the settings of ours"""
    without: Literal["spatial", "contrast", "semantic"] | None = None
    """kind of sequence that is left out"""
    stride: Axis | None = None
    """in place of sequences.spatial.stride"""


class AblationConfig(Model):
    """Changes to our method (Table 4): row name → settings that differ from the full method."""

    tasks: Names = ()
    """tasks that every variant is fine-tuned on; none: no ablation"""
    variants: dict[Name, AblationVariant] = Field(default_factory=dict)
    """name of the row: what differs from the full method"""


class BeyondConfig(Model):
    """Questions beyond the paper (Table 5): each part with its tasks."""

    token_order: Names = ()
    """our method with tokens in raster order"""
    loss: Names = ()
    """our method with the loss of equation 2 as printed, the norm"""
    recipes: Names = ()
    """random weights with the recipe for pre-trained encoders, and the other way round"""
    frozen: Names = ()
    """every encoder frozen, with a linear probe or a trained decoder"""
    trivial: Names = ()
    """baselines without a network"""

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks of the table."""
        parts = (*self.token_order, *self.loss, *self.recipes, *self.frozen, *self.trivial)
        return tuple(dict.fromkeys(parts))


class ReportConfig(Model):
    """Tables and figures."""

    figure_seed: NonNegative = 0
    """seed of the choice of examples in figures"""
    dpi: Positive = Field(130, ge=20, le=1200)
    """resolution of figures"""
    max_curve_points: Quantity = Field(400, ge=2)
    """most points of a training curve"""
