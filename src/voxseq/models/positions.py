"""Fixed sine-cosine positions of tokens on a 3D grid."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from voxseq.models.patches import Grid

BASE = 10_000.0


@lru_cache(maxsize=32)
def sincos_positions(grid: Grid, width: int, device: torch.device) -> Tensor:
    """Position embedding of every token of a grid (published code).

    A third of the channels belongs to each axis (x, y, z in this order): half of it sines, half
    cosines of ``index * 10000^(-i / (width / 6))``, with integer indices along the axis.

    Args:
        grid: tokens along each axis.
        width: channels, a multiple of 6.
        device: where the result lies.

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
