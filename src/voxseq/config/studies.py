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
    tasks: Names = ()
    methods: Names | None = Field(None, description="methods that are trained so; null: all")


class AblationVariant(Model):
    """What one row of Table 4 changes; a field left out stays as in the full method."""

    title: Title
    sequences: bool = Field(True, description="false: single images in place of sequences")
    attention: Literal["prefix", "causal"] | None = None
    token_order: Literal["patch_major", "raster"] | None = None
    without: Literal["spatial", "contrast", "semantic"] | None = None
    stride: Axis | None = None


class AblationConfig(Model):
    """Changes to our method (Table 4): row name → settings that differ from the full method."""

    tasks: Names = ()
    variants: dict[Name, AblationVariant] = Field(default_factory=dict)


class BeyondConfig(Model):
    """What the paper does not ask (Table 5): each part with the tasks that it is done on."""

    token_order: Names = Field((), description="our method with tokens in raster order")
    recipes: Names = Field(
        (),
        description="random weights with the recipe for pre-trained encoders, and the other way "
        "round",
    )
    frozen: Names = Field(
        (), description="every encoder frozen, with a linear probe or a trained decoder"
    )
    trivial: Names = Field((), description="baselines without a network")

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks of the table."""
        parts = (*self.token_order, *self.recipes, *self.frozen, *self.trivial)
        return tuple(dict.fromkeys(parts))


class ReportConfig(Model):
    """Tables and figures."""

    bootstrap_samples: Quantity = Field(2000, ge=10)
    figure_seed: NonNegative = 0
    dpi: Positive = Field(130, ge=20, le=1200)
    max_curve_points: Quantity = Field(400, ge=2)
