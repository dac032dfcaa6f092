"""SimCLR: two views of one volume attract, all others of the batch repel (Chen et al. 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxseq.config.methods.simclr import SimCLRSettings
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batch
from voxseq.pretrain.parts.contrastive import matching_accuracy, nt_xent, projection_head
from voxseq.pretrain.parts.recipes import RecipeBatching
from voxseq.transforms.views import ViewRecipe


class SimCLRBatching(RecipeBatching):
    """Two views of each volume, by the same recipe."""

    settings: SimCLRSettings

    def build(self) -> None:
        """Make the recipe."""
        self.recipes = [ViewRecipe(self.settings.view_shape, self.settings.scale)] * 2

    def views(self, volumes: Tensor, drawn: NDArray[Any], is_ct: NDArray[np.bool_]) -> Batch:
        """Make both views.

        Returns:
            ``first`` and ``second``: (B, 1, *view_shape) float32.
        """
        del is_ct
        return self.pair(volumes, drawn)


class SimCLRMethod(PretrainMethod):
    """NT-Xent loss between projections of the mean patch token of two views.

    Three-layer projector with hidden layers as wide as the features, batch norm after each layer
    and statistics over both views together (published code). In evaluation batch norm uses its
    running statistics, so the loss of held-out views, which are drawn once, compares between steps.
    """

    settings: SimCLRSettings
    batching_type = SimCLRBatching

    def build(self) -> None:
        """Make the projector."""
        width = self.encoder_config.width
        self.projector = projection_head(
            (width, width, width, self.settings.output_width), last_norm="scale"
        )

    def project(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Project two views (B, 1, X, Y, Z) of the same volumes: twice (B, output_width)."""
        features = self.backbone(torch.cat([first, second])).tokens.mean(dim=1)
        one, other = self.projector(features).chunk(2)
        return one, other

    def training_loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return ``loss`` (NT-Xent) and ``accuracy``, with which views find each other."""
        del step, generator
        projected = self.project(batch["first"], batch["second"])
        first, second = (self.shard.gather(views) for views in projected)
        return {
            "loss": nt_xent(first, second, self.settings.temperature),
            "accuracy": matching_accuracy(first, second),
        }
