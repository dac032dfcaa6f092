"""From a row of the sequence index to voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

Array = NDArray[np.float32]
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Item:
    """One training volume.

    Attributes:
        volume: (X, Y, Z) float32 in 0..1.
        kind: "spatial", "contrast" or "semantic".
        source: data set it comes from.
        id: number of the sequence in the joined list of its split; -1 outside a list.
        modality: "CT" or "MRI", "" where unknown.
    """

    volume: Array
    kind: str = ""
    source: str = ""
    id: int = -1
    modality: str = ""


def resize(volume: NDArray[np.generic], shape: Triple) -> Array:
    """Resize (X, Y, Z) to ``shape`` trilinearly, voxel corners aligned as in the published code."""
    if volume.shape == shape:
        return volume.astype(np.float32)
    tensor = torch.from_numpy(volume.astype(np.float32))[None, None]
    resized = F.interpolate(tensor, size=shape, mode="trilinear", align_corners=False)
    result: Array = resized[0, 0].numpy()
    return result


def scale_percentiles(volume: Array, percentiles: tuple[float, float]) -> Array:
    """Map the given intensity percentiles of this crop to 0..1 and clip (published: 1 and 99.9).

    A constant crop becomes all zeros.
    """
    low, high = np.percentile(volume, percentiles)
    if not high > low:
        return np.zeros_like(volume)
    scaled: Array = np.clip((volume - low) / (high - low), 0.0, 1.0).astype(np.float32)
    return scaled


def slide(crop: Array, start: int, stride: int, thickness: int, length: int) -> Array:
    """Join ``length`` windows of a crop along its last axis (paper, section 3.1).

    Args:
        crop: (X, Y, D).
        start: first voxel of the first window.
        stride: step between windows.
        thickness: voxels of a window along the last axis.
        length: number of windows.

    Returns:
        (X, Y, length * thickness): the windows one after the other.

    Raises:
        ValueError: the last window leaves the crop.
    """
    reach = start + stride * (length - 1) + thickness
    if start < 0 or reach > crop.shape[2]:
        raise ValueError(f"windows reach voxel {reach} of {crop.shape[2]}")
    windows = [crop[:, :, start + i * stride :][:, :, :thickness] for i in range(length)]
    return np.ascontiguousarray(np.concatenate(windows, axis=2))


def start_count(depth: int, stride: int, thickness: int, length: int, most: int | None) -> int:
    """Number of possible starts of the sliding window (published: 64, starts 0..63)."""
    fitting = depth - thickness - stride * (length - 1)
    return (fitting if most is None else min(fitting, most)) + 1
