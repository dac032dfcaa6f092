"""MAE3D: raw voxels of masked tokens (Chen et al. 2023, after He et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from voxseq.base.errors import ConfigError
from voxseq.config.data import SequencesConfig
from voxseq.config.methods.mae3d import MAE3DSettings
from voxseq.config.model import EncoderConfig
from voxseq.models.initialise import seeded
from voxseq.models.patches import Grid, patchify
from voxseq.pretrain.base import Batch, PretrainMethod, stack
from voxseq.pretrain.parts.masked import (
    MaskedDecoder,
    draw_mask,
    encode_visible,
    gather_tokens,
    masked_grid,
)
from voxseq.transforms.spatial import Item


class MAE3DMethod(PretrainMethod):
    """Hide most tokens of a random crop and predict their voxels; mean absolute error.

    The encoder sees the visible tokens and the start token. The targets are raw voxels, not
    normalised by the token (published code).

    Raises:
        ConfigError: a crop that does not divide into at least two tokens, or is larger than the
            volumes.
    """

    def __init__(
        self,
        settings: MAE3DSettings,
        encoder_config: EncoderConfig,
        sequences: SequencesConfig,
        seed: int,
    ) -> None:
        super().__init__(settings, encoder_config, sequences, seed)
        self.mask_ratio = settings.mask_ratio
        self.patch_size: Grid = encoder_config.patch_size
        self.crop_shape = settings.crop_shape
        self.grid = masked_grid("crop_shape", self.crop_shape, self.patch_size)
        whole = sequences.volume_shape
        if any(crop > axis for crop, axis in zip(self.crop_shape, whole, strict=True)):
            raise ConfigError(
                f"crop_shape {self.crop_shape} exceeds sequences.volume_shape {whole}",
                "choose a smaller crop",
            )
        length, voxels = int(np.prod(self.grid)), int(np.prod(self.patch_size))
        with seeded([seed, 1]):
            self.decoder = MaskedDecoder(settings, encoder_config.width, length, voxels)

    def collate(self, items: Sequence[Item], rng: np.random.Generator) -> Batch:
        """Cut a random box of each item; there is no other augmentation (published code).

        Returns:
            ``volume``: (B, 1, *crop_shape) float32.
        """
        volumes = stack(items)
        crops = []
        for volume in volumes:
            room = np.subtract(volume.shape[1:], self.crop_shape)
            x, y, z = (int(start) for start in rng.integers(0, room + 1))
            a, b, c = self.crop_shape
            crops.append(volume[:, x : x + a, y : y + b, z : z + c])
        return {"volume": torch.stack(crops)}

    def training_loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return ``loss``, the mean absolute error of the hidden tokens' voxels."""
        del step
        return self._loss(batch, generator)

    def validation_loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the same on crops that are drawn once; equal generators hide equal tokens."""
        return self._loss(batch, generator)

    def _loss(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        patches = patchify(batch["volume"], self.patch_size)
        mask = draw_mask(patches, self.mask_ratio, generator, self.share)
        encoded = encode_visible(self.backbone, patches, self.grid, mask)
        prediction = self.decoder(encoded, mask)
        targets = gather_tokens(patches, mask.hidden)
        return {"loss": (prediction.float() - targets.float()).abs().mean()}
