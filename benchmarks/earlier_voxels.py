"""Resizing and scaling of crops in NumPy, as a worker did it before an index held their ranges.

Tests hold what is done on the device now to this arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from voxseq.transforms.intensity import intensity_range, needs_double
from voxseq.transforms.spatial import Array, Triple, resize


def scale_percentiles(volume: NDArray[Any], percentiles: tuple[float, float]) -> Array:
    """Map the given intensity percentiles of this crop to 0..1 and clip (published: 1 and 99.9).

    A constant crop becomes all zeros.
    """
    return scale(volume, *intensity_range(volume, percentiles))


def scale(volume: NDArray[Any], low: float, high: float) -> Array:
    """Map ``low`` to 0 and ``high`` to 1 and clip; zeros if ``high`` is not the larger one.

    Returns:
        The shape of ``volume``, in memory of its own.
    """
    if not high > low:
        return np.zeros(volume.shape, np.float32)
    number = np.float64 if needs_double(low, high) else np.float32
    scaled = np.subtract(volume, low, dtype=number)
    scaled /= number(high) - number(low)
    np.clip(scaled, 0, 1, out=scaled)
    result: Array = scaled.astype(np.float32, order="C", copy=False)
    return result


def resize_all(volumes: Sequence[NDArray[np.generic]], shape: Triple) -> list[Array]:
    """:func:`resize` of each; in one call if they are of one shape, which is faster for small ones.

    Args:
        volumes: at least one, each (X, Y, Z).
        shape: voxels of a result.
    """
    first = volumes[0].shape
    if first == shape or any(volume.shape != first for volume in volumes):
        return [resize(volume, shape) for volume in volumes]
    return _interpolated(np.stack(volumes), shape)


def _interpolated(volumes: NDArray[np.generic], shape: Triple) -> list[Array]:
    """Volumes (N, X, Y, Z), each resized."""
    tensor = torch.from_numpy(volumes.astype(np.float32))[:, None]
    resized = F.interpolate(tensor, size=shape, mode="trilinear", align_corners=False)
    return list(resized[:, 0].numpy())
