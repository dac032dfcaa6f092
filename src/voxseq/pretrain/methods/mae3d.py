"""MAE3D: raw voxels of masked tokens (Chen et al. 2023, after He et al. 2022)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxseq.config.methods.mae3d import MAE3DSettings
from voxseq.models.patches import Grid, patchify, token_grid
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batch, Batching, Stream
from voxseq.pretrain.parts.masked import (
    MaskedDecoder,
    draw_mask,
    encode_visible,
    gather_tokens,
)


class MAE3DBatching(Batching):
    """A random box of each volume."""

    settings: MAE3DSettings
    drawn = np.dtype([("start", "<i8", 3)])

    def draw(self, stream: Stream) -> NDArray[Any]:
        """Draw the first voxel of the box; there is no other augmentation (published code)."""
        drawn = np.zeros((), self.drawn)
        room = np.subtract(self.sequences.image_shape, self.settings.crop_shape)
        drawn["start"] = stream(0).integers(0, room + 1)
        return drawn

    def views(self, volumes: Tensor, drawn: NDArray[Any], is_ct: NDArray[np.bool_]) -> Batch:
        """Cut the boxes.

        Returns:
            ``volume``: (B, 1, *crop_shape) float32.
        """
        del is_ct
        crops = volumes.new_empty(len(volumes), 1, *self.settings.crop_shape)
        a, b, c = self.settings.crop_shape
        for crop, volume, (x, y, z) in zip(crops, volumes, drawn["start"].tolist(), strict=True):
            crop.copy_(volume[:, x : x + a, y : y + b, z : z + c])
        return {"volume": crops}


class MAE3DMethod(PretrainMethod):
    """Hide most tokens of a random crop and predict their voxels; mean absolute error.

    The encoder sees the visible tokens and the start token. The targets are raw voxels, not
    normalised by the token (published code).
    """

    settings: MAE3DSettings
    batching_type = MAE3DBatching

    def build(self) -> None:
        """Make the decoder."""
        self.patch_size: Grid = self.encoder_config.patch_size
        self.grid = token_grid(self.settings.crop_shape, self.patch_size)
        self.decoder = MaskedDecoder(self.settings, self.encoder_config, self.grid)

    def training_loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return ``loss``, the mean absolute error of the hidden tokens' voxels."""
        del step
        patches = patchify(batch["volume"], self.patch_size)
        mask = draw_mask(patches, self.settings.mask_ratio, generator, self.shard)
        encoded = encode_visible(self.backbone, patches, self.grid, mask)
        prediction = self.decoder(encoded, mask)
        targets = gather_tokens(patches, mask.hidden)
        return {"loss": (prediction.float() - targets.float()).abs().mean()}
