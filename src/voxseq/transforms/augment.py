"""Augmentation of crops: the published chains, each transform without bookkeeping.

The transforms of intensities are those of MONAI in a few lines each: importing it takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from voxseq.base.errors import ConfigError
from voxseq.config.base import Shape3
from voxseq.transforms.warp import WarpParameters, random_warp

Array = NDArray[Any]
Range = tuple[float, float]


#: (C, X, Y, Z), the crop's random state and how many of C are the image's → the same transformed.
Move = Callable[[Tensor, RandomState, int], Tensor]
#: One channel (1, X, Y, Z) and the crop's random state → the same transformed.
Change = Callable[[Tensor, RandomState], Tensor]


@dataclass(frozen=True)
class Step:
    """One transform of a chain.

    Attributes:
        probability: with which it is applied to a crop, or to each channel of it.
        move: moves voxels of all channels, which the label has to follow.
        change: changes the intensities of one channel, each of which is drawn for by itself.
            Of the two there is one. Both are random in nothing but the state they are given.
    """

    probability: float
    move: Move | None = None
    change: Change | None = None

    def __call__(self, data: Tensor, state: RandomState, channels: int) -> Tensor:
        """Apply it, by chance, to (C, X, Y, Z) whose first ``channels`` are an image's."""
        if self.move is not None:
            if state.uniform() < self.probability:
                return self.move(data, state, channels)
            return data
        assert self.change is not None
        for number in range(channels):
            if state.uniform() < self.probability:
                one = slice(number, number + 1)
                data[one] = self.change(data[one], state)
        return data


class Augmentation:
    """A chain of random transforms that draws from nothing but the generator it is given."""

    def __init__(
        self, steps: Sequence[Step] = (), recipe: tuple[str, Shape3] | None = None
    ) -> None:
        self.steps = tuple(steps)
        self._recipe = recipe

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what :func:`build_augmentation` was given: many transforms have no name."""
        return (build_augmentation, self._recipe) if self._recipe else (Augmentation, (self.steps,))

    def __call__(self, image: Array, label: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Augment a crop and its label.

        Args:
            image: (C, X, Y, Z) float32.
            label: (X, Y, Z) integer labels, which follow every movement of the voxels by
                nearest-neighbour interpolation.
            rng: the crop's own stream.

        Returns:
            New image (float32) and label (its own type) of the same shape.
        """
        if not self.steps:
            return image, label
        together = np.empty((len(image) + 1, *label.shape), np.float32)
        together[:-1], together[-1] = image, label
        moved = self._run(together, len(image), rng)
        return moved[:-1], moved[-1].astype(label.dtype)

    def image(self, image: Array, rng: np.random.Generator) -> Array:
        """Augment an image (C, X, Y, Z) float32 that has no label."""
        return self._run(np.array(image), len(image), rng) if self.steps else image

    def _run(self, together: Array, channels: int, rng: np.random.Generator) -> Array:
        """Chain over (C, X, Y, Z) float32, first the image's channels; it is written to."""
        data = torch.from_numpy(together)
        # One state for the whole chain: seeding it costs as much as a transform.
        state = RandomState(rng.integers(2**32, dtype=np.uint32))
        for step in self.steps:
            data = step(data, state, channels)
        return np.ascontiguousarray(data.numpy())


def _flips(probability: float) -> list[Step]:
    def flip(axis: int) -> Move:
        return lambda data, _, __: data.flip(axis)

    return [Step(probability, move=flip(axis)) for axis in (1, 2, 3)]


def _quarter_turns(data: Tensor, state: RandomState, _: int) -> Tensor:
    """Turn about z by 1, 2 or 3 quarters."""
    return torch.rot90(data, int(state.randint(1, 4)), (1, 2))


def _scale(most: float) -> Change:
    return lambda data, state: data * (1.0 + state.uniform(-most, most))


def _shift(most: float) -> Change:
    return lambda data, state: data + state.uniform(-most, most)


def _offset(sd: float) -> Change:
    return lambda data, state: data + state.normal(0.0, sd)


def _blur(sigma: Range) -> Change:
    """Gaussian blur of one width for all axes; scipy's is faster than a convolution here."""
    from scipy.ndimage import gaussian_filter

    def apply(data: Tensor, state: RandomState) -> Tensor:
        blurred = gaussian_filter(data[0].numpy(), state.uniform(*sigma))
        return torch.from_numpy(np.ascontiguousarray(blurred))[None]

    return apply


def _noise(most: float) -> Change:
    """Gaussian noise with a standard deviation between 0 and ``most``."""

    def apply(data: Tensor, state: RandomState) -> Tensor:
        noise = state.normal(0.0, state.uniform(0.0, most), data.shape)
        return data + torch.from_numpy(noise.astype(np.float32))

    return apply


def _contrast(most: float) -> Change:
    """Scale about the mean, within the range that the intensities have."""

    def apply(data: Tensor, state: RandomState) -> Tensor:
        mean = data.mean()
        scaled = (data - mean) * (1.0 + state.uniform(-most, most)) + mean
        return scaled.clamp(data.min(), data.max())

    return apply


def _low_resolution(zoom: Range) -> Change:
    """Read voxels on a coarser grid and interpolate between them.

    "nearest-exact": "nearest" reads the first voxel of each cell, which shifts the image by half a
    cell.
    """

    def apply(data: Tensor, state: RandomState) -> Tensor:
        factor, shape = state.uniform(*zoom), data.shape[1:]
        coarse = [max(1, round(size * factor)) for size in shape]
        few = functional.interpolate(data[None], coarse, mode="nearest-exact")
        return functional.interpolate(few, shape, mode="trilinear")[0]

    return apply


def _gamma(limits: Range) -> Change:
    """Power of the intensities between their extremes; mean and standard deviation are kept.

    Exponents below and above 1 have the same chances (published code).
    """
    low, high = limits

    def apply(data: Tensor, state: RandomState) -> Tensor:
        is_below = low < 1.0 and state.uniform() < 0.5
        exponent = state.uniform(low, 1.0) if is_below else state.uniform(max(low, 1.0), high)
        least, extent = data.min(), data.max() - data.min()
        # A constant channel has neither extent nor deviation.
        changed = ((data - least) / (extent + 1e-7)) ** exponent * extent
        centred = changed - changed.mean()
        return centred / (centred.std() + 1e-8) * data.std() + data.mean()

    return apply


def msd_steps() -> list[Step]:
    """Chain of the Medical Segmentation Decathlon tasks (published code)."""
    return [
        *_flips(0.2),
        Step(0.2, move=_quarter_turns),
        Step(0.1, change=_scale(0.1)),
        Step(0.1, change=_shift(0.1)),
    ]


def la_steps() -> list[Step]:
    """Chain of left atrium and RICORD, in the published order."""
    return [*unflipped_steps(), *_flips(0.5)]


def unflipped_steps() -> list[Step]:
    """The chain of :func:`la_steps` up to its flips, which come last: left stays left.

    Probabilities are those of the published chain for one channel; where it has one probability
    for the transform and one per channel, their product, drawn for each channel. The published
    noise "variance" is the standard deviation that its library passes on.
    """
    return [
        Step(1.0, move=partial(random_warp, parameters=WarpParameters())),
        Step(0.1, change=_noise(0.1)),
        Step(0.1, change=_blur((0.5, 1.0))),
        Step(0.15, change=_scale(0.25)),
        Step(0.075, change=_offset(0.1)),
        Step(0.15, change=_contrast(0.25)),
        Step(0.125, change=_low_resolution((0.5, 1.0))),
        Step(0.15, change=_gamma((0.7, 1.5))),
    ]


def build_augmentation(name: str, shape: Shape3) -> Augmentation:
    """The chain of a task.

    Args:
        name: "msd", "la", "unflipped", "nodule" or "none".
        shape: of the crops.

    Raises:
        ConfigError: an unknown name, or "msd" for crops that a quarter turn about z would reshape.
    """
    if name == "none":
        return Augmentation()
    recipe = (name, shape)
    if name == "msd":
        if shape[0] != shape[1]:
            raise ConfigError(
                f"augmentation msd turns crops about z, which needs equal first axes, not {shape}",
                "change roi, or use another augmentation",
            )
        return Augmentation(msd_steps(), recipe)
    if name == "la":
        return Augmentation(la_steps(), recipe)
    if name == "unflipped":
        return Augmentation(unflipped_steps(), recipe)
    if name == "nodule":
        return Augmentation(_flips(0.5), recipe)
    raise ConfigError(
        f"unknown augmentation {name!r}", "expected msd, la, unflipped, nodule or none"
    )
