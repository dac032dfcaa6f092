"""Autoregressive modelling of patch sequences (paper, section 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from voxseq.config.methods import OursSettings
from voxseq.models.attention import chosen_rows, prefix_visible
from voxseq.models.initialise import initialise_linears
from voxseq.models.patches import (
    Grid,
    norm_loss,
    padded_rows,
    patchify,
    regression_loss,
    scored_rows,
    token_grid,
    token_order,
)
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batch, Batching


class AutoregressiveBatching(Batching):
    """Joined patch sequences, or single images in the ablation without sequences."""

    settings: OursSettings

    def build(self) -> None:
        """Say which of the two."""
        self.needs = "sequence" if self.settings.sequences else "image"


class AutoregressiveMethod(PretrainMethod):
    """Predict each token of a sequence from the tokens before it.

    The output at position j (0 is the start token) predicts the voxels of token j, normalised per
    token. The first p tokens, p uniform over 0..L-1 for each sample, are visible to all and are
    not scored; with ``attention: causal`` p is always 0 (paper, section 3.2; published code).
    The order of the sequence decides who sees whom, never a token's position embedding, which
    comes from its place in the joined volume.

    The published sequence also holds its last token and an end token as inputs. Nothing that is
    scored may attend to either, so they are left out here: loss and gradients are the same. Nor
    does anything need the tokens of the prefix after the last attention: the rest of the last block
    and the head compute scored tokens only, half of them on average; where shapes are to be the
    same at every step, a few others besides, which do not count.
    """

    selection = "validation_loss"
    batching_type = AutoregressiveBatching
    settings: OursSettings
    order: Tensor

    def build(self) -> None:
        """Make the head and the order of the tokens."""
        self.patch_size: Grid = self.encoder_config.patch_size
        # A single image is one patch: its tokens are in raster order, as in AIM.
        shape, patches = self.sequences.image_shape, 1
        if self.settings.sequences:
            shape, patches = self.sequences.volume_shape, self.sequences.length
        self.shape = shape
        self.grid = token_grid(shape, self.patch_size)
        order = token_order(self.grid, patches, self.settings.token_order)
        self.register_buffer("order", order, persistent=False)
        self.head = nn.Linear(self.encoder_config.width, math.prod(self.patch_size))
        initialise_linears(self.head)

    @property
    def length(self) -> int:
        """Number of tokens L of a sequence."""
        return int(self.order.numel())

    def sequence(self, volume: Tensor) -> Tensor:
        """Cut volumes into the tokens of their sequences.

        Args:
            volume: (B, 1, X, Y, Z) of the configured shape.

        Returns:
            (B, L, V) voxels, in the order of the sequence.

        Raises:
            ValueError: for another shape.
        """
        if tuple(volume.shape[2:]) != tuple(self.shape):
            raise ValueError(
                f"volume of shape {tuple(volume.shape)}: expected (B, 1, *) with {self.shape} "
                "voxels"
            )
        return patchify(volume, self.patch_size).index_select(1, self.order)

    def predict(self, patches: Tensor, prefix: Tensor, rows: Tensor) -> Tensor:
        """Predict tokens from those that they may see.

        Args:
            patches: (B, L, V) as :meth:`sequence` returns them.
            prefix: (B,) integers in 0..L-1.
            rows: (R,) int64, the places in 0..B·L - 1 of the tokens that are wanted.

        Returns:
            (R, V) normalised voxels; only tokens j >= prefix are predicted, the others have seen
            themselves.
        """
        inputs = self.backbone.embed_patches(patches[:, :-1], self.grid, self.order[:-1])
        visible = prefix_visible(prefix, self.length - 1, inputs.dtype)
        # Position 0 is the start token, so output j comes before token j and predicts it.
        states = self.backbone.encode_rows(inputs, visible, rows)
        prediction: Tensor = self.head(states)
        return prediction

    def draw_prefix(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draw the prefix length of each sample: (batch,) int64, on the generator's device."""
        if self.settings.attention == "causal":
            return torch.zeros(batch, dtype=torch.int64, device=generator.device)
        return torch.randint(self.length, (batch,), generator=generator, device=generator.device)

    def training_loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return ``loss``.

        With ``loss: squared`` it is the mean squared error of all scored voxels of the batch; with
        ``norm`` the norm of a token's error, averaged over the scored tokens of each sequence, and
        then over the sequences.
        """
        del step
        patches = self.sequence(batch["volume"])
        everywhere = self.draw_prefix(self.shard.global_size(len(patches)), generator)
        prefix = self.shard.local(everywhere)
        rows, is_scored = self.rows(prefix, patches.device)
        prediction = self.predict(patches, prefix.to(patches.device), rows)
        # The name is used again so that the voxels of all tokens are freed.
        patches = chosen_rows(patches, rows)
        if self.settings.loss == "norm":
            weights = self._weights(prefix.to(rows.device), rows)
            if is_scored is not None:
                weights = weights * is_scored
            return {"loss": norm_loss(prediction, patches, weights)}
        loss = regression_loss(prediction, patches, is_scored)
        if self.shard.parts > 1:
            # Shares with more scored tokens weigh more: errors are pooled over the whole batch.
            scored, mean = self.length - prefix, (self.length - everywhere).float().mean()
            loss = loss * (scored.float().mean() / mean.to(loss))
        return {"loss": loss}

    def _weights(self, prefix: Tensor, rows: Tensor) -> Tensor:
        """Weights (R,) with which every sequence, and of it every scored token, counts alike.

        Args:
            prefix: (B,) of the sequences.
            rows: (R,) places of the tokens, in 0..B·L - 1.
        """
        each = 1.0 / ((self.length - prefix).float() * len(prefix))
        return each[rows // self.length]

    def rows(self, prefix: Tensor, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Places of the rows to predict behind prefixes (B,), and which count; None: all."""
        if self.has_static_shapes or device.type == "cuda":
            rows, is_scored = padded_rows(prefix, self.length)
            return rows.to(device), is_scored.to(device)
        return scored_rows(prefix, self.length).to(device), None
