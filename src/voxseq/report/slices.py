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
_ARRAYS = (
    *("image", "truth", "prediction", "numbers", "main", "depth", "spacing", "oriented", "case"),
)
_ERRORS = ("hd95", "volumes")
Window = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices along z of a test case.

    Attributes:
        image: shape (X, Y, S), in any unit.
        truth: class indices 0, 1, 2, … of shape (X, Y, S); 0-d: the case's class or, float64, its
            value.
        prediction: as ``truth``.
        numbers: place along z of each slice, from 0.
        main: index of the slice to be shown first, 0..S−1.
        depth: number of slices of the whole image.
        spacing: mm along x, y and z of the whole image.
        oriented: whether x leads to the right and y to the front (RAS+), as the file states.
        case: name of the case.
        score: mean Dice over classes, the probability given to the true class, 0..1, or the
            absolute error; NaN for an example.
        seed: of the run.
        hd95: 95 % Hausdorff distance in mm of each class, NaN where undefined.
        volumes: ml of each class, shape (2, classes): truth, prediction.
    """

    image: NDArray[np.float32]
    truth: NDArray[Any]
    prediction: NDArray[Any]
    numbers: tuple[int, ...]
    main: int
    depth: int
    spacing: tuple[float, float, float]
    oriented: bool
    case: str
    score: float = math.nan
    seed: int = 0
    hd95: tuple[float, ...] = ()
    volumes: NDArray[np.float64] | None = None

    @property
    def count(self) -> int:
        """Number of slices."""
        return len(self.numbers)

    def at(self, index: int) -> Slices:
        """One of the slices alone; arrays keep their third axis."""
        parts = (a if a.ndim == 0 else a[..., [index]] for a in (self.truth, self.prediction))
        truth, prediction = parts
        return replace(
            self, image=self.image[..., [index]], truth=truth, prediction=prediction,
            numbers=(self.numbers[index],), main=0,
        )  # fmt: skip

    def part(self, window: Window) -> Slices:
        """The part inside a window of the plane."""
        shown = (self.image[window], self.truth[window], self.prediction[window])
        return replace(self, image=shown[0], truth=shown[1], prediction=shown[2])

    @property
    def place(self) -> str:
        """Which slice is shown first: "slice 12 of 40"."""
        return f"slice {self.numbers[self.main] + 1} of {self.depth}"

    @property
    def voxels(self) -> str:
        """Size of a voxel: "1 × 1 × 2.5 mm"."""
        return " × ".join(f"{size:.3g}" for size in self.spacing) + " mm"


@dataclass(frozen=True, eq=False)
class Strip:
    """A picture of a case with one frame for each slice, from left to right.

    Attributes:
        webp: bytes of the picture.
        item: the slices.
        width: of a frame in pixels.
        total: width of the picture.
        height: of the picture.
    """

    webp: bytes
    item: Slices
    width: int
    total: int
    height: int

    @property
    def share(self) -> float:
        """Width of the picture in percent of that of a frame."""
        return 100 * self.total / self.width


def read_slices(path: Path, seed: int = 0) -> Slices:
    """Read example.npz or worst.npz of a run.

    Raises:
        IntegrityError: not an npz file, a missing array, or arrays of other shapes.
    """
    hint = "delete the run's folder and start the workflow again"
    try:
        with read_named(path), np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in _ARRAYS}
            further = {n: arrays[n] for n in ("score", *_ERRORS) if n in arrays}
        numbers = tuple(int(number) for number in found["numbers"])
        x, y, z = (float(size) for size in found["spacing"])
        score = float(further.get("score", np.array(math.nan)))
        main, depth = int(found["main"]), int(found["depth"])
    except (OSError, ValueError, KeyError, EOFError, TypeError) as error:
        raise IntegrityError(f"{path} has no slices of a case: {error}", hint) from None
    image, truth, prediction = (found[name] for name in ("image", "truth", "prediction"))
    is_number = truth.ndim == prediction.ndim == 0
    fits = image.ndim == 3 and image.shape[2] == len(numbers) and 0 <= main < len(numbers)
    if not fits or not (is_number or image.shape == truth.shape == prediction.shape):
        shapes = ", ".join(str(a.shape) for a in (image, truth, prediction))
        reason = f"expected three arrays of one shape (X, Y, {len(numbers)}), found {shapes}"
        raise IntegrityError(f"{path}: {reason}", hint)
    kind = np.float64 if is_number and truth.dtype.kind == "f" else np.int64
    return Slices(
        image=image.astype(np.float32),
        truth=truth.astype(kind),
        prediction=prediction.astype(kind),
        numbers=numbers,
        main=main,
        depth=depth,
        spacing=(x, y, z),
        oriented=bool(found["oriented"]),
        case=str(found["case"]),
        score=score,
        seed=seed,
        hd95=tuple(float(distance) for distance in further.get("hd95", ())),
        volumes=further.get("volumes"),
    )


def slice_dice(truth: NDArray[np.int64], prediction: NDArray[np.int64]) -> float | None:
    """Mean Dice (0..1) of the classes that the true slice has; ``None`` where it has none."""
    values = []
    for label in np.unique(truth[truth > 0]):
        a, b = truth == label, prediction == label
        values.append(2.0 * np.logical_and(a, b).sum() / (a.sum() + b.sum()))
    return float(np.mean(values)) if values else None


def window_of(mask: NDArray[np.bool_]) -> Window:
    """The square part of an image that shows what a mask marks, with a margin around it.

    Its side is twice that of the marked box, at least half of the image's shorter side and 32
    pixels, at most all of it, unless the box itself is longer. An empty mask gives the whole image.

    Args:
        mask: (X, Y).
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
