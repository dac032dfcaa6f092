"""SimCLR: two views of one volume attract, all others of the batch repel (Chen et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from voxseq.config.data import SequencesConfig
from voxseq.config.methods.simclr import SimCLRSettings
from voxseq.config.model import EncoderConfig
from voxseq.models.initialise import seeded
from voxseq.pretrain.base import Batch, PretrainMethod
from voxseq.pretrain.parts.contrastive import matching_accuracy, nt_xent, projection_head
from voxseq.transforms.spatial import Item
from voxseq.transforms.views import ViewRecipe, check_view_shape, make_views


class SimCLRMethod(PretrainMethod):
    """NT-Xent loss between projections of the mean patch token of two views.

    Three-layer projector with hidden layers as wide as the features, batch norm after each layer
    and statistics over both views together (published code).

    Raises:
        ConfigError: views that do not divide into tokens.
    """

    def __init__(
        self,
        settings: SimCLRSettings,
        encoder_config: EncoderConfig,
        sequences: SequencesConfig,
        seed: int,
    ) -> None:
        super().__init__(settings, encoder_config, sequences, seed)
        check_view_shape("view_shape", settings.view_shape, encoder_config.patch_size)
        self.temperature = settings.temperature
        self.recipe = ViewRecipe(settings.view_shape, settings.scale)
        width = encoder_config.width
        with seeded([seed, 1]):
            self.projector = projection_head(
                (width, width, width, settings.output_width), last_norm="scale"
            )

    def collate(self, items: Sequence[Item], rng: np.random.Generator) -> Batch:
        """Make two views of each item by the same recipe.

        Returns:
            ``first`` and ``second``: (B, 1, *view_shape) float32.
        """
        return {name: make_views(items, self.recipe, rng) for name in ("first", "second")}

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
        first, second = (self.share.gather(views) for views in projected)
        return {
            "loss": nt_xent(first, second, self.temperature),
            "accuracy": matching_accuracy(first, second),
        }

    def validation_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the same for views that are drawn once, so that it compares between steps.

        In evaluation mode batch norm uses its running statistics and changes nothing.
        """
        return self.training_loss(batch, 0, generator)
