"""Masked tokens and the decoder that fills them in (He et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxseq.config.methods.masked import MaskedSettings
from voxseq.config.model import EncoderConfig
from voxseq.models.encoder import NORM_EPSILON, Block, Encoder, EncoderOutput
from voxseq.models.initialise import initialise_linears
from voxseq.models.patches import Grid
from voxseq.training.distributed import WHOLE, BatchShard

#: Width of the decoder's MLPs, in widths of the decoder (He et al. 2022).
MLP_RATIO = 4
#: Standard deviation of the initial mask token and decoder positions (He et al. 2022).
EMBEDDING_SD = 0.02


@dataclass(frozen=True)
class TokenMask:
    """Which tokens of each sample are hidden.

    Attributes:
        visible: (B, K) raster indices of the tokens that the encoder sees, in random order.
        hidden: (B, L - K) raster indices of the others.
    """

    visible: Tensor
    hidden: Tensor

    @property
    def order(self) -> Tensor:
        """(B, L): the visible tokens, then the hidden ones."""
        return torch.cat([self.visible, self.hidden], dim=1)


def visible_count(length: int, ratio: float) -> int:
    """Number of visible tokens: the whole part of ``length * (1 - ratio)``, as published.

    At least one token is visible and one hidden.
    """
    # Rounded first: 20 tokens at ratio 0.9 are 2, not the 1 of 1.9999999999999996.
    return min(max(int(round(length * (1 - ratio), 6)), 1), length - 1)


def draw_mask(
    patches: Tensor, ratio: float, generator: torch.Generator, shard: BatchShard = WHOLE
) -> TokenMask:
    """Hide the same number of tokens, uniformly drawn, of each sample.

    Args:
        patches: (B, L, V) tokens to hide; only shape and device matter.
        ratio: share that is hidden.
        generator: of the draw; its device need not be that of the tokens.
        shard: rows of the global batch, for which the draw is made, that the tokens belong to.
    """
    batch, length, _ = patches.shape
    rows = shard.global_size(batch)
    noise = shard.local(torch.rand(rows, length, generator=generator, device=generator.device))
    order = noise.argsort(dim=1).to(patches.device)
    kept = visible_count(length, ratio)
    return TokenMask(order[:, :kept], order[:, kept:])


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Choose tokens of each sample: (B, L, C) and (B, K) to (B, K, C)."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))


def encode_visible(encoder: Encoder, patches: Tensor, grid: Grid, mask: TokenMask) -> EncoderOutput:
    """Encode the visible tokens alone; the hidden ones cost nothing and cannot leak.

    Args:
        encoder: the encoder.
        patches: (B, L, V) voxels of all tokens, in raster order.
        grid: token grid of the volumes.
        mask: which of them are visible.

    Returns:
        Output for the K visible tokens, in the order of ``mask.visible``.
    """
    visible = gather_tokens(patches, mask.visible)
    return encoder.encode_tokens(encoder.embed_patches(visible, grid, mask.visible))


class MaskedDecoder(nn.Module):
    """Predict the voxels of hidden tokens from the encoded visible ones (He et al. 2022).

    The encoder's output is mapped to the decoder's width; a learned mask token stands for each
    hidden token; learned positions are added to all of them; transformer blocks, a norm
    and a linear layer follow. Tokens stay in the order in which the mask lists them: attention
    does not depend on it, and each carries its position.

    Args:
        settings: geometry of the decoder.
        encoder: geometry of the encoder.
        grid: token grid of the volumes.
    """

    def __init__(self, settings: MaskedSettings, encoder: EncoderConfig, grid: Grid) -> None:
        super().__init__()
        width = settings.decoder_width
        self.embedding = nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        # Row 0 belongs to the start token.
        self.positions = nn.Parameter(torch.empty(math.prod(grid) + 1, width))
        self.blocks = nn.ModuleList(
            Block(width, settings.decoder_heads, MLP_RATIO * width)
            for _ in range(settings.decoder_depth)
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.head = nn.Linear(width, math.prod(encoder.patch_size))
        initialise_linears(self)
        nn.init.normal_(self.mask_token, std=EMBEDDING_SD)
        nn.init.normal_(self.positions, std=EMBEDDING_SD)

    def forward(self, encoded: EncoderOutput, mask: TokenMask) -> Tensor:
        """Predict the hidden tokens.

        Args:
            encoded: what :func:`encode_visible` returns.
            mask: the same mask.

        Returns:
            (B, L - K, V) voxels, in the order of ``mask.hidden``.
        """
        known = self.embedding(torch.cat([encoded.start[:, None], encoded.tokens], dim=1))
        batch, hidden = mask.hidden.shape
        unknown = self.mask_token.to(known).expand(batch, hidden, -1)
        places = nn.functional.pad(mask.order + 1, (1, 0))
        states = torch.cat([known, unknown], dim=1) + self.positions[places]
        for block in self.blocks:
            states = block(states)
        prediction: Tensor = self.head(self.norm(states[:, -hidden:]))
        return prediction
