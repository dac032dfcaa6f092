"""Slices of segmented cases: reading them, and drawing them with their classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.report.figures.style import CLASS_COLOURS

_ALPHA = 0.45
_TRUTH = "white"
#: A window is this many times as wide as what it shows, and has at least this share of the image
#: and this number of pixels.
_MARGIN = 2.0
_SHARE = 0.5
_PIXELS = 32


@dataclass(frozen=True)
class Slice:
    """One slice, all arrays of shape (X, Y): image in any unit, class indices 0, 1, 2, …"""

    image: NDArray[np.float32]
    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]

    def part(self, window: tuple[slice, slice]) -> Slice:
        """What a window shows of the slice."""
        return Slice(self.image[window], self.truth[window], self.prediction[window])


def read_slice(path: Path) -> Slice:
    """Read example.npz of a segmentation run.

    Raises:
        IntegrityError: not an npz file, a missing array, or arrays that are not 2D of one shape.
    """
    try:
        with read_named(path), np.load(path, allow_pickle=False) as arrays:
            image, truth, prediction = (arrays[n] for n in ("image", "truth", "prediction"))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise IntegrityError(f"{path} is not an example slice: {error}") from None
    return checked_slice(path, image, truth, prediction)


def checked_slice(
    path: Path, image: NDArray[np.generic], truth: NDArray[np.generic],
    prediction: NDArray[np.generic],
) -> Slice:  # fmt: skip
    """A slice of arrays read from ``path``.

    Raises:
        IntegrityError: arrays that are not 2D of one shape.
    """
    if image.ndim != 2 or not image.shape == truth.shape == prediction.shape:
        shapes = ", ".join(str(a.shape) for a in (image, truth, prediction))
        raise IntegrityError(f"{path}: expected three 2D arrays of one shape, found {shapes}")
    return Slice(image.astype(np.float32), truth.astype(np.int64), prediction.astype(np.int64))


def slice_dice(truth: NDArray[np.int64], prediction: NDArray[np.int64]) -> float | None:
    """Mean Dice (0..1) of the classes that the true slice has; ``None`` where it has none."""
    values = []
    for label in np.unique(truth[truth > 0]):
        a, b = truth == label, prediction == label
        values.append(2.0 * np.logical_and(a, b).sum() / (a.sum() + b.sum()))
    return float(np.mean(values)) if values else None


def window_of(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The square part of an image that shows what a mask marks, with a margin around it.

    Its side is twice that of the marked box, at least half of the image's shorter side and 32
    pixels, at most all of it, unless the box itself is longer. An empty mask gives the whole image.
    """
    if not mask.any():
        return slice(None), slice(None)
    bounds = [np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1)]
    box = max(int(b[-1] - b[0]) + 1 for b in bounds)
    shorter = min(mask.shape)
    side = max(box, min(shorter, round(max(_MARGIN * box, _SHARE * shorter, _PIXELS))))
    parts = []
    for marked, size in zip(bounds, mask.shape, strict=True):
        start = (int(marked[0] + marked[-1]) + 1 - side) // 2
        start = max(0, min(start, size - side))
        parts.append(slice(start, min(start + side, size)))
    return parts[0], parts[1]


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
            overlay[inside] = (*rgb(class_colour(label)), _ALPHA)
            _border(axes, inside, class_colour(label), 1.0)
        axes.imshow(overlay, origin="lower", interpolation="nearest")
    if outline is not None:
        for label in _classes(outline):
            _border(axes, np.equal(outline.T, label), _TRUTH, 0.8)


def class_colour(label: int) -> str:
    """Colour of foreground class ``label`` = 1, 2, …"""
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def rgb(colour: str) -> tuple[float, float, float]:
    """Red, green and blue of "#RRGGBB", 0..1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _classes(labels: NDArray[np.int64]) -> Iterable[int]:
    return (int(label) for label in np.unique(labels[labels > 0]))


def _border(axes: Axes, inside: NDArray[np.bool_], colour: str, width: float) -> None:
    if inside.any() and not inside.all() and min(inside.shape) > 1:
        axes.contour(inside.astype(float), levels=[0.5], colors=[colour], linewidths=width)
