"""A volume that organs are painted on, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from voxseq.phantoms.shapes import Field, Mask, Shape, Spacing, blur, coverage

Values = float | Field | tuple[float | Field, ...]


@dataclass
class Canvas:
    """Values of one or more contrasts on one grid, and which structure owns each voxel.

    Attributes:
        points: (3, X, Y, Z) positions in mm in the anatomy's own frame.
        spacing: mm of a voxel.
        values: (C, X, Y, Z) intensities.
        owner: (X, Y, Z) number of the structure that was painted last; 0 is nothing.
        names: structure → its number.
    """

    points: Field
    spacing: Spacing
    values: Field
    owner: NDArray[np.int16]
    names: dict[str, int] = field(default_factory=dict)

    @classmethod
    def blank(cls, points: Field, spacing: Spacing, background: tuple[float, ...]) -> Canvas:
        """A canvas filled with one value for each contrast."""
        shape = points.shape[1:]
        values = np.stack([np.full(shape, b, dtype=np.float32) for b in background])
        return cls(points, spacing, values, np.zeros(shape, dtype=np.int16))

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

    def near(self, centre: tuple[float, float, float], reach: float) -> bool:
        """Whether anything within ``reach`` mm of ``centre`` can lie on this canvas."""
        for axis in range(3):
            low, high = self.points[axis].min() - reach, self.points[axis].max() + reach
            if not low <= centre[axis] <= high:
                return False
        return True

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

    def add(self, share: Field, change: Values) -> None:
        """Add ``change`` where ``share`` (0..1) says so; owners stay."""
        layers = change if isinstance(change, tuple) else (change,) * len(self.values)
        for index, layer in enumerate(layers):
            self.values[index] += share * layer

    def mask(self, *names: str) -> Mask:
        """Voxels (X, Y, Z) that belong to one of the structures."""
        numbers = [self.names[name] for name in names if name in self.names]
        return np.isin(self.owner, numbers)

    def pick(self, rng: np.random.Generator, mask: Mask, depth: float) -> Field:
        """A random position (3,), in mm, that lies deep inside ``mask``.

        ``depth`` (mm) is the size of the neighbourhood that decides what deep means.
        """
        inside = blur(mask.astype(np.float32), self.scale(depth / 2)) * mask * self._rim(depth)
        best = float(inside.max())
        candidates = np.flatnonzero(inside.reshape(-1) >= 0.75 * best)
        chosen = int(candidates[rng.integers(len(candidates))])
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
