"""A few numbers of an image that need no network: intensities, and the size of what is bright."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from voxseq.data.volume import Array

PERCENTILES = (5, 25, 50, 75, 95)
NAMES = ("mean", "sd", *(f"p{p}" for p in PERCENTILES), "centre", "log_volume")
_BINS = 256
#: Side of the central box as a share of the image's.
_CENTRE = 0.25


def describe(image: Array) -> Array:
    """Numbers ``NAMES`` of one image (X, Y, Z).

    ``centre`` is the mean of the central box of a quarter of each side; ``log_volume`` is
    ln((n + 1) / N) for the n voxels, of N, of the central bright component.
    """
    values = np.asarray(image, dtype=np.float64)
    middle = tuple(
        slice((n - side) // 2, (n - side) // 2 + side)
        for n, side in ((n, max(round(_CENTRE * n), 1)) for n in values.shape)
    )
    size = int(central_component(values > otsu_threshold(values)).sum())
    return np.array(
        [
            values.mean(),
            values.std(),
            *np.percentile(values, PERCENTILES),
            values[middle].mean(),
            np.log((size + 1) / values.size),
        ]
    )


def otsu_threshold(values: Array) -> float:
    """Threshold between two classes of values with the largest variance between them (Otsu 1979).

    The histogram has 256 bins over the range of the values; one value alone is its own threshold.
    """
    counts, edges = np.histogram(values, bins=_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    sums = np.cumsum(counts * centres)
    possible = (below > 0) & (above > 0)
    if not possible.any():
        return float(np.max(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    between = np.where(possible, below * above * gap**2, -1.0)
    return float(edges[1 + int(between.argmax())])


def central_component(mask: Array) -> Array:
    """The connected component (faces) of ``mask`` (X, Y, Z) nearest to the centre, as a mask."""
    found, count = ndimage.label(mask)
    if not count:
        return np.zeros(mask.shape, bool)
    places = np.argwhere(mask)
    centre = (np.array(mask.shape) - 1) / 2
    nearest = places[int(((places - centre) ** 2).sum(axis=1).argmin())]
    component: Array = found == found[tuple(nearest)]
    return component
