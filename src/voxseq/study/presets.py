"""Sizes of a study that fit the images and the machine.

A preset says how large the encoder is and how much a crop may hold. The rest follows from the
images: the spacing is their median (nnU-Net's rule), crops have the shape of the images, and the
weights of the classes follow from how rare they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxseq.study.look import Look, Shape, Spacing
from voxseq.study.machine import Machine

#: Spacings of which one is so many times the others are anisotropic (nnU-Net).
_ANISOTROPIC = 3.0
#: Where spacing is changed by less than this, images are not resampled along the axis.
_SAME_SPACING = 0.02
#: Patches of a sequence (paper).
LENGTH = 4
#: The rarest structure weighs at most so many times the background in the cross-entropy.
_MOST_WEIGHT = 8.0
#: Images for which the steps of a preset are meant.
_USUAL_IMAGES = 100
#: Share of an image that a crop shows for which they are meant (hippocampi), and at most so many
#: times the steps where it shows less.
_USUAL_SHARE, _MOST_STEPS = 0.5, 4.0
#: Memory of a GPU from which on a preset is chosen, and images that a large encoder needs.
_BASE_MEMORY, _LARGE_MEMORY, _LARGE_IMAGES = 7e9, 38e9, 300


@dataclass(frozen=True)
class Preset:
    """Size of a study.

    Attributes:
        width: of the encoder; depth, heads and mlp_width likewise.
        token: voxels of a token's side.
        side: of a cube with as many voxels as a crop may have.
        seen: least share of a typical image that a crop shows; else the grid is made coarser.
        decoder_features: channels of the segmentation network at full resolution.
        pretrain_steps: optimiser steps; pretrain_batch is the number of sequences of each.
        steps: of a fine-tuning; crops are cut from as many volumes, two of each.
        batch_size: images of a step of a classification or regression.
        lr: of the encoder, in pre-training and fine-tuning.
    """

    width: int
    depth: int
    heads: int
    mlp_width: int
    token: int
    side: int
    seen: float
    decoder_features: int
    pretrain_steps: int
    pretrain_batch: int
    steps: int
    volumes: int
    batch_size: int
    lr: float


#: The settings of "small" were chosen on validation scores of 40 hippocampi.
PRESETS: Mapping[str, Preset] = {
    "tiny": Preset(24, 2, 2, 48, 4, 16, 1 / 27, 4, 40, 8, 40, 2, 8, 2e-3),
    "small": Preset(96, 4, 4, 384, 4, 32, 1 / 8, 16, 300, 8, 400, 2, 16, 1e-3),
    "base": Preset(384, 8, 6, 1536, 8, 96, 1 / 16, 16, 5000, 16, 4000, 2, 32, 3e-4),
    "large": Preset(768, 12, 12, 3072, 16, 128, 1 / 16, 16, 50_000, 32, 20_000, 4, 32, 1e-4),
}


def choose(machine: Machine, images: int) -> str:
    """Name of the preset for a machine and a number of images."""
    if not machine.gpu or machine.memory < _BASE_MEMORY:
        return "small"
    if machine.memory >= _LARGE_MEMORY and images >= _LARGE_IMAGES:
        return "large"
    return "base"


@dataclass(frozen=True)
class Geometry:
    """Grids of a study.

    Attributes:
        spacing: mm of the grid of the task; None: images stay on their own.
        shape: voxels of a typical image on it.
        roi: voxels of a crop.
        token: voxels of a token's side.
        volume: voxels of a pre-training sequence; crop is what it is cut from, in the file's own
            voxels.
        crop: see there.
        stride: of the sequence's window.
        coarser: how many times the median spacing the grid's is; 1: it is the median.
    """

    spacing: Spacing | None
    shape: Shape
    roi: Shape
    token: int
    volume: Shape
    crop: Shape
    stride: int
    coarser: float = 1.0

    @property
    def share(self) -> float:
        """Part of a typical image that a crop shows."""
        shown = [min(r, n) for r, n in zip(self.roi, self.shape, strict=True)]
        return math.prod(shown) / math.prod(self.shape)


def geometry(look: Look, preset: Preset) -> Geometry:
    """The grids for some images."""
    target = median_spacing(look)
    extent = [n * s for n, s in zip(look.shape, look.spacing, strict=True)]
    budget = preset.side**3
    # An isotropic grid of the finest axis is no finer than the data; axes are coarsened together,
    # the finest first, until a crop shows enough of an image.
    most = budget / preset.seen
    wanted = _coarsened(target, extent, most)
    coarser = math.prod(w / t for w, t in zip(wanted, target, strict=True)) ** (1 / 3)
    shape = _three(max(round(e / w), 1) for e, w in zip(extent, wanted, strict=True))
    token = preset.token
    roi = _roi(shape, budget, token)
    is_same = np.allclose(look.spacings, wanted, rtol=_SAME_SPACING)
    side = _sequence_side(preset, shape)
    crop = _three(max(round(side * w / s), 1) for w, s in zip(wanted, look.spacing, strict=True))
    return Geometry(
        None if is_same else wanted,
        shape,
        roi,
        token,
        (side, side, side),
        _three(min(c, max(n, 1)) for c, n in zip(crop, look.shape, strict=True)),
        max(side // LENGTH // 4, 1),
        coarser,
    )


def median_spacing(look: Look) -> Spacing:
    """The median spacing; of an axis much coarser than the others the tenth percentile."""
    median = np.array(look.spacing)
    worst = int(median.argmax())
    others = np.delete(median, worst)
    if median[worst] > _ANISOTROPIC * others.max():
        fine = float(np.quantile(look.spacings[:, worst], 0.1))
        median[worst] = max(fine, float(others.max()))
    return _spacing(median)


def class_weights(counts: Sequence[int]) -> list[float]:
    """Weights of the cross-entropy: 1 for the background, 2 for the largest structure.

    A structure that is n times as rare weighs the square root of n more, up to 8. Without weights
    UNETR may miss a small structure entirely.

    Args:
        counts: voxels of each structure, in the order of the classes.
    """
    least = [max(count, 1) for count in counts]
    rare = (min(2.0 * math.sqrt(max(least) / count), _MOST_WEIGHT) for count in least)
    return [1.0, *(round(weight, 1) for weight in rare)]


def window(look: Look) -> tuple[float, float]:
    """Window of CT: 99 % of the structures' voxels (nnU-Net) and a margin, else air to bone."""
    inside = [facts.inside for facts in look.opened if facts.inside]
    if not inside:
        return (-1000.0, 1000.0)
    low = float(np.median([one[0] for one in inside]))
    high = float(np.median([one[-1] for one in inside]))
    # What surrounds a structure has to be seen, too.
    margin = max(0.25 * (high - low), 50.0)
    return (_tens(low - margin), _tens(high + margin))


def _coarsened(spacing: Spacing, extent: list[float], most: float) -> Spacing:
    """A spacing with which an image of an extent in mm has at most so many voxels."""
    wanted = np.array(spacing)
    while math.prod(e / w for e, w in zip(extent, wanted, strict=True)) > most * 1.001:
        finest = wanted <= wanted.min() * 1.001
        coarser = [w for w in wanted if w > wanted.min() * 1.001]
        voxels = math.prod(e / w for e, w in zip(extent, wanted, strict=True))
        factor = (voxels / most) ** (1 / int(finest.sum()))
        if coarser:
            factor = min(factor, min(coarser) / float(wanted.min()))
        wanted[finest] *= factor
    return _spacing(wanted)


def _roi(shape: Shape, budget: int, token: int) -> Shape:
    """The box of whole tokens with the shape of an image and at most so many voxels.

    Its first two axes are equal: augmentation turns crops about the third.
    """
    xy, z = min(shape[0], shape[1]), shape[2]
    # Whole tokens that the image has; at least one.
    most_xy, most_z = (max(n // token, 1) * token for n in (xy, z))
    best = (token, token, token)
    for side in range(token, most_xy + 1, token):
        depth = min(int(budget / side**2) // token * token, most_z)
        if depth < token:
            break
        # As much of the image as possible, and closest to its own proportions.
        here, there = side**2 * depth, math.prod(best)
        if here > there or (here == there and _odd(side, depth, xy, z) < _odd(*best[1:], xy, z)):
            best = (side, side, depth)
    return best


def _odd(side: int, depth: int, xy: int, z: int) -> float:
    """How far a box's proportions are from those of an image."""
    return abs(math.log((side / depth) / (xy / z)))


def _sequence_side(preset: Preset, shape: Shape) -> int:
    """Side of a sequence's volume: each of its patches is a token thick, or several.

    It is about that of the images, which would be enlarged otherwise.
    """
    step = LENGTH * preset.token
    most = min(preset.side, math.prod(shape) ** (1 / 3))
    return max(int(most) // step, 1) * step


def pretraining_steps(preset: Preset, images: int) -> int:
    """Optimiser steps of a pre-training: more for more images, up to five times as many."""
    return round(preset.pretrain_steps * min(max(images / _USUAL_IMAGES, 1.0), 5.0))


def segmentation_steps(preset: Preset, grids: Geometry) -> int:
    """Optimiser steps of a segmentation: more where a crop shows less of an image.

    A training sees each part of an image as often, up to four times the steps of the preset; two
    digits are enough.
    """
    factor = min(max(_USUAL_SHARE / grids.share, 1.0), _MOST_STEPS)
    return int(float(f"{preset.steps * factor:.2g}"))


def _spacing(values: NDArray[np.float64]) -> Spacing:
    x, y, z = (float(f"{value:.4g}") for value in values)
    return (x, y, z)


def _three(values: Iterable[int]) -> Shape:
    x, y, z = values
    return (x, y, z)


def _tens(value: float) -> float:
    return float(round(value / 10) * 10)
