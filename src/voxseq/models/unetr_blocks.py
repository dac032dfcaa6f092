"""Convolutional blocks of UNETR's decoder, weight for weight and key for key those of MONAI.

MONAI imports all of itself and whatever optional package is there, which takes longer than the rest
of a training process needs to start; these blocks are convolutions and instance norms.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.01


class NamedConv(nn.Module):
    """A convolution of stride 1 that keeps the shape, under the name ``conv``.

    Args:
        fan_in: channels.
        fan_out: channels.
        side: of the kernel, odd.
        bias: whether there is one.
    """

    def __init__(self, fan_in: int, fan_out: int, side: int, *, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv3d(fan_in, fan_out, side, padding=side // 2, bias=bias)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, fan_in, X, Y, Z) to (B, fan_out, X, Y, Z)."""
        return cast(Tensor, self.conv(volume))


class Doubling(nn.Module):
    """A transposed convolution without bias that doubles every axis, under the name ``conv``."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose3d(fan_in, fan_out, 2, stride=2, bias=False)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, fan_in, X, Y, Z) to (B, fan_out, 2X, 2Y, 2Z)."""
        return cast(Tensor, self.conv(volume))


class ResidualBlock(nn.Module):
    """Two 3³ convolutions with instance norms and a skip connection (MONAI's ``UnetResBlock``).

    The norms have no weights. Where the number of channels changes, the skip connection has a
    convolution of 1³ and a norm.
    """

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.conv1 = NamedConv(fan_in, fan_out, 3)
        self.conv2 = NamedConv(fan_out, fan_out, 3)
        self.conv3 = NamedConv(fan_in, fan_out, 1) if fan_in != fan_out else None

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, fan_in, X, Y, Z) to (B, fan_out, X, Y, Z)."""
        inner = functional.instance_norm(self.conv1(volume))
        inner = functional.leaky_relu(inner, SLOPE, inplace=True)
        inner = functional.instance_norm(self.conv2(inner))
        if self.conv3 is not None:
            volume = functional.instance_norm(self.conv3(volume))
        inner += volume
        return functional.leaky_relu(inner, SLOPE, inplace=True)


class BasicBlock(nn.Module):
    """A residual block under the name ``layer`` (MONAI's ``UnetrBasicBlock``)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.layer = ResidualBlock(fan_in, fan_out)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, fan_in, X, Y, Z) to (B, fan_out, X, Y, Z)."""
        return cast(Tensor, self.layer(volume))


class ProjectionBlock(nn.Module):
    """Brings tokens up to a level of the decoder (MONAI's ``UnetrPrUpBlock``).

    Args:
        fan_in: channels of the tokens.
        fan_out: channels of the level.
        further: doublings after the first one, each with a residual block.
    """

    def __init__(self, fan_in: int, fan_out: int, further: int) -> None:
        super().__init__()
        self.transp_conv_init = Doubling(fan_in, fan_out)
        self.blocks = nn.ModuleList(
            nn.Sequential(Doubling(fan_out, fan_out), ResidualBlock(fan_out, fan_out))
            for _ in range(further)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, fan_in, x, y, z) to (B, fan_out, X, Y, Z), axes doubled 1 + further times."""
        volume: Tensor = self.transp_conv_init(tokens)
        for block in self.blocks:
            volume = block(volume)
        return volume


class UpBlock(nn.Module):
    """Doubles the resolution and joins a skip connection (MONAI's ``UnetrUpBlock``)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.transp_conv = Doubling(fan_in, fan_out)
        self.conv_block = ResidualBlock(2 * fan_out, fan_out)

    def forward(self, volume: Tensor, skip: Tensor) -> Tensor:
        """Map (B, fan_in, x, y, z) and a skip (B, fan_out, 2x, 2y, 2z) to the latter's shape."""
        return cast(Tensor, self.conv_block(torch.cat((self.transp_conv(volume), skip), dim=1)))


class OutBlock(nn.Module):
    """Logits of every voxel: a convolution of 1³ with bias (MONAI's ``UnetOutBlock``)."""

    def __init__(self, fan_in: int, classes: int) -> None:
        super().__init__()
        self.conv = NamedConv(fan_in, classes, 1, bias=True)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, fan_in, X, Y, Z) to (B, classes, X, Y, Z)."""
        return cast(Tensor, self.conv(volume))
