"""The views that batches had before, made one by one with NumPy, SciPy and torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.networks.layers.convutils import gaussian_1d
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from voxseq.config.methods.mae3d import MAE3DSettings
from voxseq.pretrain.batching import Batch, Batching
from voxseq.pretrain.methods.dino import DINOBatching
from voxseq.pretrain.methods.mae3d import MAE3DBatching
from voxseq.pretrain.methods.medcoss import MedCoSSBatching
from voxseq.pretrain.methods.pcrlv2 import PCRLv2Batching
from voxseq.pretrain.parts.recipes import RecipeBatching
from voxseq.transforms.pcrlv2 import Corruption, box_near, overlapping_boxes, view_matrix
from voxseq.transforms.spatial import Array, Triple, resize
from voxseq.transforms.views import BLUR_SIGMA, JITTER, REFERENCE_SIDE, ViewRecipe

_LOG_GAMMA = 0.3


def views(
    batching: Batching, volumes: Sequence[Array], is_ct: NDArray[np.bool_], rng: np.random.Generator
) -> Batch:
    """The batch that a method's losses take; arguments as those of :meth:`Batching.views`."""
    if isinstance(batching, RecipeBatching):
        made = [_of_recipe(volumes, recipe, rng) for recipe in batching.recipes]
        if isinstance(batching, DINOBatching):
            return {"global": torch.stack(made[:2], dim=1), "local": torch.stack(made[2:], dim=1)}
        return {"first": made[0], "second": made[1]}
    if isinstance(batching, PCRLv2Batching):
        return _pcrlv2(batching, volumes, rng)
    stacked = _stack(volumes)
    if isinstance(batching, MAE3DBatching):
        return {"volume": _crops(stacked, cast(MAE3DSettings, batching.settings).crop_shape, rng)}
    if isinstance(batching, MedCoSSBatching):
        mirrored = rng.random(len(volumes)) < 0.5
        axes = rng.random((len(volumes), 3)) < 0.5
        flipped = [
            volume.flip([1 + int(axis) for axis in np.flatnonzero(flips & mirror)])
            for volume, flips, mirror in zip(stacked, axes, mirrored, strict=True)
        ]
        return {"volume": torch.stack(flipped), "ct": torch.from_numpy(is_ct)}
    return {"volume": stacked}


def _stack(volumes: Sequence[Array]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(volumes)[:, None], dtype=np.float32))


def _crops(volumes: Tensor, shape: Triple, rng: np.random.Generator) -> Tensor:
    crops = []
    a, b, c = shape
    for volume in volumes:
        room = np.subtract(volume.shape[1:], shape)
        x, y, z = (int(start) for start in rng.integers(0, room + 1))
        crops.append(volume[:, x : x + a, y : y + b, z : z + c])
    return torch.stack(crops)


def _of_recipe(volumes: Sequence[Array], recipe: ViewRecipe, rng: np.random.Generator) -> Tensor:
    made = np.stack([_view(volume, recipe, rng) for volume in volumes])
    return torch.from_numpy(made[:, None])


def _view(volume: Array, recipe: ViewRecipe, rng: np.random.Generator) -> Array:
    side = float(rng.uniform(*recipe.scale)) ** (1 / 3)
    sizes = [max(1, round(side * length)) for length in volume.shape]
    starts = [int(rng.integers(n - size + 1)) for n, size in zip(volume.shape, sizes, strict=True)]
    box = tuple(slice(s, s + n) for s, n in zip(starts, sizes, strict=True))
    view = resize(volume[box], recipe.shape)
    view = np.ascontiguousarray(_turned(view, rng))
    if rng.random() < recipe.jitter:
        view = _jitter(view, rng)
    if rng.random() < recipe.blur:
        view = _blur(view, rng)
    if rng.random() < recipe.solarise:
        view = np.where(view >= np.float32(0.5), np.float32(1) - view, view)
    clipped: Array = np.clip(view, 0, 1, dtype=np.float32)
    return clipped


def _turned(view: Array, rng: np.random.Generator) -> Array:
    axes = np.flatnonzero(rng.random(3) < 0.5)
    turned = np.flip(view, tuple(int(axis) for axis in axes))
    if rng.random() < 0.5:
        turns = int(rng.integers(1, 4)) if view.shape[0] == view.shape[1] else 2
        turned = np.rot90(turned, turns, (0, 1))
    return turned


def _jitter(view: Array, rng: np.random.Generator) -> Array:
    brightness, contrast = (np.float32(f) for f in rng.uniform(1 - JITTER, 1 + JITTER, 2))
    bright = np.minimum(view * brightness, np.float32(1))
    mean = bright.mean(dtype=np.float32)
    stretched: Array = np.clip((bright - mean) * contrast + mean, 0, 1)
    return stretched


def _blur(view: Array, rng: np.random.Generator) -> Array:
    smooth = view
    for axis, sigma in enumerate(rng.uniform(*BLUR_SIGMA, 3)):
        scaled = torch.tensor(sigma * view.shape[axis] / REFERENCE_SIDE, dtype=torch.float32)
        smooth = ndimage.correlate1d(smooth, gaussian_1d(scaled).numpy(), axis, mode="nearest")
    return smooth


def _pcrlv2(batching: PCRLv2Batching, volumes: Sequence[Array], rng: np.random.Generator) -> Batch:
    options = batching.settings
    large: list[list[Any]] = []
    small: list[Any] = []
    for _ in volumes:
        pair = overlapping_boxes(options.global_side, options.overlap, rng)
        near = [box_near(pair, options.local_side, rng) for _ in range(options.local_views)]
        large.append([view_matrix(box, rng) for box in pair])
        small.extend(view_matrix(box, rng) for box in near)
    volume = _stack(volumes)
    first, second = (
        _resample(volume, np.stack([pair[which] for pair in large]), options.global_shape)
        for which in (0, 1)
    )
    repeated = volume.repeat_interleave(options.local_views, dim=0)
    local = _resample(repeated, np.stack(small), options.local_shape)
    local = _corrupted(local, batching.corrupt_local, rng)
    return {
        "first": _corrupted(first, batching.corrupt_global, rng),
        "second": _corrupted(second, batching.corrupt_global, rng),
        "target": first,
        "local": local.reshape(len(volumes), options.local_views, *local.shape[1:]),
    }


def _resample(volumes: Tensor, matrices: NDArray[np.float64], shape: Triple) -> Tensor:
    turned = matrices[:, ::-1][:, :, [2, 1, 0, 3]].copy()
    theta = torch.from_numpy(turned).to(volumes.dtype)
    grid = F.affine_grid(theta, [len(volumes), 1, *shape], align_corners=False)
    return F.grid_sample(volumes, grid, padding_mode="border", align_corners=False)


def _corrupted(views: Tensor, corruption: Corruption, rng: np.random.Generator) -> Tensor:
    given = views[:, 0].numpy()
    each = (len(given), 1, 1, 1)
    sigmas = rng.uniform(0.0, corruption.blur, (len(given), 3)) * given.shape[1:] / corruption.side
    made = np.stack(
        [
            ndimage.gaussian_filter(view, sigma, mode="nearest", truncate=3.0)
            for view, sigma in zip(given, sigmas, strict=True)
        ]
    )
    noise = rng.standard_normal(given.shape, dtype=np.float32)
    made += rng.uniform(0.0, corruption.noise, each).astype(np.float32) * noise
    gamma = np.exp(rng.uniform(-_LOG_GAMMA, _LOG_GAMMA, each)).astype(np.float32)
    made = np.sign(made) * np.abs(made) ** gamma
    if corruption.swaps:
        made = _swapped(made, corruption.swaps, corruption.block, rng)
    made -= made.mean(axis=(1, 2, 3), keepdims=True)
    spread = made.std(axis=(1, 2, 3), keepdims=True)
    return torch.from_numpy(made / np.maximum(spread, np.float32(1e-6)))[:, None]


def _swapped(given: Array, swaps: int, block: Triple, rng: np.random.Generator) -> Array:
    swapped = given.copy()
    count, *shape = given.shape
    voxels = swapped.reshape(count, -1)
    starts = rng.integers(0, np.array(shape) - np.array(block) + 1, size=(swaps, 2, count, 3))
    apart = (np.abs(starts[:, 0] - starts[:, 1]) >= np.array(block)).any(axis=-1)
    corners = starts @ np.array([shape[1] * shape[2], shape[2], 1])
    inside = np.ravel_multi_index(tuple(np.indices(block).reshape(3, -1)), tuple(shape))
    for (one, other), used in zip(corners, apart, strict=True):
        rows = np.flatnonzero(used)[:, None]
        here, there = one[rows] + inside, other[rows] + inside
        kept = voxels[rows, here]
        voxels[rows, here] = voxels[rows, there]
        voxels[rows, there] = kept
    return swapped
