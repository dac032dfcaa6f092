"""Drawing a slice with its classes, the patient's sides and a scale bar."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from voxseq.report.figures.style import outlined

#: Letters at the low and the high end of each axis of a grid of RAS+.
ENDS = (("L", "R"), ("P", "A"), ("I", "S"))
#: Lengths in mm of which the largest that takes no more than a third of the width is drawn.
_BARS = (1, 2, 5, 10, 20, 50, 100)
#: Opacity of a class that is filled.
ALPHA = 0.45
#: Colour of the borders of the true classes.
TRUTH = "white"
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
    low, high = grey_range(image)
    axes.imshow(image.T, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="nearest")
    if labels is not None:
        overlay = np.zeros((*labels.T.shape, 4))
        for label in _classes(labels):
            inside = np.equal(labels.T, label)
            overlay[inside] = (*to_rgb(class_colour(label)), ALPHA)
            _border(axes, inside, class_colour(label), 1.0)
        axes.imshow(overlay, origin="lower", interpolation="nearest")
    if outline is not None:
        for label in _classes(outline):
            _border(axes, np.equal(outline.T, label), TRUTH, 0.8)


def grey_range(image: NDArray[np.float32]) -> tuple[float, float]:
    """Values to be shown black and white: percentiles 1 and 99 of the image."""
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (1.0, 99.0)) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if low < high else (low - 0.5, low + 0.5)


def scale_length(width: float) -> int:
    """Length in mm of the scale bar of a picture that shows ``width`` mm."""
    return max([bar for bar in _BARS if bar <= width / 3], default=_BARS[0])


def show_sides(axes: Axes, left: str, right: str, top: str, size: float = 8) -> None:
    """Letters of the patient's sides at the edges of a picture."""
    for x, y, text in ((0.04, 0.5, left), (0.96, 0.5, right), (0.5, 0.95, top)):
        place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        outlined(axes, x, y, text, 1.8, fontsize=size, **place)


def show_scale(axes: Axes, width: float, size: float = 7) -> None:
    """A bar of a round length at the foot of a picture that shows ``width`` mm."""
    length = scale_length(width)
    share = length / width
    for colour, points in (("black", 3.5), ("white", 2)):
        axes.plot(
            *((0.05, 0.05 + share), (0.05, 0.05)),
            transform=axes.transAxes,
            color=colour,
            linewidth=points,
        )
    place = {"transform": axes.transAxes, "ha": "left", "va": "bottom"}
    outlined(axes, 0.05, 0.07, f"{length} mm", 1.8, fontsize=size, **place)


def class_colour(label: int) -> str:
    """Colour of foreground class ``label`` = 1, 2, …"""
    return _CLASSES[(label - 1) % len(_CLASSES)]


def _classes(labels: NDArray[np.int64]) -> Iterable[int]:
    return (int(label) for label in np.unique(labels[labels > 0]))


def _border(axes: Axes, inside: NDArray[np.bool_], colour: str, width: float) -> None:
    if inside.any() and not inside.all() and min(inside.shape) > 1:
        axes.contour(inside.astype(float), levels=[0.5], colors=[colour], linewidths=width)
