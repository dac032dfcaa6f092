"""Random rotation, zoom and elastic displacement in one interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from voxseq.config.base import Shape3

Floats = NDArray[np.float32]
#: Standard deviations of the smoothing kernel beyond which its weight is dropped.
_REACH = 3.0
#: Noise nodes per standard deviation of the kernel.
_NODES = 2.0


@dataclass(frozen=True)
class WarpParameters:
    """Spatial part of the chain of left atrium and RICORD (published code).

    Attributes:
        elastic_alpha: amplitude, in voxels, of uniform noise in ±1 before it is smoothed.
        elastic_sigma: width of the smoothing, in voxels.
        degrees: largest rotation about each axis.
        zoom: factor of the sampling grid; above 1 the content shrinks. Each side of 1 is drawn
            with the same probability.
    """

    elastic_alpha: tuple[float, float] = (0.0, 900.0)
    elastic_sigma: tuple[float, float] = (9.0, 13.0)
    elastic_probability: float = 0.2
    degrees: float = 15.0
    rotation_probability: float = 0.2
    zoom: tuple[float, float] = (0.85, 1.25)
    zoom_probability: float = 0.2


def random_warp(
    data: Tensor, state: RandomState, channels: int, parameters: WarpParameters
) -> Tensor:
    """Displace, rotate and zoom, each with its probability, image and labels together.

    Args:
        data: (C, X, Y, Z) float32, first the image's channels, which are interpolated linearly,
            then labels, which take the nearest voxel; both are 0 outside.
        state: source of all random numbers.
        channels: number of the image's channels.
        parameters: ranges and probabilities.
    """
    p, shape = parameters, (data.shape[1], data.shape[2], data.shape[3])
    chances = (p.elastic_probability, p.rotation_probability, p.zoom_probability)
    do_elastic, do_rotate, do_zoom = state.uniform(size=3) < chances
    if not (do_elastic or do_rotate or do_zoom):
        return data
    points = centred_points(shape)
    if do_elastic:
        points = points + displacement(shape, p, state)
    matrix = np.eye(3)
    if do_rotate:
        matrix = rotation(state.uniform(-p.degrees, p.degrees, size=3))
    if do_zoom:
        limit = p.zoom[0] if state.uniform() < 0.5 else p.zoom[1]
        matrix = matrix * (1.0 + (limit - 1.0) * state.uniform())
    return resample(data, points @ matrix.astype(np.float32), channels)


def displacement(shape: Shape3, parameters: WarpParameters, state: RandomState) -> Floats:
    """Elastic displacement (X, Y, Z, 3) in voxels."""
    alpha = state.uniform(*parameters.elastic_alpha)
    sigma = state.uniform(*parameters.elastic_sigma)
    return smooth_field(shape, sigma, state) * np.float32(alpha * smoothed_noise_sd(sigma))


def smoothed_noise_sd(sigma: float) -> float:
    """Standard deviation of uniform noise in ±1 after a 3D Gaussian filter of width ``sigma``.

    The variance of the noise, 1/3, times the integral of the squared kernel, (4 π σ²)^(-3/2).
    """
    return math.sqrt(1.0 / 3.0) / math.pow(4.0 * math.pi * sigma**2, 0.75)


def smooth_field(shape: Shape3, sigma: float, state: RandomState) -> Floats:
    """Three smooth random fields of unit variance: (X, Y, Z, 3).

    White noise on a coarse grid is spread by Gaussian kernels of width ``sigma`` (voxels) centred
    on its nodes, one axis after the other. This has the distribution of noise that is drawn and
    filtered voxel by voxel, at a small part of the cost.
    """
    x, y, z = (_kernel(size, sigma) for size in shape)
    noise = state.standard_normal((3, x.shape[1], y.shape[1], z.shape[1])).astype(np.float32)
    along_z = noise @ z.T
    along_y = y @ along_z
    field = np.tensordot(x, along_y, axes=(1, 1))
    return np.ascontiguousarray(field.transpose(0, 2, 3, 1))


def _kernel(size: int, sigma: float) -> Floats:
    """Weights (voxels, nodes) of unit norm per voxel."""
    spacing, reach = sigma / _NODES, _REACH * sigma
    nodes = np.arange(-reach, size - 1 + reach + spacing, spacing)
    distance = (np.arange(size)[:, None] - nodes[None]) / sigma
    weights = np.exp(-0.5 * distance**2)
    normed: Floats = (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
    return normed


@lru_cache(maxsize=8)
def centred_points(shape: Shape3) -> Floats:
    """Voxel coordinates (X, Y, Z, 3) with the centre of the volume as the origin."""
    axes = [np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2) for n in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    points.setflags(write=False)
    return points


def rotation(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        i, j = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return matrix


def resample(data: Tensor, points: Floats, channels: int) -> Tensor:
    """Read (C, X, Y, Z) at centred voxel coordinates (X, Y, Z, 3); 0 outside.

    The first ``channels`` are interpolated linearly, the others take the nearest voxel.
    """
    sizes = np.array(data.shape[1:], dtype=np.float32)
    # grid_sample wants coordinates in -1..1 and the last axis first.
    normalised = points * (2.0 / np.maximum(sizes - 1.0, 1.0)).astype(np.float32)
    grid = torch.from_numpy(np.ascontiguousarray(normalised[..., ::-1]))[None]
    out = [_sample(data[:channels], grid, "bilinear")]
    if len(data) > channels:
        out.append(_sample(data[channels:], grid, "nearest"))
    return torch.cat(out)


def _sample(data: Tensor, grid: Tensor, mode: str) -> Tensor:
    return functional.grid_sample(
        data[None], grid, mode=mode, padding_mode="zeros", align_corners=True
    )[0]
