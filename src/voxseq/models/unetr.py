"""UNETR on the shared encoder, for tokens of any cubic power-of-two size."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from voxseq.models.encoder import Encoder
from voxseq.models.patches import Grid
from voxseq.models.unetr_blocks import BasicBlock, OutBlock, ProjectionBlock, UpBlock


class UNETR(nn.Module):
    """Segmentation network: the encoder, and a convolutional decoder fed by several of its blocks.

    With tokens of 2^k voxels a side the decoder doubles the resolution k times. Its skip
    connections come from the volume itself and from the outputs of blocks ``depth * i // k``
    (counted from 0, i = 1..k-1); its bottom is the encoder's final output. At 16 voxels and depth
    12 this is MONAI's UNETR, weight for weight and key for key except for the transformer (blocks
    4, 7 and 10 counted from 1; published code).

    Args:
        encoder: becomes part of the network under the name ``encoder``; the volumes have its
            number of channels.
        classes: output channels, background included.
        feature_size: channels at full resolution; they double at each level below.

    Raises:
        ValueError: when tokens are no cubes with a power of two as side.
    """

    def __init__(self, encoder: Encoder, classes: int, feature_size: int = 16) -> None:
        super().__init__()
        self.encoder = encoder
        levels = _levels(encoder.config.patch_size)
        depth, width = encoder.config.depth, encoder.config.width
        self.levels = levels
        self.taps = tuple(depth * i // levels for i in range(1, levels))
        self.encoder1 = BasicBlock(encoder.in_channels, feature_size)
        for level in range(1, levels):
            block = ProjectionBlock(width, feature_size * 2**level, levels - 1 - level)
            self.add_module(f"encoder{level + 1}", block)
        for level in range(levels, 0, -1):
            fan_in = width if level == levels else feature_size * 2**level
            up = UpBlock(fan_in, feature_size * 2 ** (level - 1))
            self.add_module(f"decoder{level + 1}", up)
        self.out = OutBlock(feature_size, classes)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, channels, X, Y, Z) to logits (B, classes, X, Y, Z).

        Raises:
            ValueError: when an axis is no multiple of the token's size.
        """
        encoded = self.encoder(volume, taps=self.taps)
        grid = self.encoder.grid(volume)
        state = _as_volume(encoded.tokens, grid)
        for level in range(self.levels, 0, -1):
            if level == 1:
                skip = self.encoder1(volume)
            else:
                tap = encoded.hidden[level - 2]
                skip = self._block(f"encoder{level}")(_as_volume(tap, grid))
            state = self._block(f"decoder{level + 1}")(state, skip)
        return cast(Tensor, self.out(state))

    def _block(self, name: str) -> nn.Module:
        return cast(nn.Module, getattr(self, name))


def _levels(patch_size: Grid) -> int:
    side = patch_size[0]
    if len(set(patch_size)) > 1 or side < 2 or side & (side - 1):
        raise ValueError(
            f"patch_size {tuple(patch_size)}: the segmentation network needs a cube whose side is "
            "a power of two"
        )
    return side.bit_length() - 1


def _as_volume(tokens: Tensor, grid: Grid) -> Tensor:
    batch, _, width = tokens.shape
    return tokens.transpose(1, 2).reshape(batch, width, *grid).contiguous()
