"""Augmentation of crops: the published chains, by MONAI where it pays.

It takes two seconds to import, so only the chain that it is part of does.
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
from scipy.ndimage import gaussian_filter
from torch import Tensor

from voxseq.base.errors import ConfigError
from voxseq.config.base import Shape3
from voxseq.transforms.warp import WarpParameters, random_warp

Array = NDArray[Any]
Range = tuple[float, float]


#: (C, X, Y, Z) and the crop's random state → the same transformed.
Apply = Callable[[Tensor, RandomState], Tensor]


@dataclass(frozen=True)
class Step:
    """One transform of a chain.

    Attributes:
        probability: with which it is applied to a crop.
        apply: the transform; random in nothing but the state it is given.
        is_spatial: whether it moves voxels, so that the label has to follow.
    """

    probability: float
    apply: Apply
    is_spatial: bool = False


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
            image: (X, Y, Z) float32.
            label: (X, Y, Z) integer labels, which follow every movement of the voxels by
                nearest-neighbour interpolation.
            rng: the crop's own stream.

        Returns:
            New image (float32) and label (its own type) of the same shape.
        """
        if not self.steps:
            return image, label
        channels = np.empty((2, *image.shape), np.float32)
        channels[0], channels[1] = image, label
        moved_image, moved_label = self._run(channels, rng)
        return moved_image, moved_label.astype(label.dtype)

    def image(self, image: Array, rng: np.random.Generator) -> Array:
        """Augment an image (X, Y, Z) float32 that has no label."""
        if not self.steps:
            return image
        return np.asarray(self._run(np.array(image[None]), rng)[0])

    def _run(self, channels: Array, rng: np.random.Generator) -> Array:
        """Chain over (C, X, Y, Z) float32, channel 0 the image, the others labels; written to."""
        data = torch.from_numpy(channels)
        # One state for the whole chain: seeding it costs as much as a transform.
        state = RandomState(rng.integers(2**32, dtype=np.uint32))
        for step in self.steps:
            if state.uniform() >= step.probability:
                continue
            if step.is_spatial:
                data = step.apply(data, state)
            else:
                data[:1] = step.apply(data[:1], state)
        return np.ascontiguousarray(data.numpy())


def _monai(transform: Any) -> Apply:
    """Use a random array transform of MONAI that is always applied."""

    def apply(data: Tensor, state: RandomState) -> Tensor:
        transform.set_random_state(state=state)
        out: Tensor = transform(data).as_tensor()
        return out.to(torch.float32)

    return apply


def _flips(probability: float) -> list[Step]:
    def flip(axis: int) -> Apply:
        return lambda data, _: data.flip(axis)

    # MONAI's flip does the same at ten times the cost, most of it bookkeeping.
    return [Step(probability, flip(axis), is_spatial=True) for axis in (1, 2, 3)]


def _quarter_turns(data: Tensor, state: RandomState) -> Tensor:
    """Turn about z by 1, 2 or 3 quarters."""
    return torch.rot90(data, int(state.randint(1, 4)), (1, 2))


def _scale(most: float) -> Apply:
    return lambda data, state: data * (1.0 + state.uniform(-most, most))


def _shift(most: float) -> Apply:
    return lambda data, state: data + state.uniform(-most, most)


def _offset(sd: float) -> Apply:
    return lambda data, state: data + state.normal(0.0, sd)


def _blur(sigma: Range) -> Apply:
    """Gaussian blur of one width for all axes; scipy's is faster than a convolution here."""

    def apply(data: Tensor, state: RandomState) -> Tensor:
        blurred = gaussian_filter(data[0].numpy(), state.uniform(*sigma))
        return torch.from_numpy(np.ascontiguousarray(blurred))[None]

    return apply


def _gamma(limits: Range) -> Apply:
    """Power of the intensities between their extremes; mean and standard deviation are kept.

    Exponents below and above 1 have the same chances (published code).
    """
    from monai.transforms import AdjustContrast

    low, high = limits

    def apply(data: Tensor, state: RandomState) -> Tensor:
        is_below = low < 1.0 and state.uniform() < 0.5
        exponent = state.uniform(low, 1.0) if is_below else state.uniform(max(low, 1.0), high)
        changed: Tensor = AdjustContrast(exponent, retain_stats=True)(data).as_tensor()
        return changed.to(torch.float32)

    return apply


def msd_steps() -> list[Step]:
    """Chain of the Medical Segmentation Decathlon tasks (published code)."""
    return [
        *_flips(0.2),
        Step(0.2, _quarter_turns, is_spatial=True),
        Step(0.1, _scale(0.1)),
        Step(0.1, _shift(0.1)),
    ]


def la_steps() -> list[Step]:
    """Chain of left atrium and RICORD, in the published order.

    Probabilities are those of the published chain for one channel; where it has one probability
    for the transform and one per channel, their product. The published noise "variance" is the
    standard deviation that its library passes on.
    """
    from monai.transforms import (
        RandGaussianNoise,
        RandScaleIntensityFixedMean,
        RandSimulateLowResolution,
    )

    noise = RandGaussianNoise(1.0, std=0.1)
    contrast = RandScaleIntensityFixedMean(1.0, 0.25, preserve_range=True, fixed_mean=True)
    # MONAI's "nearest" reads the first voxel of each cell, which shifts the image by half a cell.
    low_resolution = RandSimulateLowResolution(
        1.0, downsample_mode="nearest-exact", zoom_range=(0.5, 1.0)
    )
    return [
        Step(1.0, partial(random_warp, parameters=WarpParameters()), is_spatial=True),
        Step(0.1, _monai(noise)),
        Step(0.1, _blur((0.5, 1.0))),
        Step(0.15, _scale(0.25)),
        Step(0.075, _offset(0.1)),
        Step(0.15, _monai(contrast)),
        Step(0.125, _monai(low_resolution)),
        Step(0.15, _gamma((0.7, 1.5))),
        *_flips(0.5),
    ]


def build_augmentation(name: str, shape: Shape3) -> Augmentation:
    """The chain of a task.

    Args:
        name: "msd", "la", "nodule" or "none".
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
    if name == "nodule":
        return Augmentation(_flips(0.5), recipe)
    raise ConfigError(f"unknown augmentation {name!r}", "expected msd, la, nodule or none")
