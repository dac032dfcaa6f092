"""Settings that the methods with masked tokens and a decoder share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from voxseq.config.base import Channels, Depth, Shape3
from voxseq.config.methods.base import MethodSettings, Misfit, Surroundings

#: Share of the tokens that are hidden; neither none nor all.
MaskRatio = Annotated[float, Field(gt=0.0, lt=1.0)]


class MaskedSettings(MethodSettings):
    """Masked autoencoder (He et al. 2022)."""

    mask_ratio: MaskRatio = Field(0.75, description="share of the tokens that are hidden")
    decoder_width: Channels = Field(512, description="channels of the decoder")
    decoder_depth: Depth = Field(8, description="transformer blocks of the decoder")
    decoder_heads: Channels = Field(8, description="attention heads of the decoder")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"decoder_width {self.decoder_width} is not divisible by decoder_heads "
                f"{self.decoder_heads}"
            )
        return self

    def masked_grid(self, key: str, shape: Shape3, around: Surroundings) -> Iterator[Misfit]:
        """A box that cannot be cut into one token to see and one to hide."""
        yield from around.grid(key, shape)
        if not around.encoder.misfit(shape) and around.encoder.tokens(shape) < 2:
            yield (
                key,
                f"{shape} holds one token of encoder.patch_size {around.encoder.patch_size}; "
                "masking needs one to see and one to hide",
            )
