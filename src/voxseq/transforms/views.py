"""Random views of a volume, shared by the methods that compare views.

The two-dimensional recipes of Chen et al. 2020 (SimCLR), Chen et al. 2021 (MoCo v3) and Caron et
al. 2021 (DINO), without colour: shares of an image's area are read as shares of a volume's voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.networks.layers.convutils import gaussian_1d
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from torch import Tensor

from voxseq.transforms.spatial import Item, resize

Array = NDArray[np.float32]
Shape = tuple[int, int, int]

#: Side in voxels of the views for which the blur's widths are given.
REFERENCE_SIDE = 96
#: Smallest and largest standard deviation of the blur, in voxels of such a view.
BLUR_SIGMA = (0.1, 2.0)


@dataclass(frozen=True)
class ViewRecipe:
    """How a view is made.

    Attributes:
        shape: voxels (X, Y, Z) of the view.
        scale: smallest and largest share of the volume's voxels that the crop covers.
        jitter: probability of a change of brightness and contrast.
        blur: probability of a Gaussian blur.
        solarise: probability that bright voxels are inverted.

    Raises:
        ValueError: a share that is not in (0, 1] or out of order, or no probability.
    """

    shape: Shape
    scale: tuple[float, float]
    jitter: float = 0.8
    blur: float = 0.5
    solarise: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale {self.scale}: expected 0 < low <= high <= 1")
        for name in ("jitter", "blur", "solarise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a probability")


def random_resized_crop(
    volume: Array, shape: Shape, scale: tuple[float, float], rng: np.random.Generator
) -> Array:
    """Cut a random box with the volume's proportions and resize it trilinearly.

    Args:
        volume: (X, Y, Z).
        shape: of the result.
        scale: smallest and largest share of the volume's voxels; the sides of the box are the
            cube root of a uniform share of the volume's sides, rounded to voxels.
        rng: stream of this view.
    """
    side = float(rng.uniform(*scale)) ** (1 / 3)
    sizes = [max(1, round(side * length)) for length in volume.shape]
    starts = [
        int(rng.integers(length - size + 1))
        for length, size in zip(volume.shape, sizes, strict=True)
    ]
    box = tuple(slice(s, s + n) for s, n in zip(starts, sizes, strict=True))
    return resize(volume[box], shape)


def flip_and_rotate(view: Array, rng: np.random.Generator) -> Array:
    """Flip each axis with probability 1/2; turn by quarters in the first two with probability 1/2.

    Where those two axes differ in length, only the half turn keeps the shape.

    Args:
        view: (X, Y, Z).
        rng: stream of this view.

    Returns:
        The same shape, possibly as a view of the same memory.
    """
    axes = np.flatnonzero(rng.random(3) < 0.5)
    turned = np.flip(view, tuple(int(axis) for axis in axes))
    if rng.random() < 0.5:
        turns = int(rng.integers(1, 4)) if view.shape[0] == view.shape[1] else 2
        turned = np.rot90(turned, turns, (0, 1))
    return turned


def jitter(view: Array, rng: np.random.Generator, strength: float = 0.4) -> Array:
    """Multiply the intensities, then stretch them about their mean; clip to 0..1 after each.

    Both factors are uniform in 1 - strength .. 1 + strength.
    """
    brightness, contrast = (np.float32(f) for f in rng.uniform(1 - strength, 1 + strength, 2))
    bright = np.minimum(view * brightness, np.float32(1))
    mean = bright.mean(dtype=np.float32)
    stretched: Array = np.clip((bright - mean) * contrast + mean, 0, 1)
    return stretched


def blur(view: Array, rng: np.random.Generator) -> Array:
    """Smooth with a Gaussian whose standard deviation is drawn for each axis.

    It is uniform in :data:`BLUR_SIGMA` voxels for a view of :data:`REFERENCE_SIDE` voxels, and in
    proportion for others. Kernels are those of MONAI's ``RandGaussianSmooth``; beyond its faces
    the view goes on with the outermost voxels, not with zeros, so that no dark rim arises.
    """
    smooth = view
    for axis, sigma in enumerate(rng.uniform(*BLUR_SIGMA, 3)):
        scaled = torch.tensor(sigma * view.shape[axis] / REFERENCE_SIDE, dtype=torch.float32)
        smooth = correlate1d(smooth, gaussian_1d(scaled).numpy(), axis, mode="nearest")
    return smooth


def solarise(view: Array) -> Array:
    """Invert the bright voxels: 1 - x where x >= 0.5."""
    return np.where(view >= np.float32(0.5), np.float32(1) - view, view)


def make_view(volume: Array, recipe: ViewRecipe, rng: np.random.Generator) -> Array:
    """Make one random view.

    Args:
        volume: (X, Y, Z) float32 in 0..1.
        recipe: its kind.
        rng: stream of this view; nothing else is random.

    Returns:
        ``recipe.shape`` float32 in 0..1, in memory of its own.
    """
    view = random_resized_crop(volume, recipe.shape, recipe.scale, rng)
    view = np.ascontiguousarray(flip_and_rotate(view, rng))
    if rng.random() < recipe.jitter:
        view = jitter(view, rng)
    if rng.random() < recipe.blur:
        view = blur(view, rng)
    if rng.random() < recipe.solarise:
        view = solarise(view)
    # Trilinear weights and kernels sum to 1 only up to rounding.
    clipped: Array = np.clip(view, 0, 1, dtype=np.float32)
    return clipped


def make_views(items: Sequence[Item], recipe: ViewRecipe, rng: np.random.Generator) -> Tensor:
    """One view of each item: (B, 1, *recipe.shape) float32."""
    views = np.stack([make_view(item.volume, recipe, rng) for item in items])
    return torch.from_numpy(views[:, None])
