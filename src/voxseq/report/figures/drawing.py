"""Drawing a slice with its classes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

_ALPHA = 0.45
_TRUTH = "white"
#: Colours of the foreground classes 1, 2, … of a segmentation.
_CLASSES = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#D55E00", "#F0E442")


def show_slice(
    axes: Axes,
    image: NDArray[np.float32],
    labels: NDArray[np.int64] | None = None,
    outline: NDArray[np.int64] | None = None,
) -> None:
    """The slice in grey with each class filled; x to the right, y upwards.

    Args:
        axes: where to draw.
        image: shape (X, Y); grey values from its percentile 1 (black) to 99 (white).
        labels: classes to be filled and outlined in their colours.
        outline: classes whose borders are drawn in white on top, such as the true ones.
    """
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (1.0, 99.0)) if finite.size else (0.0, 1.0)
    if not low < high:
        low, high = low - 0.5, low + 0.5
    axes.imshow(image.T, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="nearest")
    if labels is not None:
        overlay = np.zeros((*labels.T.shape, 4))
        for label in _classes(labels):
            inside = np.equal(labels.T, label)
            overlay[inside] = (*to_rgb(class_colour(label)), _ALPHA)
            _border(axes, inside, class_colour(label), 1.0)
        axes.imshow(overlay, origin="lower", interpolation="nearest")
    if outline is not None:
        for label in _classes(outline):
            _border(axes, np.equal(outline.T, label), _TRUTH, 0.8)


def class_colour(label: int) -> str:
    """Colour of foreground class ``label`` = 1, 2, …"""
    return _CLASSES[(label - 1) % len(_CLASSES)]


def _classes(labels: NDArray[np.int64]) -> Iterable[int]:
    return (int(label) for label in np.unique(labels[labels > 0]))


def _border(axes: Axes, inside: NDArray[np.bool_], colour: str, width: float) -> None:
    if inside.any() and not inside.all() and min(inside.shape) > 1:
        axes.contour(inside.astype(float), levels=[0.5], colors=[colour], linewidths=width)
