"""Scores of a structure's surface in millimetres: normalised surface Dice and Hausdorff distance.

The surface consists of a mask's outermost voxels, and distances are between their centres, as MONAI
takes them: ``compute_surface_dice`` and ``compute_hausdorff_distance(percentile=95)``. Both come
from the same distances here, which are computed once, around the structure alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

Array = NDArray[Any]
_PERCENTILE = 0.95


@dataclass(frozen=True)
class SurfaceScore:
    """Scores of one structure.

    Attributes:
        surface_dice: share (0..1) of both surfaces within the tolerance of the other one; 0 where
            only the truth has the structure, NaN where the truth lacks it.
        hd95: the larger one of both directions' 95th percentile of distances, in mm; NaN where
            either mask is empty.
    """

    surface_dice: float
    hd95: float


def surface_scores(
    prediction: Array, truth: Array, spacing: Sequence[float], tolerance: float
) -> SurfaceScore:
    """Compare the surfaces of two masks on one grid.

    Args:
        prediction: (X, Y, Z) bool.
        truth: (X, Y, Z) bool.
        spacing: mm between voxels along the axes.
        tolerance: mm within which a place of a surface counts as met.

    Raises:
        ValueError: shapes that differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    if not truth.any():
        return SurfaceScore(np.nan, np.nan)
    if not prediction.any():
        return SurfaceScore(0.0, np.nan)
    box = _box(prediction | truth)
    surfaces = [_surface(mask[box]) for mask in (prediction, truth)]
    distances = [
        distance_transform_edt(~other, sampling=spacing)[own]
        for own, other in (surfaces, surfaces[::-1])
    ]
    met = sum(int((far <= tolerance).sum()) for far in distances)
    farthest = max(float(np.quantile(far, _PERCENTILE)) for far in distances)
    return SurfaceScore(met / sum(map(len, distances)), farthest)


def _surface(mask: Array) -> Array:
    """The voxels of a mask with a neighbour along an axis outside of it."""
    surface: Array = mask & ~binary_erosion(mask)
    return surface


def _box(mask: Array) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        planes = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(planes[0]), int(planes[-1]) + 1))
    return tuple(box)
