"""Volumes as sequences of tokens: cutting, order, positions, regression targets and their loss.

A token is one box of ``patch_size`` voxels of the volume that the encoder sees. The raster index
of a token is its place on the token grid (x, y, z) with z varying fastest, as the published code
flattens the output of its patch convolution.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Grid = tuple[int, int, int]
TokenOrder = Literal["patch_major", "raster"]
#: Added to the variance of a token's voxels (published code).
VARIANCE_EPSILON = 1e-6
#: Of the wavelengths of positions (published code).
BASE = 10_000.0
#: Rows of a matrix product that a GPU computes together.
ROW_TILE = 128


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
        volume: (B, C, X, Y, Z).
        patch_size: voxels of a token (x, y, z).

    Returns:
        (B, L, C·V): tokens in raster order, V voxels of each channel in (x, y, z) order, z fastest:
        the order of the published regression targets, and of a convolution kernel's weights.

    Raises:
        ValueError: when the volume has another number of axes, or does not divide.
    """
    if volume.ndim != 5:
        raise ValueError(f"volume of shape {tuple(volume.shape)}: expected (B, C, X, Y, Z)")
    batch, channels = volume.shape[:2]
    gx, gy, gz = token_grid(tuple(volume.shape[2:]), patch_size)
    px, py, pz = patch_size
    boxes = volume.reshape(batch, channels, gx, px, gy, py, gz, pz)
    boxes = boxes.permute(0, 2, 4, 6, 1, 3, 5, 7)
    return boxes.reshape(batch, gx * gy * gz, channels * px * py * pz)


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


@lru_cache(maxsize=32)
def sincos_positions(grid: Grid, width: int, device: torch.device) -> Tensor:
    """Position embedding of every token of a grid (published code).

    A third of the channels belongs to each axis (x, y, z in this order): half of it sines, half
    cosines of ``index * 10000^(-i / (width / 6))``, with integer indices along the axis.

    Args:
        grid: tokens along each axis.
        width: channels, a multiple of 6.
        device: of the result.

    Returns:
        (L, width) float32 in raster order; shared between calls, so not to be written to.

    Raises:
        ValueError: when ``width`` is not a multiple of 6.
    """
    if width % 6:
        raise ValueError(
            f"width {width} is not divisible by 6, which the 3D sine-cosine positions need"
        )
    # An inference tensor kept here could not take part in training later.
    with torch.inference_mode(False), torch.no_grad():
        steps = torch.arange(width // 6, dtype=torch.float32) / (width / 6)
        frequencies = 1.0 / BASE**steps
        axes = [torch.arange(n, dtype=torch.float32) for n in grid]
        parts: list[Tensor] = []
        for index in torch.meshgrid(*axes, indexing="ij"):
            angles = index.reshape(-1, 1) * frequencies
            parts += [angles.sin(), angles.cos()]
        return torch.cat(parts, dim=1).to(device)


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


def scored_rows(prefix: Tensor, length: int) -> Tensor:
    """Places of the scored tokens of a batch: token j (from 0) is scored when j >= prefix.

    Args:
        prefix: (B,) integers in 0..L-1. On the CPU, no other device has to be waited for.
        length: number of tokens L of a sequence.

    Returns:
        (R,) int64, rising, in 0..B·L - 1.
    """
    return _is_scored(prefix, length).nonzero()[:, 0]


def padded_rows(prefix: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """As :func:`scored_rows`, filled up to one of two numbers of rows.

    Shapes that change at every step could not be compiled, and fragment a GPU's memory. Prefixes
    that are uniform over 0..L-1 fill more than the first number, four standard deviations above
    the mean, 3 times in 100,000 steps; then all rows are taken.

    Args:
        prefix: (B,) integers in 0..L-1. On the CPU, no other device has to be waited for.
        length: number of tokens L of a sequence.

    Returns:
        Places (R,) int64, the scored ones first and none twice, and (R,) bool: which are scored.
    """
    is_scored = _is_scored(prefix, length)
    scored, others = is_scored.nonzero()[:, 0], (~is_scored).nonzero()[:, 0]
    capacity = row_capacity(len(prefix), length)
    rows = torch.cat([scored, others])[: capacity if len(scored) <= capacity else None]
    return rows, torch.arange(len(rows), device=rows.device) < len(scored)


def row_capacity(batch: int, length: int) -> int:
    """Mean number of scored rows and four standard deviations, in whole tiles of a product."""
    mean = batch * (length + 1) / 2
    deviation = math.sqrt(batch * (length**2 - 1) / 12)
    return min(math.ceil((mean + 4 * deviation) / ROW_TILE) * ROW_TILE, batch * length)


def _is_scored(prefix: Tensor, length: int) -> Tensor:
    """(B·L,) bool."""
    return (torch.arange(length, device=prefix.device) >= prefix[:, None]).flatten()


def norm_loss(prediction: Tensor, patches: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over tokens of the norm of the error of their normalised voxels (equation 2).

    Args:
        prediction: (R, V).
        patches: (R, V) voxels of the predicted tokens.
        weights: (R,) of the tokens; 0 for those that do not count.

    Returns:
        Scalar, float32.
    """
    errors = prediction.float() - normalised_targets(patches)
    norms: Tensor = torch.linalg.vector_norm(errors, dim=-1)
    return (norms * weights).sum()


def regression_loss(prediction: Tensor, patches: Tensor, is_scored: Tensor | None = None) -> Tensor:
    """Mean squared error of normalised voxels, over all voxels.

    Args:
        prediction: (..., V).
        patches: (..., V) voxels of the predicted tokens.
        is_scored: (...) bool, the tokens that count; None: all.

    Returns:
        Scalar, float32.
    """
    # Keeps the differences for the backward pass; functional.mse_loss keeps both of its inputs.
    errors = (prediction.float() - normalised_targets(patches)).square()
    if is_scored is None:
        return errors.mean()
    return errors.mean(dim=-1).mul(is_scored).sum() / is_scored.sum()
