"""Volumes as sequences of tokens: cutting, ordering and regression targets.

A token is one box of ``patch_size`` voxels of the volume that the encoder sees. The raster index
of a token is its place on the token grid (x, y, z) with z varying fastest, as the published code
flattens the output of its patch convolution.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Grid = tuple[int, int, int]
TokenOrder = Literal["patch_major", "raster"]
#: Added to the variance of a token's voxels (published code).
VARIANCE_EPSILON = 1e-6


def token_grid(shape: tuple[int, ...], patch_size: Grid) -> Grid:
    """Number of tokens along each axis of a volume.

    Args:
        shape: voxels (X, Y, Z).
        patch_size: voxels of a token (x, y, z).

    Raises:
        ValueError: when an axis is no positive multiple of the token's size.
    """
    if len(shape) != 3 or any(s < 1 or s % p for s, p in zip(shape, patch_size, strict=True)):
        raise ValueError(
            f"volume of shape {tuple(shape)}: expected three axes, each a positive multiple of "
            f"the patch size {tuple(patch_size)}"
        )
    x, y, z = (s // p for s, p in zip(shape, patch_size, strict=True))
    return x, y, z


def patchify(volume: Tensor, patch_size: Grid) -> Tensor:
    """Cut volumes into tokens.

    Args:
        volume: (B, 1, X, Y, Z).
        patch_size: voxels of a token (x, y, z).

    Returns:
        (B, L, V): tokens in raster order, V voxels each in (x, y, z) order, z fastest: the order
        of the published regression targets, and of a convolution kernel's weights.

    Raises:
        ValueError: when the volume has another number of axes or channels, or does not divide.
    """
    if volume.ndim != 5 or volume.shape[1] != 1:
        raise ValueError(f"volume of shape {tuple(volume.shape)}: expected (B, 1, X, Y, Z)")
    batch = volume.shape[0]
    gx, gy, gz = token_grid(tuple(volume.shape[2:]), patch_size)
    px, py, pz = patch_size
    boxes = volume.reshape(batch, gx, px, gy, py, gz, pz).permute(0, 1, 3, 5, 2, 4, 6)
    return boxes.reshape(batch, gx * gy * gz, px * py * pz)


def unpatchify(patches: Tensor, grid: Grid, patch_size: Grid) -> Tensor:
    """Inverse of :func:`patchify`.

    Args:
        patches: (B, L, V) in raster order.
        grid: tokens along each axis.
        patch_size: voxels of a token.

    Returns:
        (B, 1, X, Y, Z).
    """
    batch = patches.shape[0]
    gx, gy, gz = grid
    px, py, pz = patch_size
    boxes = patches.reshape(batch, gx, gy, gz, px, py, pz).permute(0, 1, 4, 2, 5, 3, 6)
    return boxes.reshape(batch, 1, gx * px, gy * py, gz * pz)


def token_order(grid: Grid, length: int, order: TokenOrder) -> Tensor:
    """Raster indices of the tokens in the order of the sequence.

    Args:
        grid: tokens along each axis of the joined volume.
        length: number of patches that were joined along the last axis.
        order: ``patch_major``: all tokens of one patch, then the next (paper, section 3.1);
            ``raster``: the joined volume's raster order, which interleaves the patches
            (published code).

    Returns:
        (L,) int64, a permutation.

    Raises:
        ValueError: when the patches do not split the last axis of the grid evenly.
    """
    gx, gy, gz = grid
    if length < 1 or gz % length:
        raise ValueError(f"{length} patches do not split {gz} tokens along the last axis evenly")
    indices = torch.arange(gx * gy * gz)
    if order == "raster":
        return indices
    if order != "patch_major":
        raise ValueError(f"unknown token order {order!r}: expected 'patch_major' or 'raster'")
    return indices.reshape(gx, gy, length, gz // length).permute(2, 0, 1, 3).reshape(-1)


def normalised_targets(patches: Tensor) -> Tensor:
    """Regression targets: each token's voxels, centred and scaled by the token itself.

    ``(x - mean) / sqrt(var + 1e-6)`` with the unbiased variance (published code), in float32
    whatever the input's precision: half precision would round the targets.

    Args:
        patches: (..., V).

    Returns:
        (..., V) float32.

    Raises:
        ValueError: when tokens have a single voxel, which has no variance.
    """
    if patches.shape[-1] < 2:
        raise ValueError("tokens of a single voxel have no variance: expected a larger patch size")
    values = patches.float()
    centred = values - values.mean(dim=-1, keepdim=True)
    # The sum of squares: torch.var takes ten times as long.
    squares = torch.linalg.vector_norm(centred, dim=-1, keepdim=True).square()
    variance = squares / (patches.shape[-1] - 1)
    return centred / torch.sqrt(variance + VARIANCE_EPSILON)
