"""Views for PCRLv2: two large ones that overlap, small ones near them, and their corruption.

Boxes, the affine change and the flip are one resampling; its result, in 0..1, is the target. What
the network sees is corrupted further (Zhou et al. 2023, section 3; published code). What is random
about a view is drawn first, on the CPU; its voxels are then made on their device, the noise by a
generator of the view's own there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from voxseq.transforms.blur import blurred, sampled
from voxseq.transforms.spatial import Triple
from voxseq.transforms.views import pieces
from voxseq.transforms.warp import rotation

Array = NDArray[np.float64]
#: Attempts to find a second box before the first one is taken again.
_ATTEMPTS = 50
_SCALE = 0.1
_DEGREES = 10.0
_LOG_GAMMA = 0.3
#: Numbers of generators of noise: those that a float64 holds.
_SEEDS = 2**53
#: Views that are resampled at a time: each has a grid three times its size.
PIECE = 16
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


def intersection_over_union(one: Box, other: Box) -> Any:
    """Volume that two boxes share over the volume that they cover; of many boxes, of each."""
    (low, high), (other_low, other_high) = one.ends(), other.ends()
    sides = np.minimum(high, other_high) - np.maximum(low, other_low)
    shared = sides.clip(0.0).prod(axis=-1)
    return shared / ((2 * one.half).prod(axis=-1) + (2 * other.half).prod(axis=-1) - shared)


def overlapping_boxes(
    side: tuple[float, float], overlap: float, rng: np.random.Generator
) -> tuple[Box, Box]:
    """Two boxes whose intersection over union exceeds ``overlap``."""
    first = random_box(side, rng)
    # All attempts at once: most pairs need some, and numbers cost less than calls.
    half = np.repeat(rng.uniform(*side, (_ATTEMPTS, 1)) / 2, 3, axis=1)
    others = Box(rng.uniform(half, 1.0 - half), half)
    found = np.flatnonzero(intersection_over_union(first, others) > overlap)
    if not len(found):
        return first, first
    return first, Box(others.centre[found[0]], half[found[0]])


def box_near(boxes: Sequence[Box], side: tuple[float, float], rng: np.random.Generator) -> Box:
    """A box whose centre lies in the union box of ``boxes``, moved into the volume."""
    low, high = boxes[0].ends()
    for box in boxes[1:]:
        own_low, own_high = box.ends()
        low, high = np.minimum(low, own_low), np.maximum(high, own_high)
    half = rng.uniform(*side) / 2
    centre = low + (high - low) * rng.random(3)
    return Box(centre.clip(half, 1.0 - half), np.full(3, half))


def view_matrix(box: Box, rng: np.random.Generator) -> Array:
    """Affine map (3, 4) from a view's coordinates to the volume's, both in -1..1.

    A rotation of at most 10° about each axis, a size of 0.9 to 1.1 along each, and with probability
    one half a flip of the first axis (published code), about the centre of the box.
    """
    numbers = rng.random(7)
    linear = rotation(_DEGREES * (2 * numbers[:3] - 1)) / (1 + _SCALE * (2 * numbers[3:6] - 1))
    if numbers[6] < 0.5:
        linear[:, 0] *= -1
    matrix = np.empty((3, 4))
    matrix[:, :3] = 2 * box.half[:, None] * linear
    matrix[:, 3] = 2 * box.centre - 1
    return matrix


def resample(volumes: Tensor, matrices: Array, shape: Triple) -> Tensor:
    """Read one view from each volume, or some, trilinearly.

    Beyond the border its voxels are repeated.

    Args:
        volumes: (N, 1, X, Y, Z).
        matrices: (N, 3, 4) or (N, views, 3, 4) as :func:`view_matrix` gives them, axes x, y, z.
        shape: voxels of the views.

    Returns:
        (N, 1, *shape) or (N, views, 1, *shape).
    """
    # grid_sample counts axes from the last: z, y, x.
    turned = torch.from_numpy(matrices.reshape(-1, 3, 4)[:, ::-1].astype(np.float32)).to(volumes)
    along = [_centres(size, volumes.device) for size in shape]
    x, y, z = ((turned[:, None, :, axis] * places[:, None]) for axis, places in enumerate(along))
    # The grid of an affine map is a sum over its axes; affine_grid multiplies each point by itself.
    plane = y[:, :, None] + (z + turned[:, None, :, 3])[:, None]
    made = volumes.new_empty(*matrices.shape[:-2], 1, *shape)
    each = len(turned) // len(volumes)
    # Views of a volume are one behind the other along the first axis, as if they were one.
    whole = (each * shape[0], *shape[1:])
    views = made.view(len(volumes), 1, *whole)
    for piece in pieces(len(volumes), whole, volumes.device, max(PIECE // each, 1)):
        rows = slice(each * piece.start, each * piece.stop)
        grid = x[rows, :, None, None] + plane[rows, None]
        grid = grid.view(-1, *whole, 3)
        views[piece] = F.grid_sample(
            volumes[piece], grid, padding_mode="border", align_corners=False
        )
    return made


def _centres(size: int, device: torch.device) -> Tensor:
    """Coordinates in -1..1 of the centres of the voxels of an axis."""
    return (2 * torch.arange(size, device=device, dtype=torch.float32) + 1) / size - 1


def swap_blocks(views: Tensor, starts: NDArray[np.int64], block: Triple) -> None:
    """Exchange the voxels of pairs of blocks, one pair after the other.

    Args:
        views: (N, X, Y, Z); changed in place.
        starts: (N, swaps, 2, 3) first voxels; a pair that overlaps is left out.
        block: voxels of a block.
    """
    count, *shape = views.shape
    apart = (np.abs(starts[:, :, 0] - starts[:, :, 1]) >= np.array(block)).any(axis=-1)
    corners = starts @ np.array([shape[1] * shape[2], shape[2], 1])
    # A pair that is left out exchanges a block with itself.
    corners[~apart, 1] = corners[~apart, 0]
    inside = np.ravel_multi_index(tuple(np.indices(block).reshape(3, -1)), tuple(shape))
    offsets = torch.from_numpy(inside).to(views.device)
    places = torch.from_numpy(corners).to(views.device)
    voxels = views.view(count, -1)
    # All views at once: a loop over views as well would take most of the time of a batch.
    for pair in places.unbind(1):
        here, there = (pair[:, :, None] + offsets, pair.flip(1)[:, :, None] + offsets)
        voxels.scatter_(1, here.flatten(1), voxels.gather(1, there.flatten(1)))


@dataclass(frozen=True)
class Corruption:
    """Changes of views before the network sees them.

    Attributes:
        shape: voxels of a view.
        blur: largest standard deviation, in voxels of a view of ``side`` voxels.
        side: see ``blur``.
        noise: largest standard deviation of the noise.
        swaps: exchanges of blocks; 0 for small views.
        block: voxels of a block.
    """

    shape: Triple
    blur: float
    side: int
    noise: float
    swaps: int = 0
    block: Triple = (1, 1, 1)

    @cached_property
    def drawn(self) -> np.dtype[Any]:
        """Type of what is drawn for a view.

        sigma: of the blur, in voxels. noise: its standard deviation. seed: of its generator.
        gamma: the power. starts: of the blocks.
        """
        return np.dtype(
            [
                *(("sigma", "<f8", 3), ("noise", "<f8"), ("seed", "<f8"), ("gamma", "<f8")),
                ("starts", "<f8", (self.swaps, 2, 3)),
            ]
        )

    def draw(self, rng: np.random.Generator) -> NDArray[Any]:
        """Draw the changes of one view: a record of type :attr:`drawn`, shape ()."""
        drawn = np.zeros((), self.drawn)
        numbers = rng.random(6)
        drawn["sigma"] = self.blur * numbers[:3] * self.shape / self.side
        drawn["noise"] = self.noise * numbers[3]
        drawn["seed"] = int(_SEEDS * numbers[4])
        drawn["gamma"] = math.exp(_LOG_GAMMA * (2 * numbers[5] - 1))
        if self.swaps:
            room = np.subtract(self.shape, self.block) + 1
            drawn["starts"] = rng.integers(0, room, size=(self.swaps, 2, 3))
        return drawn

    def __call__(self, views: Tensor, drawn: NDArray[Any]) -> Tensor:
        """Blur, noise, gamma, exchange of blocks, then zero mean and unit variance.

        Args:
            views: (N, 1, *shape) in 0..1; left as they are.
            drawn: (N,) records of :meth:`draw`.
        """
        made = torch.empty_like(views)
        for rows in pieces(len(views), self.shape, views.device):
            made[rows, 0] = self._corrupted(views[rows, 0], drawn[rows])
        return made

    def _corrupted(self, views: Tensor, drawn: NDArray[Any]) -> Tensor:
        largest = self.blur * max(self.shape) / self.side
        made = blurred(views, drawn["sigma"], sampled, largest)
        generator, noise = torch.Generator(made.device), torch.empty_like(made[0])
        for view, each in zip(made, drawn, strict=True):
            generator.manual_seed(int(each["seed"]))
            view.add_(noise.normal_(generator=generator), alpha=float(each["noise"]))
        gamma = torch.from_numpy(drawn["gamma"].astype(np.float32)).to(made.device)
        # Noise makes negative voxels, which have no such power: they keep their sign.
        made = made.abs().pow_(gamma.view(-1, 1, 1, 1)).copysign_(made)
        if self.swaps:
            swap_blocks(made, drawn["starts"].astype(np.int64), self.block)
        voxels = made.flatten(1)
        voxels.sub_(voxels.mean(dim=1, keepdim=True))
        # The norm: torch.std takes ten times as long.
        spread = torch.linalg.vector_norm(voxels, dim=1, keepdim=True) / math.sqrt(voxels.shape[1])
        voxels.div_(spread.clamp_(min=1e-6))
        return made
