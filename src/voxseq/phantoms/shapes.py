"""Analytic shapes and smooth random fields, the building blocks of every phantom.

Shapes are signed distances in mm (negative inside) on a grid of points, so that one anatomy can be
sampled at any voxel size with anti-aliased borders.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Vector = Sequence[float] | Field
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


class Tube(NamedTuple):
    """A tube along a path: ``distance`` to its surface, ``along`` the path length, both in mm."""

    distance: Field
    along: Field


def case_rng(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """Random generator of one case: the same whatever else is generated."""
    return np.random.default_rng([seed, crc32(name.encode()), *numbers])


def grid_points(shape: Shape, spacing: Spacing, centre: Vector) -> Field:
    """Positions (3, X, Y, Z) in mm of the voxel centres of a grid around ``centre``."""
    axes = [
        (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(s) + np.float32(c)
        for n, s, c in zip(shape, spacing, centre, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def rotation(angles: Vector) -> Field:
    """Rotation matrix (3, 3) of three angles in radian about x, y and z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix.astype(np.float32)


def turn_points(points: Field, matrix: Field) -> Field:
    """Apply a (3, 3) matrix to points (3, X, Y, Z)."""
    x, y, z = points
    return np.stack([m[0] * x + m[1] * y + m[2] * z for m in matrix])


@lru_cache(maxsize=64)
def _gaussian_response(shape: Shape, scale: Spacing) -> Field:
    squares = []
    for axis, (n, s) in enumerate(zip(shape, scale, strict=True)):
        frequency = np.fft.rfftfreq(n) if axis == 2 else np.fft.fftfreq(n)
        squares.append((2 * np.pi * s * frequency) ** 2)
    total = squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]
    return np.asarray(np.exp(-total / 2), dtype=np.float32)


def blur(values: Field, scale: float | Spacing) -> Field:
    """Gaussian blur of an (X, Y, Z) array, periodic at its borders; ``scale`` in voxels."""
    widths = (scale, scale, scale) if isinstance(scale, int | float) else scale
    response = _gaussian_response(_shape(values), (widths[0], widths[1], widths[2]))
    spectrum = np.fft.rfftn(values) * response
    return np.fft.irfftn(spectrum, s=values.shape, axes=(0, 1, 2)).astype(np.float32)


def noise(rng: np.random.Generator, shape: Shape, scale: float | Spacing = 0.0) -> Field:
    """Gaussian random field (X, Y, Z) of mean 0 and standard deviation 1, smooth over ``scale``
    voxels."""
    white = rng.standard_normal(shape, dtype=np.float32)
    if scale == 0.0:
        return white
    smooth = blur(white, scale)
    smooth -= smooth.mean()
    return np.asarray(smooth / np.maximum(smooth.std(), np.float32(1e-6)), dtype=np.float32)


def _shape(values: Field) -> Shape:
    x, y, z = values.shape
    return x, y, z


def ellipsoid(points: Field, centre: Vector, radii: Vector, turn: Field | None = None) -> Field:
    """Signed distance (mm, first order) to an ellipsoid, optionally rotated by ``turn``."""
    offset = [axis - np.float32(c) for axis, c in zip(points, centre, strict=True)]
    if turn is not None:
        offset = list(turn_points(np.stack(offset), turn))
    widths = [np.float32(r) for r in radii]
    near = np.zeros_like(offset[0])
    steep = np.zeros_like(near)
    for axis, width in zip(offset, widths, strict=True):
        squared = (axis / width) ** 2
        near += squared
        steep += squared / width**2
    near, steep = np.sqrt(near), np.sqrt(steep)
    inner = steep < 1e-6
    distance = near * (near - 1) / np.where(inner, np.float32(1), steep)
    return np.where(inner, -min(widths), distance).astype(np.float32)


def capsule(points: Field, start: Vector, end: Vector, radii: tuple[float, float]) -> Tube:
    """A straight tube with round ends whose radius (mm) changes linearly."""
    first = [np.float32(v) for v in start]
    step = [np.float32(e) - s for s, e in zip(first, end, strict=True)]
    squared = np.float32(max(float(sum(v * v for v in step)), 1e-6))
    offset = [axis - s for axis, s in zip(points, first, strict=True)]
    share = offset[0] * (step[0] / squared)
    share += offset[1] * (step[1] / squared)
    share += offset[2] * (step[2] / squared)
    np.clip(share, 0, 1, out=share)
    total = np.zeros_like(share)
    for axis, s in zip(offset, step, strict=True):
        across = axis - share * s
        across *= across
        total += across
    distance = np.sqrt(total, out=total)
    distance -= np.float32(radii[0]) + share * np.float32(radii[1] - radii[0])
    return Tube(distance, share * np.sqrt(squared))


def tube(points: Field, path: Sequence[Vector], radii: Sequence[float]) -> Tube:
    """A tube along the corners of ``path`` whose radius (mm) changes linearly between them."""
    best: Tube | None = None
    travelled = np.float32(0)
    for index in range(len(path) - 1):
        piece = capsule(points, path[index], path[index + 1], (radii[index], radii[index + 1]))
        along = piece.along + travelled
        if best is None:
            best = Tube(piece.distance, along)
        else:
            closer = piece.distance < best.distance
            best = Tube(
                np.where(closer, piece.distance, best.distance), np.where(closer, along, best.along)
            )
        step = np.asarray(path[index + 1], dtype=np.float64) - np.asarray(path[index])
        travelled += np.float32(np.linalg.norm(step))
    if best is None:
        raise ValueError(f"a path needs two corners, got {len(path)}")
    return best


def bend(rng: np.random.Generator, start: Vector, end: Vector, corners: int, sway: float) -> Field:
    """A path (corners, 3) from ``start`` to ``end`` that sways by about ``sway`` mm."""
    share = np.linspace(0, 1, corners)[:, None]
    line = np.asarray(start) * (1 - share) + np.asarray(end) * share
    wave = rng.normal(0, sway, (corners, 3)) * np.sin(np.pi * share)
    return (line + wave).astype(np.float32)


def union(*distances: Field, blend: float = 0.0) -> Field:
    """Union of shapes; ``blend`` (mm) rounds the crease between them."""
    result = distances[0]
    for other in distances[1:]:
        if blend > 0:
            share = np.clip(0.5 + 0.5 * (other - result) / blend, 0, 1)
            result = other + (result - other) * share - blend * share * (1 - share)
        else:
            result = np.minimum(result, other)
    return result.astype(np.float32)


def coverage(distance: Field, width: float) -> Field:
    """Share of each voxel (0..1) that lies inside a shape; ``width`` is the border in mm."""
    return np.asarray(np.clip(0.5 - distance / np.float32(width), 0, 1), dtype=np.float32)


def warp(
    rng: np.random.Generator, points: Field, spacing: Spacing, amplitude: float, scale: float
) -> Field:
    """Shift points by a smooth random displacement: ``amplitude`` and ``scale`` in mm."""
    shape = _shape(points[0])
    width = (scale / spacing[0], scale / spacing[1], scale / spacing[2])
    return points + np.float32(amplitude) * np.stack([noise(rng, shape, width) for _ in range(3)])


class Branch(NamedTuple):
    """One straight piece of a vessel tree: end points and radii in mm."""

    start: Field
    end: Field
    radii: tuple[float, float]


def tree(
    rng: np.random.Generator,
    start: Vector,
    direction: Vector,
    *,
    length: float,
    radius: float,
    generations: int,
) -> list[Branch]:
    """A branching vessel tree: each branch splits in two thinner, shorter ones."""
    heading = np.asarray(direction, dtype=np.float64)
    heading = heading / np.linalg.norm(heading)
    begin = np.asarray(start, dtype=np.float64)
    end = begin + heading * length * rng.uniform(0.85, 1.15)
    thinner = radius * 0.82
    branches = [Branch(begin.astype(np.float32), end.astype(np.float32), (radius, thinner))]
    if generations <= 1:
        return branches
    (a, b, c), (d, e, f) = heading, rng.normal(size=3)
    across = np.asarray((b * f - c * e, c * d - a * f, a * e - b * d))
    across /= np.linalg.norm(across)
    for side in (-1.0, 1.0):
        angle = rng.uniform(0.45, 0.85)
        turned = heading * np.cos(angle) + side * across * np.sin(angle)
        branches += tree(
            rng, end, turned, length=length * 0.82, radius=thinner, generations=generations - 1
        )
    return branches


def tree_distance(points: Field, branches: Sequence[Branch], where: Mask | None = None) -> Field:
    """Signed distance (mm) to a vessel tree; 1000 outside ``where``, where it is not needed."""
    shape = points.shape[1:]
    wanted = np.ones(shape, dtype=np.bool_) if where is None else where
    distance = np.full(shape, 1000, dtype=np.float32)
    if wanted.any():
        inside = points[:, wanted]
        near = np.full(inside.shape[1], 1000, dtype=np.float32)
        for branch in branches:
            np.minimum(near, capsule(inside, *branch).distance, out=near)
        distance[wanted] = near
    return distance
