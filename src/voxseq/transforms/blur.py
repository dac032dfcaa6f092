"""Gaussian blur of batches, with widths of its own for each sample and axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
#: Distances in voxels (K,) and standard deviations (B, 1) → weights (B, K).
Kernel = Callable[[Array, Array], Array]
#: Voxels along an axis that are made at a time: kernels are short beside it, so most products with
#: zeros are left out.
_BLOCK = 32
#: Stands for a width of 0.
_LEAST = 1e-6


def integrated(distance: Array, sigma: Array) -> Array:
    """Integrals of the Gaussian over voxels, up to four deviations (MONAI's kernel)."""
    reach = np.floor(np.maximum(4.0 * sigma, 0.5) + 0.5)
    scale = math.sqrt(0.5) / np.maximum(sigma, _LEAST)
    below, above = (torch.from_numpy((distance + end) * scale).erf() for end in (-0.5, 0.5))
    weights = 0.5 * (above - below).numpy()
    return np.where(np.abs(distance) <= reach, weights, 0.0)


def sampled(distance: Array, sigma: Array) -> Array:
    """The Gaussian at voxels, up to three deviations, with sum 1 (SciPy's kernel)."""
    reach = np.floor(3.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (distance / np.maximum(sigma, _LEAST)) ** 2)
    weights = np.where(np.abs(distance) <= reach, weights, 0.0)
    normed: Array = weights / weights.sum(axis=1, keepdims=True)
    return normed


def blurred(volumes: Tensor, sigma: Array, kernel: Kernel, largest: float) -> Tensor:
    """Smooth each volume; beyond its faces it goes on with the outermost voxels.

    Each axis is a product of matrices. On the CPU a result does not depend on the other volumes, to
    the bit.

    Args:
        volumes: (B, X, Y, Z).
        sigma: (B, 3) standard deviations in voxels; 0 leaves an axis as it is.
        kernel: :func:`integrated` or :func:`sampled`.
        largest: deviation that none of ``sigma`` exceeds.
    """
    shape = volumes.shape[1:]
    reach = math.ceil(4.0 * largest) + 1
    weights = _weights(sigma, shape, reach, kernel, volumes.device)
    along_x, along_y, along_z = (_blocks(size, reach) for size in shape)
    made = torch.empty_like(volumes)
    # Block by block, so that only the last products are copied to their places.
    for x, from_x in along_x:
        planes = torch.bmm(weights[0][:, x, from_x], volumes[:, from_x].flatten(2))
        planes = planes.view(len(volumes), -1, *shape[1:])
        for y, from_y in along_y:
            lines = torch.matmul(weights[1][:, None, y, from_y], planes[:, :, from_y])
            for z, from_z in along_z:
                voxels = torch.bmm(lines.flatten(1, 2)[..., from_z], weights[2][:, z, from_z].mT)
                made[:, x, y, z] = voxels.view(*lines.shape[:3], -1)
    return made


def _blocks(size: int, reach: int) -> list[tuple[slice, slice]]:
    """Blocks of an axis, each with the voxels that they are made of."""
    blocks = []
    for first in range(0, size, _BLOCK):
        last = min(first + _BLOCK, size)
        blocks.append((slice(first, last), slice(max(first - reach, 0), min(last + reach, size))))
    return blocks


def _weights(
    sigma: Array, shape: Sequence[int], reach: int, kernel: Kernel, device: torch.device
) -> list[Tensor]:
    """What each voxel of a line gives to each blurred one, for each axis.

    Returns:
        (B, blurred, voxels) float32 of each axis.
    """
    weights = kernel(np.arange(-reach, reach + 1.0), sigma.reshape(-1, 1))
    # A voxel gives what the sum of the kernel rises by along it, nothing beyond the kernel's reach;
    # the outermost ones stand for all that lie beyond them.
    sums = np.zeros((len(weights), weights.shape[1] + 1), np.float32)
    sums[:, 1:] = np.cumsum(weights, axis=1)
    table = torch.from_numpy(sums).to(device).view(*sigma.shape, -1)
    found = []
    for axis, size in enumerate(shape):
        before, behind = (places.to(device) for places in _places(size, reach))
        own = table[:, axis]
        found.append(own[:, behind] - own[:, before])
    return found


@lru_cache(maxsize=16)
def _places(size: int, reach: int) -> tuple[Tensor, Tensor]:
    """Where in the sums of a kernel a voxel of a line begins and ends: (blurred, voxels) each."""
    place = torch.arange(size)
    before = (place - place[:, None]).clamp(-reach, reach) + reach
    behind = before + 1
    before[:, 0], behind[:, -1] = 0, 2 * reach + 1
    return before, behind
