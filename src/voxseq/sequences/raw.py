"""An item as it lies in the store: boxes of raw voxels, and what makes a volume of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxseq.transforms.spatial import Triple

#: How the parts of an item become its volume: side by side along the last axis, or as the windows
#: that slide over one part.
JOINED, SLIDING = 0, 1
#: Types of stored voxels, by their number in a header.
TYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.int16), np.dtype(np.float32))
#: Parts begin at multiples of so many bytes.
_ALIGNMENT = 8
#: Rows are padded to whole cache lines.
_LINE = 64


@dataclass(frozen=True)
class Box:
    """A box of a stored volume that is one part of an item.

    Attributes:
        store: number of the store.
        row: of the volume in it.
        start: first voxel.
        extent: voxels along each axis.
        low, high: intensities that become 0 and 1.
    """

    store: int
    row: int
    start: Triple
    extent: Triple
    low: float
    high: float


@dataclass(frozen=True)
class Raw:
    """Where an item's voxels are, and how they become its volume.

    Attributes:
        boxes: of its parts.
        shape: voxels of each part after it has been resized; of a sliding one without its planes.
        mode: :data:`JOINED` or :data:`SLIDING`.
        first: plane of the resized part at which the windows begin; sliding items only.
        number: of the sequence in the list of its split.
        ct: whether it is CT.
        source: number of its store.
    """

    boxes: Sequence[Box]
    shape: Triple
    mode: int = JOINED
    first: int = 0
    number: int = -1
    ct: bool = False

    @property
    def source(self) -> int:
        """Number of the store that it is from."""
        return self.boxes[0].store


def header_type(parts: int) -> np.dtype[Any]:
    """The record that lies beside the voxels of an item of at most so many parts."""
    part = [
        ("offset", "<i8"),
        ("type", "<i4"),
        ("extent", "<i4", 3),
        ("low", "<f8"),
        ("high", "<f8"),
    ]
    return np.dtype(
        [
            ("number", "<i8"),
            ("shape", "<i4", 3),
            ("mode", "<i4"),
            ("first", "<i4"),
            ("ct", "<i4"),
            ("parts", "<i4"),
            ("used", "<i8"),
            ("part", part, parts),
        ],
        align=True,
    )


def aligned(size: int | NDArray[np.int64]) -> Any:
    """Bytes of a part with those that are left free behind it."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def padded(size: int) -> int:
    """Bytes of a row that holds ``size``."""
    return -(-size // _LINE) * _LINE


def start_count(depth: int, stride: int, thickness: int, length: int, most: int | None) -> int:
    """Number of possible starts of the sliding window (published: 64, starts 0..63)."""
    fitting = depth - thickness - stride * (length - 1)
    return (fitting if most is None else min(fitting, most)) + 1
