"""Gaussian blur of batches, with widths of its own for each sample and axis."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf
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
    weights = 0.5 * (erf((distance + 0.5) * scale) - erf((distance - 0.5) * scale))
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

    Each axis is one product of matrices, after which the axes have moved on by one. On the CPU a
    result does not depend on the other volumes, to the bit.

    Args:
        volumes: (B, X, Y, Z).
        sigma: (B, 3) standard deviations in voxels; 0 leaves an axis as it is.
        kernel: :func:`integrated` or :func:`sampled`.
        largest: deviation that none of ``sigma`` exceeds.
    """
    reach = math.ceil(4.0 * largest) + 1
    made = volumes
    for axis in range(3):
        size = made.shape[1]
        weights = _weights(sigma[:, axis], size, reach, kernel, made.device).to(made.dtype)
        parts = []
        for first in range(0, size, _BLOCK):
            last = min(first + _BLOCK, size)
            low, high = max(first - reach, 0), min(last + reach, size)
            inside = made[:, low:high].flatten(2).mT
            parts.append(torch.bmm(inside, weights[:, first:last, low:high].mT))
        made = torch.cat(parts, dim=2).view(len(made), *made.shape[2:], size)
    return made


def _weights(sigma: Array, size: int, reach: int, kernel: Kernel, device: torch.device) -> Tensor:
    """What each voxel of a line gives to each blurred one: (B, blurred, voxels) float32."""
    weights = kernel(np.arange(-reach, reach + 1.0), sigma[:, None])
    # A voxel gives what the sum of the kernel rises by along it, nothing beyond the kernel's reach;
    # the outermost ones stand for all that lie beyond them.
    sums = np.pad(np.cumsum(weights, axis=1), ((0, 0), (1, 0))).astype(np.float32)
    table = torch.from_numpy(sums).to(device)
    place = torch.arange(size, device=device)
    before = (place - place[:, None]).clamp(-reach, reach) + reach
    behind = before + 1
    before[:, 0], behind[:, -1] = 0, sums.shape[1] - 1
    return table[:, behind] - table[:, before]
