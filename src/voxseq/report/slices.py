"""Slices of test cases as fine-tuning keeps them: an example and the worst case of each run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named

#: A window is this many times as wide as what it shows, and has at least this share of the image
#: and this number of pixels.
_MARGIN = 2.0
_SHARE = 0.5
_PIXELS = 32


@dataclass(frozen=True)
class Slice:
    """One slice of a test case.

    Attributes:
        image: shape (X, Y), in any unit.
        truth: class indices 0, 1, 2, … of shape (X, Y); 0-d: the case's class or, float64, its
            value.
        prediction: as ``truth``.
        case: name of the case; empty for an example.
        score: mean Dice over classes, the probability given to the true class, 0..1, or the
            absolute error.
        seed: of the run.
    """

    image: NDArray[np.float32]
    truth: NDArray[Any]
    prediction: NDArray[Any]
    case: str = ""
    score: float = math.nan
    seed: int = 0

    def part(self, window: tuple[slice, slice]) -> Slice:
        """Part of the slice inside a window."""
        shown = (self.image[window], self.truth[window], self.prediction[window])
        return Slice(*shown, self.case, self.score, self.seed)


def read_slice(path: Path) -> Slice:
    """Read example.npz of a segmentation run.

    Raises:
        IntegrityError: not an npz file, a missing array, or arrays that are not 2D of one shape.
    """
    return _slice(path, _read(path, ()))


def read_worst(path: Path, seed: int = 0) -> Slice:
    """Read worst.npz of a run.

    Raises:
        IntegrityError: not an npz file, a missing array, or arrays of other shapes.
    """
    arrays = _read(path, ("case", "score"))
    try:
        case, score = str(arrays["case"]), float(arrays["score"])
    except (TypeError, ValueError) as error:
        raise IntegrityError(f"{path} is not a slice of a case: {error}") from None
    return replace(_slice(path, arrays, or_number=True), case=case, score=score, seed=seed)


def _read(path: Path, further: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    try:
        with read_named(path), np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("image", "truth", "prediction", *further)}
    except (OSError, ValueError, KeyError, EOFError, TypeError) as error:
        raise IntegrityError(f"{path} is not a slice of a case: {error}") from None


def _slice(path: Path, arrays: dict[str, NDArray[Any]], *, or_number: bool = False) -> Slice:
    """The slice of arrays that are 2D of one shape, or an image with one class or value each."""
    image, truth, prediction = (arrays[name] for name in ("image", "truth", "prediction"))
    is_number = or_number and truth.ndim == prediction.ndim == 0
    if image.ndim != 2 or not (is_number or image.shape == truth.shape == prediction.shape):
        shapes = ", ".join(str(a.shape) for a in (image, truth, prediction))
        raise IntegrityError(f"{path}: expected three 2D arrays of one shape, found {shapes}")
    kind = np.float64 if is_number and truth.dtype.kind == "f" else np.int64
    return Slice(image.astype(np.float32), truth.astype(kind), prediction.astype(kind))


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
