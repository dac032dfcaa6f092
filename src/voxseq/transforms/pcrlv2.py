"""Views for PCRLv2: two large ones that overlap, small ones near them, and their corruption.

Boxes, the affine change and the flip are one resampling; its result, in 0..1, is the target. What
the network sees is corrupted further (Zhou et al. 2023, section 3; published code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from voxseq.config.base import Shape3
from voxseq.transforms.warp import rotation

Array = NDArray[np.float64]
#: Attempts to find a second box before the first one is taken again.
_ATTEMPTS = 50
_SCALE = 0.1
_DEGREES = 10.0
_LOG_GAMMA = 0.3
#: Sides of the source's large and small views, for which the published blur holds.
LARGE_SIDE = 64
SMALL_SIDE = 16


@dataclass(frozen=True)
class Box:
    """A box in a volume of unit sides: centre and half side of each axis."""

    centre: Array
    half: Array

    def ends(self) -> tuple[Array, Array]:
        """Lowest and highest corner."""
        return self.centre - self.half, self.centre + self.half


def random_box(side: tuple[float, float], rng: np.random.Generator) -> Box:
    """A box inside the unit cube whose side is drawn from a range, the same for all axes."""
    half = np.full(3, rng.uniform(*side) / 2)
    return Box(rng.uniform(half, 1.0 - half), half)


def intersection_over_union(one: Box, other: Box) -> float:
    """Volume that two boxes share over the volume that they cover."""
    (low, high), (other_low, other_high) = one.ends(), other.ends()
    sides = np.minimum(high, other_high) - np.maximum(low, other_low)
    shared = float(np.prod(np.clip(sides, 0.0, None)))
    covered = float(np.prod(2 * one.half) + np.prod(2 * other.half)) - shared
    return shared / covered


def overlapping_boxes(
    side: tuple[float, float], overlap: float, rng: np.random.Generator
) -> tuple[Box, Box]:
    """Two boxes whose intersection over union exceeds ``overlap``."""
    first = random_box(side, rng)
    for _ in range(_ATTEMPTS):
        second = random_box(side, rng)
        if intersection_over_union(first, second) > overlap:
            return first, second
    return first, first


def box_near(boxes: Sequence[Box], side: tuple[float, float], rng: np.random.Generator) -> Box:
    """A box whose centre lies in the union box of ``boxes``, moved into the volume."""
    low = np.min([box.ends()[0] for box in boxes], axis=0)
    high = np.max([box.ends()[1] for box in boxes], axis=0)
    half = np.full(3, rng.uniform(*side) / 2)
    return Box(np.clip(rng.uniform(low, high), half, 1.0 - half), half)


def view_matrix(box: Box, rng: np.random.Generator) -> Array:
    """Affine map (3, 4) from a view's coordinates to the volume's, both in -1..1.

    A rotation of at most 10° about each axis, a size of 0.9 to 1.1 along each, and with probability
    one half a flip of the first axis (published code), about the centre of the box.
    """
    matrix = rotation(rng.uniform(-_DEGREES, _DEGREES, 3))
    matrix = matrix / rng.uniform(1 - _SCALE, 1 + _SCALE, 3)
    if rng.random() < 0.5:
        matrix[:, 0] *= -1
    linear = 2 * box.half[:, None] * matrix
    return np.concatenate([linear, (2 * box.centre - 1)[:, None]], axis=1)


def resample(volumes: Tensor, matrices: Array, shape: Shape3) -> Tensor:
    """Read one view from each volume, trilinearly; beyond the border its voxels are repeated.

    Args:
        volumes: (N, 1, X, Y, Z).
        matrices: (N, 3, 4) as :func:`view_matrix` gives them, axes x, y, z.
        shape: voxels of the views.

    Returns:
        (N, 1, *shape).
    """
    # grid_sample counts axes from the last: z, y, x.
    turned = matrices[:, ::-1][:, :, [2, 1, 0, 3]].copy()
    theta = torch.from_numpy(turned).to(volumes.dtype)
    grid = F.affine_grid(theta, [len(volumes), 1, *shape], align_corners=False)
    return F.grid_sample(volumes, grid, padding_mode="border", align_corners=False)


def swap_blocks(
    views: NDArray[np.float32], swaps: int, block: Shape3, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Exchange the voxels of two random blocks that do not overlap, ``swaps`` times in each view.

    Args:
        views: (N, X, Y, Z); left as they are.
        swaps: number of exchanges; a pair that overlaps is left out.
        block: voxels of a block, at most those of a view.
    """
    swapped = views.copy()
    count, *shape = views.shape
    voxels = swapped.reshape(count, -1)
    starts = rng.integers(0, np.array(shape) - np.array(block) + 1, size=(swaps, 2, count, 3))
    apart = (np.abs(starts[:, 0] - starts[:, 1]) >= np.array(block)).any(axis=-1)
    corners = starts @ np.array([shape[1] * shape[2], shape[2], 1])
    inside = np.ravel_multi_index(tuple(np.indices(block).reshape(3, -1)), shape)
    # All views at once: a loop over views as well would take most of the time of a batch.
    for (one, other), used in zip(corners, apart, strict=True):
        rows = np.flatnonzero(used)[:, None]
        here, there = one[rows] + inside, other[rows] + inside
        kept = voxels[rows, here]
        voxels[rows, here] = voxels[rows, there]
        voxels[rows, there] = kept
    return swapped


@dataclass(frozen=True)
class Corruption:
    """Changes of views before the network sees them.

    Attributes:
        blur: largest standard deviation, in voxels of a view of ``side`` voxels.
        side: see ``blur``.
        noise: largest standard deviation of the noise.
        swaps: exchanges of blocks; 0 for small views.
        block: voxels of a block.
    """

    blur: float
    side: int
    noise: float
    swaps: int = 0
    block: Shape3 = (1, 1, 1)

    def __call__(self, views: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Blur, noise, gamma, exchange of blocks, then zero mean and unit variance.

        Args:
            views: (N, X, Y, Z) in 0..1; each gets its own parameters.
            rng: stream of these views.
        """
        each = (len(views), 1, 1, 1)
        sigmas = rng.uniform(0.0, self.blur, (len(views), 3)) * views.shape[1:] / self.side
        made = np.stack(
            [
                ndimage.gaussian_filter(view, sigma, mode="nearest", truncate=3.0)
                for view, sigma in zip(views, sigmas, strict=True)
            ]
        )
        noise = rng.standard_normal(views.shape, dtype=np.float32)
        made += rng.uniform(0.0, self.noise, each).astype(np.float32) * noise
        gamma = np.exp(rng.uniform(-_LOG_GAMMA, _LOG_GAMMA, each)).astype(np.float32)
        # Noise makes negative voxels, which have no such power: they keep their sign.
        made = np.sign(made) * np.abs(made) ** gamma
        if self.swaps:
            made = swap_blocks(made, self.swaps, self.block, rng)
        made -= made.mean(axis=(1, 2, 3), keepdims=True)
        spread = made.std(axis=(1, 2, 3), keepdims=True)
        scaled: NDArray[np.float32] = made / np.maximum(spread, np.float32(1e-6))
        return scaled


def corrupted(views: Tensor, corruption: Corruption, rng: np.random.Generator) -> Tensor:
    """Corrupt each of (N, 1, X, Y, Z) by itself."""
    return torch.from_numpy(corruption(views[:, 0].numpy(), rng))[:, None]
