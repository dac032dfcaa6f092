"""Random views of volumes, shared by the methods that compare views.

The two-dimensional recipes of Chen et al. 2020 (SimCLR), Chen et al. 2021 (MoCo v3) and Caron et
al. 2021 (DINO), without colour: shares of an image's area are read as shares of a volume's voxels.

What is random about a view is drawn first, as some numbers on the CPU; the voxels of all views of a
batch are then made on their device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from voxseq.transforms.blur import blurred, integrated
from voxseq.transforms.spatial import Triple

#: Side in voxels of the views for which the blur's widths are given.
REFERENCE_SIDE = 96
#: Smallest and largest standard deviation of the blur, in voxels of such a view.
BLUR_SIGMA = (0.1, 2.0)
#: Most that brightness and contrast differ from 1.
JITTER = 0.4
#: What is drawn for a view. start, size: box of the volume, in voxels. flips: of each axis. turns:
#: quarters from the first axis to the second. brightness, contrast: 1 where they are left as they
#: are. sigma: of the blur along each axis in voxels of the view, 0 for none. solarised: or not.
DRAWN = np.dtype(
    [
        *(("start", "<f8", 3), ("size", "<f8", 3), ("flips", "<f8", 3), ("turns", "<f8")),
        *(("brightness", "<f8"), ("contrast", "<f8"), ("sigma", "<f8", 3), ("solarised", "<f8")),
    ]
)


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

    shape: Triple
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

    @property
    def _widest(self) -> float:
        """Largest standard deviation of the blur, in voxels of the view."""
        return BLUR_SIGMA[1] * max(self.shape) / REFERENCE_SIDE

    def draw(self, volume: Triple, rng: np.random.Generator) -> NDArray[Any]:
        """Draw one view of a volume.

        The sides of its box are the cube root of a uniform share of the volume's sides, rounded to
        voxels. Each axis is flipped with probability 1/2; with probability 1/2 the view is turned
        by quarters in the first two, by half where those differ in length.

        Args:
            volume: its voxels (X, Y, Z).
            rng: stream of this view.

        Returns:
            A record of type :data:`DRAWN`, shape ().
        """
        drawn = np.zeros((), DRAWN)
        side = float(rng.uniform(*self.scale)) ** (1 / 3)
        size = [max(1, round(side * length)) for length in volume]
        drawn["size"] = size
        drawn["start"] = rng.integers(np.subtract(volume, size) + 1)
        drawn["flips"] = rng.random(3) < 0.5
        if rng.random() < 0.5:
            drawn["turns"] = rng.integers(1, 4) if self.shape[0] == self.shape[1] else 2
        drawn["brightness"] = drawn["contrast"] = 1.0
        if rng.random() < self.jitter:
            drawn["brightness"], drawn["contrast"] = rng.uniform(1 - JITTER, 1 + JITTER, 2)
        if rng.random() < self.blur:
            drawn["sigma"] = rng.uniform(*BLUR_SIGMA, 3) * self.shape / REFERENCE_SIDE
        drawn["solarised"] = rng.random() < self.solarise
        return drawn

    def make(self, volumes: Tensor, drawn: NDArray[Any]) -> Tensor:
        """Make one view of each volume.

        Args:
            volumes: (B, 1, X, Y, Z) float32 in 0..1.
            drawn: (B,) records of :meth:`draw`.

        Returns:
            (B, 1, *shape) float32 in 0..1 on the volumes' device.
        """
        views = volumes.new_empty(len(volumes), *self.shape)
        for view, volume, each in zip(views, volumes[:, 0], drawn, strict=True):
            view.copy_(turned(_cropped(volume, self.shape, each), each))
        jitter(views, drawn)
        widths: NDArray[np.float64] = drawn["sigma"]
        is_blurred = (widths > 0).any(axis=1)
        for rows, chosen in _chosen(views, np.asarray(is_blurred)):
            views[rows] = blurred(chosen, widths[is_blurred], integrated, self._widest)
        for rows, chosen in _chosen(views, drawn["solarised"] > 0):
            views[rows] = torch.where(chosen >= 0.5, 1 - chosen, chosen)
        # Trilinear weights and kernels sum to 1 only up to rounding.
        return views.clamp_(0, 1)[:, None]


def _cropped(volume: Tensor, shape: Triple, drawn: NDArray[Any]) -> Tensor:
    """The box of a view, resized trilinearly."""
    box = tuple(
        slice(int(start), int(start + size))
        for start, size in zip(drawn["start"], drawn["size"], strict=True)
    )
    found = volume[box]
    if found.shape == shape:
        return found
    return F.interpolate(found[None, None], shape, mode="trilinear", align_corners=False)[0, 0]


def turned(view: Tensor, drawn: NDArray[Any]) -> Tensor:
    """Flip a view (X, Y, Z) and turn it by quarters from the first axis to the second."""
    flips, turns = drawn["flips"] > 0, int(drawn["turns"])
    # A quarter exchanges two axes and flips one of them; all flips are one copy of the voxels.
    if turns in (1, 2):
        flips = flips ^ np.array([turns == 2, True, False])
    elif turns == 3:
        flips = flips ^ np.array([True, False, False])
    axes = [int(axis) for axis in np.flatnonzero(flips)]
    flipped = view.flip(axes) if axes else view
    return flipped.transpose(0, 1) if turns % 2 else flipped


def jitter(views: Tensor, drawn: NDArray[Any]) -> None:
    """Multiply the intensities, then stretch them about their mean; clip to 0..1 after each.

    Args:
        views: (B, X, Y, Z); changed in place.
        drawn: (B,) their records.
    """
    brightness, contrast = (
        torch.from_numpy(drawn[name].astype(np.float32)).to(views.device).view(-1, 1, 1, 1)
        for name in ("brightness", "contrast")
    )
    views.mul_(brightness).clamp_(max=1)
    mean = views.mean(dim=(1, 2, 3), keepdim=True)
    views.mul_(contrast).add_(mean * (1 - contrast)).clamp_(0, 1)


def _chosen(views: Tensor, wanted: NDArray[np.bool_]) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows that are wanted and their views; nothing where none is."""
    rows = np.flatnonzero(wanted)
    if len(rows):
        places = torch.from_numpy(rows).to(views.device)
        yield places, views[places]
