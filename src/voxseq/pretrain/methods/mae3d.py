"""MAE3D: raw voxels of masked tokens (Chen et al. 2023, after He et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from voxseq.config.methods.mae3d import MAE3DSettings
from voxseq.models.patches import Grid, patchify, token_grid
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batch, Batching, stack
from voxseq.pretrain.parts.masked import (
    MaskedDecoder,
    draw_mask,
    encode_visible,
    gather_tokens,
)
from voxseq.transforms.spatial import Item


class MAE3DBatching(Batching):
    """A random box of each volume."""

    settings: MAE3DSettings

    def collate(self, items: Sequence[Item], rng: np.random.Generator) -> Batch:
        """Cut a random box of each item; there is no other augmentation (published code).

        Returns:
            ``volume``: (B, 1, *crop_shape) float32.
        """
        volumes = stack(items)
        crops = []
        for volume in volumes:
            room = np.subtract(volume.shape[1:], self.settings.crop_shape)
            x, y, z = (int(start) for start in rng.integers(0, room + 1))
            a, b, c = self.settings.crop_shape
            crops.append(volume[:, x : x + a, y : y + b, z : z + c])
        return {"volume": torch.stack(crops)}


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
