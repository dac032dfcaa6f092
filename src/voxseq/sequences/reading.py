"""From a row of the sequence index to voxels."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]


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
    windows = sliding_window_view(crop[:, :, start:reach], thickness, axis=2)[:, :, ::stride]
    return np.ascontiguousarray(windows.reshape(*crop.shape[:2], length * thickness))


def start_count(depth: int, stride: int, thickness: int, length: int, most: int | None) -> int:
    """Number of possible starts of the sliding window (published: 64, starts 0..63)."""
    fitting = depth - thickness - stride * (length - 1)
    return (fitting if most is None else min(fitting, most)) + 1
