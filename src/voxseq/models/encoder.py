"""The vision transformer that all methods share and that transfer hands on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from voxseq.config.model import EncoderConfig
from voxseq.models.attention import SelfAttention, Visible, additive, chosen_rows
from voxseq.models.initialise import initialise_linears, seeded
from voxseq.models.patches import Grid, patchify, sincos_positions, token_grid

NORM_EPSILON = 1e-5
START_TOKEN_SD = 0.02


@dataclass(frozen=True)
class EncoderOutput:
    """Output of the encoder for N tokens, in the order in which they were given.

    Attributes:
        tokens: (B, N, C) after the final norm, without the start token.
        start: (B, C) the start token after the final norm.
        hidden: outputs of the blocks that were asked for, (B, N, C) each, before the final norm
            and without the start token.
    """

    tokens: Tensor
    start: Tensor
    hidden: list[Tensor]


class PatchEmbedding(nn.Module):
    """Convolution with kernel and stride of one token, computed as a matrix product.

    The weight has the shape of the convolution's, (C, channels, x, y, z); tokens come in cut by
    :func:`voxseq.models.patches.patchify`, whose voxel order is that of the kernel.
    """

    def __init__(self, width: int, patch_size: Grid, in_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, in_channels, *patch_size))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, patches: Tensor) -> Tensor:
        """Map voxels (B, N, channels·V) to (B, N, C)."""
        return functional.linear(patches, self.weight.flatten(1), self.bias)


class MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden_width)
        self.linear2 = nn.Linear(hidden_width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        out: Tensor = self.linear2(functional.gelu(self.linear1(tokens)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block without dropout (published code).

    Attributes:
        recomputes: whether activations are computed again in the backward pass, not kept.
    """

    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.recomputes = False
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = MLP(width, mlp_width)

    def forward(
        self, tokens: Tensor, visible: Visible = None, rows: Tensor | None = None
    ) -> Tensor:
        """Map (B, N, C) to (B, N, C), or to (R, C) with ``rows``.

        ``visible`` and ``rows`` are as in :class:`SelfAttention`.
        """
        if not self.recomputes:
            return self.compute(tokens, visible, rows)
        out: Tensor = checkpoint(
            self.compute, tokens, visible, rows, use_reentrant=False, preserve_rng_state=False
        )
        return out

    def compute(self, tokens: Tensor, visible: Visible, rows: Tensor | None) -> Tensor:
        """What :meth:`forward` returns; it may be compiled."""
        mixed = self.attention(self.norm1(tokens), visible, rows)
        tokens = (tokens if rows is None else chosen_rows(tokens, rows)) + mixed
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class Encoder(nn.Module):
    """Vision transformer on 3D tokens with a start token (paper, section 4; published code).

    Positions are fixed, come from the grid of the volume at hand and are no part of the state, so
    that any volume whose axes are multiples of the patch size is accepted; the start token has
    position zero. Without a mask attention is full, as in fine-tuning.

    The steps are public for methods that need them one by one: :meth:`embed`, a choice of tokens,
    :meth:`encode_tokens`. :func:`build_encoder` makes a seeded one.

    Args:
        config: its geometry.
        in_channels: of the volumes; pre-training has one.
    """

    def __init__(self, config: EncoderConfig, in_channels: int = 1) -> None:
        super().__init__()
        self.config = config
        self.in_channels = in_channels
        self.patch_embedding = PatchEmbedding(config.width, config.patch_size, in_channels)
        self.start_token = nn.Parameter(torch.empty(config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_width) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        initialise_encoder(self, xavier_patches=False)

    def grid(self, volume: Tensor) -> Grid:
        """Token grid of a volume (B, channels, X, Y, Z); ValueError when it does not divide."""
        return token_grid(tuple(volume.shape[2:]), self.config.patch_size)

    def embed_patches(self, patches: Tensor, grid: Grid, order: Tensor | None = None) -> Tensor:
        """Embed tokens that :func:`patchify` has cut, and add their positions.

        Args:
            patches: (B, N, channels·V), in raster order or in the order ``order``.
            grid: token grid of the volume.
            order: (N,) raster index of each token; None: all tokens in raster order.

        Returns:
            (B, N, C).
        """
        positions = sincos_positions(grid, self.config.width, patches.device)
        embedded: Tensor = self.patch_embedding(patches)
        return embedded + (positions if order is None else positions[order])

    def embed(self, volume: Tensor, order: Tensor | None = None) -> Tensor:
        """Cut and embed a volume (B, channels, X, Y, Z) into (B, L, C), with positions.

        Args:
            volume: the voxels.
            order: (L,) raster indices; the tokens come back in this order.

        Raises:
            ValueError: when the volume's shape or number of channels does not fit.
        """
        patches = patchify(volume, self.config.patch_size)
        if volume.shape[1] != self.in_channels:
            raise ValueError(
                f"volume of shape {tuple(volume.shape)}: expected {self.in_channels} channels"
            )
        # Voxels are reordered, not embedded tokens: no gradient has to pass the gather.
        ordered = patches if order is None else patches.index_select(1, order)
        return self.embed_patches(ordered, self.grid(volume), order)

    def encode_tokens(
        self, tokens: Tensor, attn_mask: Tensor | None = None, taps: Sequence[int] = ()
    ) -> EncoderOutput:
        """Put the start token before embedded tokens and run the blocks.

        Args:
            tokens: (B, N, C), positions included; any number, such as the visible ones only.
            attn_mask: (B or 1, 1, N + 1, N + 1) bool, True = attend; None: full attention.
            taps: numbers, from 0, of the blocks whose outputs are wanted besides.
        """
        states = self._started(tokens)
        visible = None if attn_mask is None else additive(attn_mask, states.dtype)
        kept: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            states = block(states, visible)
            if number in taps:
                kept[number] = states[:, 1:]
        states = self.norm(states)
        hidden = [kept[number] for number in taps]
        return EncoderOutput(tokens=states[:, 1:], start=states[:, 0], hidden=hidden)

    def encode_rows(self, tokens: Tensor, visible: Visible, rows: Tensor) -> Tensor:
        """As :meth:`encode_tokens`, for the outputs that are wanted only.

        Every token is attended to, but the last block does the rest of its work for the wanted
        ones alone, and so does the backward pass.

        Args:
            tokens: (B, N, C), positions included.
            visible: which tokens each one sees, the start token included.
            rows: (R,) int64, places in 0..B·(N + 1) - 1; a sample's first is its start token.

        Returns:
            (R, C) after the final norm.
        """
        states = self._started(tokens)
        for block in self.blocks[:-1]:
            states = block(states, visible)
        out: Tensor = self.norm(self.blocks[-1](states, visible, rows))
        return out

    def _started(self, tokens: Tensor) -> Tensor:
        """Tokens behind the start token."""
        batch, _, width = tokens.shape
        return torch.cat([self.start_token.to(tokens).expand(batch, 1, width), tokens], dim=1)

    def forward(
        self,
        volume: Tensor,
        attn_mask: Tensor | None = None,
        order: Tensor | None = None,
        taps: Sequence[int] = (),
    ) -> EncoderOutput:
        """Encode volumes.

        Args:
            volume: (B, channels, X, Y, Z), each axis a multiple of the patch size.
            attn_mask: as in :meth:`encode_tokens`, in the order of the sequence.
            order: (L,) raster index of each token of the sequence; None: raster order.
            taps: as in :meth:`encode_tokens`.

        Returns:
            Tokens and block outputs in the order of the sequence.

        Raises:
            ValueError: when the volume's shape or number of channels does not fit.
        """
        return self.encode_tokens(self.embed(volume, order), attn_mask, taps)


def build_encoder(
    config: EncoderConfig, seed: int | Sequence[int], *, pretraining: bool, in_channels: int = 1
) -> Encoder:
    """Make an encoder whose weights depend on nothing but ``seed``.

    Args:
        config: its geometry.
        seed: number or numbers.
        pretraining: Xavier-uniform patch weights; otherwise a convolution's usual ones, as the
            published code does when it fine-tunes from scratch.
        in_channels: of the volumes.
    """
    with seeded(seed):
        encoder = Encoder(config, in_channels)
        initialise_encoder(encoder, xavier_patches=pretraining)
    return encoder


def initialise_encoder(encoder: Encoder, *, xavier_patches: bool) -> None:
    """Give an encoder its initial weights, drawn from the process-wide generator.

    Args:
        encoder: changed in place.
        xavier_patches: Xavier-uniform patch weights (pre-training); otherwise those of a
            convolution (fine-tuning from scratch). The bias is a convolution's in both cases
            (published code).
    """
    initialise_linears(encoder)
    for part in encoder.modules():
        if isinstance(part, SelfAttention):
            # Queries, keys and values are separate layers in the published code: the joint
            # matrix would have another fan-out, hence smaller weights.
            for third in part.qkv.weight.data.chunk(3):
                nn.init.xavier_uniform_(third)
    kernel, bias = encoder.patch_embedding.weight, encoder.patch_embedding.bias
    flat = kernel.data.flatten(1)
    if xavier_patches:
        nn.init.xavier_uniform_(flat)
    else:
        nn.init.kaiming_uniform_(flat, a=math.sqrt(5))
    bound = 1 / math.sqrt(flat.shape[1])
    nn.init.uniform_(bias, -bound, bound)
    nn.init.normal_(encoder.start_token, std=START_TOKEN_SD)
