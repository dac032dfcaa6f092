"""Settings of our method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from voxseq.config.methods.base import MethodSettings, Misfit, Surroundings
from voxseq.config.model import OptimiserConfig


class OursSettings(MethodSettings):
    """Autoregressive sequence modelling (paper, section 3; optimiser of the published code)."""

    accumulates: ClassVar[bool] = True

    optimiser: OptimiserConfig = OptimiserConfig(lr=1e-4)
    attention: Literal["prefix", "causal"] = Field(
        "prefix", description="prefix: a random start, tokens before it see each other"
    )
    token_order: Literal["patch_major", "raster"] = Field(
        "patch_major", description="patch_major: the paper's text; raster: the published code"
    )
    loss: Literal["squared", "norm"] = Field(
        "squared",
        description="squared: mean squared error of all scored voxels of the batch (published "
        "code); norm: mean over a sequence's scored tokens of the norm of the error (equation 2 "
        "as printed)",
    )
    sequences: bool = Field(True, description="false: single images in place of sequences")

    def misfits(self, around: Surroundings) -> Iterator[Misfit]:
        """A sequence in which nothing can be predicted, besides."""
        yield from super().misfits(around)
        key, shape = "volume_shape", around.sequences.volume_shape
        if not self.sequences:
            key, shape = "spatial.window_shape", around.sequences.image_shape
        if around.encoder.tokens(shape) < 2:
            yield "", f"sequences.{key} {shape} is one token; expected 2 or more"
        if around.encoder.voxels < 2:
            yield "", "encoder.patch_size: tokens of one voxel cannot be normalised"
