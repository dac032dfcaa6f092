"""An image as plain numbers for a linear model: its voxels, or its histogram."""

from __future__ import annotations

import numpy as np

from voxseq.data import grid as resample
from voxseq.data.volume import Array

#: Longest side of the grid on which voxels are taken.
SIDE = 16
#: Numbers of a histogram.
QUANTILES = 64


def voxels(image: Array) -> Array:
    """Voxels of an image (C, X, Y, Z) on a grid of at most 16 a side, flat."""
    x, y, z = (min(n, SIDE) for n in image.shape[1:])
    coarse: Array = resample.linear(np.asarray(image, np.float32), (x, y, z))
    return coarse.ravel()


def histogram(image: Array) -> Array:
    """Evenly spaced quantiles of each channel of an image (C, X, Y, Z), smallest first, flat."""
    shares = np.linspace(0, 1, QUANTILES)
    each = [np.quantile(np.asarray(channel, np.float64), shares) for channel in image]
    return np.concatenate(each)
