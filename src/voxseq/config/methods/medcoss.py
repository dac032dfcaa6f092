"""Settings of MedCoSS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from voxseq.config.base import Channels, Fraction, Positive
from voxseq.config.methods.base import Misfit, Surroundings
from voxseq.config.methods.masked import MaskedSettings
from voxseq.config.model import OptimiserConfig


class MedCoSSSettings(MaskedSettings):
    """Continual pre-training, CT then MRI, with rehearsal (Ye et al. 2024)."""

    optimiser: OptimiserConfig = OptimiserConfig(
        lr=1.6875e-4,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        decay_one_dimensional=False,
        warmup_steps=6_667,
    )
    decoder_heads: Channels = Field(16, description="attention heads of the decoder")
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

    def stages(self, steps: int) -> tuple[range, ...]:
        """CT, then MRI, for equally many steps; CT gets the odd one."""
        half = (steps + 1) // 2
        return (range(half), range(half, steps))

    def misfits(self, around: Surroundings) -> Iterator[Misfit]:
        """Volumes that cannot be masked, a stage without steps or data, besides."""
        yield from super().misfits(around)
        sequences = around.sequences
        for key, text in self.masked_grid("", sequences.image_shape, around):
            yield key, f"sequences.spatial.window_shape {text}"
        if around.encoder.voxels < 2:
            yield "", "encoder.patch_size: tokens of one voxel cannot be normalised"
        if around.steps < 2:
            yield "", f"pretrain.steps {around.steps}: two stages need 2 or more"
        lacking = [name for name in ("CT", "MRI") if name not in around.modalities]
        if sequences.sources and lacking:
            yield (
                "",
                f"learns from CT and then from MRI, but sequences.sources has no "
                f"{' and no '.join(lacking)}; add a data set of it, or leave the method out",
            )
