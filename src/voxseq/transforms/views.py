"""Random views of volumes, shared by the methods that compare views.

The two-dimensional recipes of Chen et al. 2020 (SimCLR), Chen et al. 2021 (MoCo v3) and Caron et
al. 2021 (DINO), without colour: shares of an image's area are read as shares of a volume's voxels.

What is random about a view is drawn first, as some numbers on the CPU; the voxels of all views of a
batch are then made on their device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
#: Voxels that are made at a time on a CPU.
_CACHED = 2**20
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
        # All numbers at once: a call of the generator takes longer than its numbers.
        share, *uniform = rng.random(17).tolist()
        low, high = self.scale
        side = (low + (high - low) * share) ** (1 / 3)
        size = [max(1, round(side * length)) for length in volume]
        start = [
            int(where * (length - own + 1))
            for where, length, own in zip(uniform[:3], volume, size, strict=True)
        ]
        flips = [chance < 0.5 for chance in uniform[3:6]]
        is_turned, quarters, is_jittered, *factors = uniform[6:11]
        turns = (1 + int(3 * quarters) if self.shape[0] == self.shape[1] else 2) * (is_turned < 0.5)
        brightness, contrast = (
            1 + JITTER * (2 * factor - 1) if is_jittered < self.jitter else 1.0
            for factor in factors
        )
        is_blurred, *widths, is_solarised = uniform[11:]
        least, most = BLUR_SIGMA
        sigma = [
            (least + (most - least) * width) * length / REFERENCE_SIDE * (is_blurred < self.blur)
            for width, length in zip(widths, self.shape, strict=True)
        ]
        solarised = is_solarised < self.solarise
        values = (start, size, flips, turns, brightness, contrast, sigma, solarised)
        return np.array(values, DRAWN)

    def make(self, volumes: Tensor, drawn: NDArray[Any]) -> Tensor:
        """Make one view of each volume, or some.

        Args:
            volumes: (B, 1, X, Y, Z) float32 in 0..1.
            drawn: (B,) or (B, views) records of :meth:`draw`, be it of other recipes for the same
                shape.

        Returns:
            (B, 1, *shape) or (B, views, 1, *shape) float32 in 0..1 on the volumes' device.
        """
        made = volumes.new_empty(*drawn.shape, 1, *self.shape)
        views, records = made.view(-1, *self.shape), drawn.reshape(-1)
        each = len(views) // len(volumes)
        sources = [volume for volume in volumes[:, 0] for _ in range(each)]
        for rows in pieces(len(views), self.shape, views.device):
            self._make(sources[rows], records[rows], views[rows])
        return made

    def _make(self, sources: Sequence[Tensor], drawn: NDArray[Any], views: Tensor) -> None:
        """Write a view of each source (X, Y, Z) to ``views`` (N, *shape)."""
        for view, source, each in zip(views, sources, drawn, strict=True):
            view.copy_(turned(_cropped(source, self.shape, each), each))
        jitter(views, drawn)
        widths: NDArray[np.float64] = drawn["sigma"]
        for rows in _rows(np.asarray((widths > 0).any(axis=1))):
            # The kernels' sums are 1 only up to rounding.
            smooth = blurred(views[rows], widths[rows], integrated, self._widest)
            views[rows] = smooth.clamp_(0, 1)
        for rows in _rows(drawn["solarised"] > 0):
            chosen = views[rows]
            views[rows] = torch.where(chosen >= 0.5, 1 - chosen, chosen)


def pieces(
    count: int, shape: Triple, device: torch.device, most: int | None = None
) -> Iterator[slice]:
    """Rows that are made at a time.

    Some passes over the voxels of a piece follow each other. A processor's caches hold a few large
    views; a GPU takes all at once, for each call has its price there.

    Args:
        count: of all rows.
        shape: voxels of each.
        device: on which they are made.
        most: rows at a time on any device.
    """
    size = max(_CACHED // math.prod(shape), 1) if device.type == "cpu" else count
    size = min(size, most or count)
    for first in range(0, count, size):
        yield slice(first, first + size)


def _cropped(volume: Tensor, shape: Triple, drawn: Any) -> Tensor:
    """The box of a view, resized trilinearly."""
    x, y, z = (int(first) for first in drawn["start"])
    a, b, c = (int(length) for length in drawn["size"])
    found = volume[x : x + a, y : y + b, z : z + c]
    if found.shape == shape:
        return found
    return F.interpolate(found[None, None], shape, mode="trilinear", align_corners=False)[0, 0]


def turned(view: Tensor, drawn: Any) -> Tensor:
    """Flip a view (X, Y, Z) and turn it by quarters from the first axis to the second."""
    first, second, third = drawn["flips"] > 0
    turns = int(drawn["turns"])
    # A quarter exchanges two axes and flips one of them; all flips are one copy of the voxels.
    flips = (first ^ (turns in (2, 3)), second ^ (turns in (1, 2)), third)
    axes = [axis for axis, is_flipped in enumerate(flips) if is_flipped]
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


def _rows(wanted: NDArray[np.bool_]) -> Iterator[NDArray[np.int64] | slice]:
    """The rows that are wanted; nothing where none is."""
    if wanted.all():
        yield slice(None)
    elif wanted.any():
        yield np.flatnonzero(wanted)
