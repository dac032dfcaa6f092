"""Analytic shapes and smooth random fields, the building blocks of every phantom.

Shapes are signed distances in mm (negative inside) on a grid of points, so that one anatomy can be
sampled at any voxel size with anti-aliased borders. Organs are painted on a canvas, one after the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Rng = np.random.Generator
Vector = Sequence[float] | Field
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
#: An intensity of each contrast, or one of all.
Values = float | Field | tuple[float | Field, ...]


class Tube(NamedTuple):
    """A tube along a path: ``distance`` to its surface, ``along`` the path length, both in mm."""

    distance: Field
    along: Field


class Branch(NamedTuple):
    """One straight piece of a vessel tree: end points and radii in mm."""

    start: Field
    end: Field
    radii: tuple[float, float]


def case_rng(seed: int, name: str, *numbers: int) -> Rng:
    """Random generator of one case: the same whatever else is generated."""
    return np.random.default_rng([seed, crc32(name.encode()), *numbers])


def grid_points(shape: Shape, spacing: Spacing, centre: Vector = (0, 0, 0)) -> Field:
    """Positions (3, X, Y, Z) in mm of the voxel centres of a grid around ``centre``."""
    axes = [
        (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(s) + np.float32(c)
        for n, s, c in zip(shape, spacing, centre, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def spacing_of(shape: Shape, extent: tuple[float, float, float]) -> Spacing:
    """Voxel size in mm, rounded as files state it."""
    x, y, z = (round(e / n, 3) for e, n in zip(extent, shape, strict=True))
    return x, y, z


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
    x, y, z = values.shape
    spectrum = np.fft.rfftn(values) * _gaussian_response((x, y, z), widths)
    return np.fft.irfftn(spectrum, s=values.shape, axes=(0, 1, 2)).astype(np.float32)


def noise(rng: Rng, shape: Shape, scale: float | Spacing = 0.0) -> Field:
    """Gaussian random field (X, Y, Z) of mean 0 and standard deviation 1, smooth over ``scale``
    voxels."""
    white = rng.standard_normal(shape, dtype=np.float32)
    if scale == 0.0:
        return white
    smooth = blur(white, scale)
    smooth -= smooth.mean()
    return np.asarray(smooth / np.maximum(smooth.std(), np.float32(1e-6)), dtype=np.float32)


def rician(rng: Rng, signal: Field, level: float, grain: float = 0.0) -> Field:
    """Magnitude of a signal (X, Y, Z) with noise in both channels of the scanner's coil.

    ``level`` is the noise's standard deviation, ``grain`` the smoothness of the first channel.
    """
    x, y, z = signal.shape
    real = signal + level * noise(rng, (x, y, z), grain)
    magnitude: Field = np.sqrt(real**2 + (level * noise(rng, (x, y, z))) ** 2)
    return magnitude


def warp(rng: Rng, points: Field, spacing: Spacing, amplitude: float, smooth: float) -> Field:
    """Shift points by a smooth random displacement: ``amplitude`` and ``smooth`` in mm."""
    _, x, y, z = points.shape
    width = (smooth / spacing[0], smooth / spacing[1], smooth / spacing[2])
    return points + np.float32(amplitude) * np.stack(
        [noise(rng, (x, y, z), width) for _ in range(3)]
    )


class Pose(NamedTuple):
    """How far patients differ: standard deviations of how they lie and are built."""

    turn: float  #: radian about each axis
    size: float  #: logarithm of the size along each axis
    whole: float  #: logarithm of the size of all
    shift: float  #: mm
    amplitude: float  #: of the warp, mm
    smooth: float  #: of the warp, mm

    def points(self, rng: Rng, shape: Shape, spacing: Spacing, centre: Vector) -> Field:
        """Positions (3, X, Y, Z) in mm of a grid around ``centre`` in one patient's own frame."""
        matrix = rotation(rng.normal(0, self.turn, 3))
        size = np.exp(
            rng.normal(0, self.size, 3) + (rng.normal(0, self.whole) if self.whole else 0)
        )
        middle = np.asarray(centre) + rng.normal(0, self.shift, 3)
        turned = turn_points(grid_points(shape, spacing), matrix)
        posed = turned / size[:, None, None, None] + middle[:, None, None, None]
        return warp(rng, posed.astype(np.float32), spacing, self.amplitude, self.smooth)


def ellipsoid(points: Field, centre: Vector, radii: Vector, turn: Field | None = None) -> Field:
    """Signed distance (mm, first order) to an ellipsoid, optionally rotated by ``turn``."""
    offset = [axis - np.float32(c) for axis, c in zip(points, centre, strict=True)]
    if turn is not None:
        offset = list(turn_points(np.stack(offset), turn))
    widths = [np.float32(r) for r in radii]
    squares = [(axis / width) ** 2 for axis, width in zip(offset, widths, strict=True)]
    near = np.sqrt(_total(squares))
    steep = np.sqrt(_total([s / width**2 for s, width in zip(squares, widths, strict=True)]))
    inner = steep < 1e-6
    distance = near * (near - 1) / np.where(inner, np.float32(1), steep)
    return np.where(inner, -min(widths), distance).astype(np.float32)


def _total(parts: Sequence[Field]) -> Field:
    """Sum of arrays, the first two first: rounding depends on the order."""
    total = parts[0] + parts[1]
    total += parts[2]
    return total


def capsule(points: Field, start: Vector, end: Vector, radii: tuple[float, float]) -> Tube:
    """A straight tube with round ends whose radius (mm) changes linearly."""
    first = [np.float32(v) for v in start]
    step = [np.float32(e) - s for s, e in zip(first, end, strict=True)]
    squared = np.float32(max(float(sum(v * v for v in step)), 1e-6))
    offset = [axis - s for axis, s in zip(points, first, strict=True)]
    share = _total([axis * (s / squared) for axis, s in zip(offset, step, strict=True)])
    np.clip(share, 0, 1, out=share)
    distance = np.sqrt(_total([(a - share * s) ** 2 for a, s in zip(offset, step, strict=True)]))
    distance -= np.float32(radii[0]) + share * np.float32(radii[1] - radii[0])
    return Tube(distance, share * np.sqrt(squared))


def tube(points: Field, path: Sequence[Vector], radii: Sequence[float]) -> Tube:
    """A tube along the corners of ``path`` whose radius (mm) changes linearly between them."""
    if len(path) < 2:
        raise ValueError(f"a path needs two corners, got {len(path)}")
    distance, along = capsule(points, path[0], path[1], (radii[0], radii[1]))
    travelled = np.float32(0)
    for index in range(1, len(path) - 1):
        step = np.asarray(path[index], dtype=np.float64) - np.asarray(path[index - 1])
        travelled += np.float32(np.linalg.norm(step))
        piece = capsule(points, path[index], path[index + 1], (radii[index], radii[index + 1]))
        closer = piece.distance < distance
        distance = np.where(closer, piece.distance, distance)
        along = np.where(closer, piece.along + travelled, along)
    return Tube(distance, along)


def bend(rng: Rng, start: Vector, end: Vector, corners: int, sway: float) -> Field:
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


def tree(
    rng: Rng, start: Vector, direction: Vector, length: float, radius: float, generations: int
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
        branches += tree(rng, end, turned, length * 0.82, thinner, generations - 1)
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


@dataclass
class Canvas:
    """Values of one or more contrasts on one grid, and which structure owns each voxel."""

    rng: Rng  #: of the case; every call that draws from it moves it on
    points: Field  #: (3, X, Y, Z) positions in mm in the anatomy's own frame
    spacing: Spacing  #: mm of a voxel
    values: Field  #: (C, X, Y, Z) intensities
    owner: NDArray[np.int16]  #: (X, Y, Z) structure that was painted last; 0 is nothing
    names: dict[str, int] = field(default_factory=dict)  #: structure → its number

    @classmethod
    def blank(cls, rng: Rng, points: Field, spacing: Spacing, background: Sequence[float]) -> Self:
        """A canvas filled with one value for each contrast."""
        shape = points.shape[1:]
        values = np.stack([np.full(shape, b, dtype=np.float32) for b in background])
        return cls(rng, points, spacing, values, np.zeros(shape, dtype=np.int16))

    @property
    def shape(self) -> Shape:
        """Voxels along x, y and z."""
        x, y, z = self.owner.shape
        return x, y, z

    @property
    def width(self) -> float:
        """Width in mm over which a border is anti-aliased: about one voxel."""
        return float(np.mean(self.spacing))

    def scale(self, mm: float) -> Spacing:
        """A length in mm as voxels along each axis."""
        return mm / self.spacing[0], mm / self.spacing[1], mm / self.spacing[2]

    def noise(self, mm: float) -> Field:
        """A standardised random field (X, Y, Z), smooth over some mm."""
        return noise(self.rng, self.shape, self.scale(mm))

    def jitter(self, centre: Vector, mm: float) -> list[float]:
        """A position near another one."""
        moved = zip(centre, self.rng.normal(0, mm, 3), strict=True)
        return [float(c + s) for c, s in moved]

    def about(self, radii: Vector, share: float = 0.09) -> list[float]:
        """Radii of another patient; ``share`` is the standard deviation of their logarithm."""
        sizes = zip(radii, np.exp(self.rng.normal(0, share, 3)), strict=True)
        return [float(r * s) for r, s in sizes]

    def ellipsoid(self, centre: Vector, radii: Vector, turn: Field | None = None) -> Field:
        """Signed distance (X, Y, Z) in mm to an ellipsoid."""
        return ellipsoid(self.points, centre, radii, turn)

    def tube(self, path: Sequence[Vector], radii: Sequence[float]) -> Field:
        """Signed distance (X, Y, Z) in mm to a tube along the corners of a path."""
        return tube(self.points, path, radii).distance

    def near(self, centre: Vector, reach: float) -> bool:
        """Whether anything within ``reach`` mm of ``centre`` can lie on this canvas."""
        return all(
            axis.min() - reach <= c <= axis.max() + reach
            for axis, c in zip(self.points, centre, strict=True)
        )

    def paint(self, name: str, distance: Field, values: Values, edge: float = 1.0) -> None:
        """Paint the inside of a shape.

        Args:
            name: structure that owns the voxels from now on; empty: the owner stays.
            distance: signed distance (X, Y, Z) in mm.
            values: a number or an (X, Y, Z) array for each contrast.
            edge: width of the border in voxels.
        """
        share = coverage(distance, self.width * edge)
        if not share.any():
            return
        layers = values if isinstance(values, tuple) else (values,) * len(self.values)
        for index, layer in enumerate(layers):
            self.values[index] += share * (layer - self.values[index])
        if name:
            self.owner[distance < 0] = self.names.setdefault(name, len(self.names) + 1)

    def mask(self, *names: str) -> Mask:
        """Voxels (X, Y, Z) that belong to one of the structures."""
        numbers = [self.names[name] for name in names if name in self.names]
        return np.isin(self.owner, numbers)

    def pick(self, mask: Mask, depth: float) -> Field:
        """A random position (3,), in mm, that lies deep inside ``mask``.

        ``depth`` (mm) is the size of the neighbourhood that decides what deep means.
        """
        inside = blur(mask.astype(np.float32), self.scale(depth / 2)) * mask * self._rim(depth)
        best = float(inside.max())
        candidates = np.flatnonzero(inside.reshape(-1) >= 0.75 * best)
        chosen = int(candidates[self.rng.integers(len(candidates))])
        return self.points.reshape(3, -1)[:, chosen].copy()

    def _rim(self, depth: float) -> Field:
        """Small towards the border of the volume, 1 further inside than ``depth`` mm."""
        weights = np.ones(self.shape, dtype=np.float32)
        for axis, (n, s) in enumerate(zip(self.shape, self.spacing, strict=True)):
            index = np.arange(n)
            inward = (np.minimum(index, n - 1 - index) + 0.5) * s
            lane = np.clip(inward / depth, 0.05, 1).astype(np.float32)
            weights *= np.expand_dims(lane, [a for a in range(3) if a != axis])
        return weights
