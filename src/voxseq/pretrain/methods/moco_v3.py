"""MoCo v3: queries of one view find the momentum encoder's keys of the other (Chen et al. 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxseq.config.methods.moco_v3 import MoCoV3Settings
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batch
from voxseq.pretrain.parts.contrastive import matching_accuracy, projection_head, query_key_loss
from voxseq.pretrain.parts.momentum import frozen_copy, rising_momentum, update_average
from voxseq.pretrain.parts.recipes import RecipeBatching
from voxseq.transforms.views import ViewRecipe


class MoCoV3Batching(RecipeBatching):
    """Two views of each volume, by a recipe of its own each."""

    settings: MoCoV3Settings

    def build(self) -> None:
        """Make the published recipes.

        Blur on all first views and few second ones, of which a fifth is solarised.
        """
        shape, share = self.settings.view_shape, self.settings.scale
        self.recipes = [
            ViewRecipe(shape, share, blur=1.0),
            ViewRecipe(shape, share, blur=0.1, solarise=0.2),
        ]

    def views(self, volumes: Tensor, drawn: NDArray[Any], is_ct: NDArray[np.bool_]) -> Batch:
        """Make both views.

        Returns:
            ``first`` and ``second``: (B, 1, *view_shape) float32.
        """
        del is_ct
        return self.pair(volumes, drawn)


class MoCoV3Method(PretrainMethod):
    """Symmetric contrastive loss on the start token, against keys of a momentum encoder.

    Query: backbone, projector, predictor. Key: averages of backbone and projector. The patch
    projection keeps its random weights, which makes training stable (section 4.2). The query
    encoder is transferred.
    """

    settings: MoCoV3Settings
    batching_type = MoCoV3Batching

    def build(self) -> None:
        """Make projector, predictor and key encoder."""
        self.backbone.patch_embedding.requires_grad_(False)
        width, hidden = self.encoder_config.width, self.settings.hidden_width
        output = self.settings.output_width
        self.projector = projection_head((width, hidden, hidden, output), last_norm="plain")
        self.predictor = projection_head((output, hidden, output), last_norm="plain")
        self.key_backbone = frozen_copy(self.backbone)
        self.key_projector = frozen_copy(self.projector)

    def momentum(self, step: int) -> float:
        """Momentum of the key encoder's update at a step: from the initial one to 1."""
        return rising_momentum(self.settings.momentum, step, self.total_steps)

    def update_key_encoder(self, step: int) -> None:
        """Move the key encoder towards the query encoder.

        Its batch norm keeps running statistics of its own, since it sees its own features.
        """
        momentum = self.momentum(step)
        update_average(self.key_backbone, self.backbone, momentum, buffers=False)
        update_average(self.key_projector, self.projector, momentum, buffers=False)

    def queries(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, output_width) of two views (B, 1, X, Y, Z); batch norm sees one at a time."""
        one, other = self.backbone(torch.cat([first, second])).start.chunk(2)
        return (
            self.predictor(self.projector(one)),
            self.predictor(self.projector(other)),
        )

    @torch.no_grad()
    def keys(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (B, output_width) of two views; see :meth:`queries`."""
        one, other = self.key_backbone(torch.cat([first, second])).start.chunk(2)
        return self.key_projector(one), self.key_projector(other)

    def training_loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Update the key encoder, then return ``loss`` and ``accuracy``.

        The loss is the sum over both directions; the accuracy is that with which queries find
        their keys.
        """
        del generator
        self.update_key_encoder(step)
        return self._losses(batch)

    def validation_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the same for views that are drawn once; nothing is updated.

        In evaluation mode batch norm uses its running statistics. Queries and keys move during
        the training, so the loss tells whether they match, not how good the features are.
        """
        del generator
        return self._losses(batch)

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        views, gather = (batch["first"], batch["second"]), self.shard.gather
        first_query, second_query = (gather(queries) for queries in self.queries(*views))
        first_key, second_key = (gather(keys) for keys in self.keys(*views))
        forward = query_key_loss(first_query, second_key, self.settings.temperature)
        backward = query_key_loss(second_query, first_key, self.settings.temperature)
        accuracies = (
            matching_accuracy(first_query, second_key),
            matching_accuracy(second_query, first_key),
        )
        return {"loss": forward + backward, "accuracy": torch.stack(accuracies).mean()}
