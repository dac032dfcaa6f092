"""Small pictures of images, by which copies are found whose voxels differ.

A copy that was stored in another orientation or type, resampled, or cut by a few voxels has another
content hash but nearly the same thumbnail. Two images count as one picture when their thumbnails
correlate by :data:`SAME_PICTURE` and the lengths of their sides differ by at most
:data:`SIDE_TOLERANCE`. What this finds and what it misses is measured in ``docs/leakage.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel
import numpy as np
from numpy.typing import NDArray

from voxseq.data.grid import to_ras
from voxseq.data.volume import Array, Volume

if TYPE_CHECKING:
    import pandas as pd

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]
#: Boxes along every axis.
SIDE = 8
SIZE = SIDE**3
#: Least correlation of the thumbnails of one picture. Of 497 real and 1,600 phantom images no two
#: subjects reach 0.981; another storage gives 1.0000, another spacing 0.983 and more.
SAME_PICTURE = 0.99
#: Largest relative difference of the lengths of their sides: cutting moves them.
SIDE_TOLERANCE = 0.05
#: Images that are compared with all others at a time.
_BLOCK = 1024
#: Voxels that are converted to 64 bits at a time.
_SLAB = 1 << 22
#: A spread below this share of the largest mean is rounding.
_LEAST_SPREAD = 1e-9
#: Digits that are kept, so that the order in which sums are taken shows nowhere.
_DIGITS = 4


def thumbnail(volume: Volume) -> NDArray[np.float32]:
    """The image turned to RAS and averaged over boxes that cover its extent, minus mean, over sd.

    A voxel that lies in two boxes counts for each by the part of it that lies there, so any shape
    gives all boxes. Values that are not finite count as 0.

    Args:
        volume: (X, Y, Z); read slab by slab, never copied as a whole.

    Returns:
        (512,): 8 x 8 x 8 boxes in C order, four decimals; zeros for an image whose boxes are equal.
    """
    means = _box_means(volume.array)
    # Box means and turning of axes can be exchanged, so only the small array is turned.
    turned, _ = to_ras(Volume(means, volume.affine, volume.oriented))
    centred = turned.ravel() - turned.mean()
    spread = float(centred.std())
    if spread <= _LEAST_SPREAD * float(np.abs(means).max()):
        return np.zeros(SIZE, np.float32)
    # Adding zero turns -0 into 0.
    return np.asarray(np.round(centred / spread, _DIGITS) + 0.0, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Thumbnails and sizes of n images.

    Attributes:
        thumbnails: (n, 512).
        sides: (n, 3) lengths in mm along right, anterior, superior; along the stored axes where
            the file states no orientation.
    """

    thumbnails: Floats
    sides: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.thumbnails)


def pictures(index: pd.DataFrame) -> Pictures:
    """Pictures of the rows of an index, or of a store's table."""
    if index.empty:
        return Pictures(np.zeros((0, SIZE), np.float32), np.zeros((0, 3)))
    stored = np.column_stack(
        [index[f"shape_{a}"].to_numpy(float) * index[f"spacing_{a}"].to_numpy(float) for a in "xyz"]
    )
    # Stored axis that runs along each of right, anterior, superior; as stored where unknown.
    turns = (nibabel.orientations.axcodes2ornt(str(c) or "RAS") for c in index["orientation"])
    axes = np.array([np.argsort(turn[:, 0]) for turn in turns])
    return Pictures(
        np.stack(index["thumbnail"].to_list()).astype(np.float32),
        np.take_along_axis(stored, axes, axis=1),
    )


def copies(sources: Pictures, held_out: Pictures) -> tuple[Integers, Floats]:
    """Which held-out picture each source shows.

    Returns:
        For every source the most similar of the held-out images that pass as its copy, -1 for
        none, and their correlation, 0 for none; both (n,).
    """
    nearest = np.full(len(sources), -1, np.int64)
    highest = np.zeros(len(sources), np.float32)
    for one, other, correlation in _matches(sources, held_out):
        if correlation > highest[one]:
            nearest[one], highest[one] = other, correlation
    return nearest, highest


def repeated(images: Pictures) -> list[tuple[int, int, float]]:
    """Pairs of images that show one picture: both indices, the smaller first, and correlation."""
    return [match for match in _matches(images, images) if match[0] < match[1]]


def _matches(left: Pictures, right: Pictures) -> Iterator[tuple[int, int, float]]:
    """Indices in both sets and correlation of the pairs that pass."""
    for start in range(0, len(left), _BLOCK):
        product = left.thumbnails[start : start + _BLOCK] @ right.thumbnails.T / np.float32(SIZE)
        ones, others = np.nonzero(product >= SAME_PICTURE)
        one, other = left.sides[start + ones], right.sides[others]
        fits = (np.abs(one - other) <= SIDE_TOLERANCE * np.maximum(one, other)).all(axis=1)
        found = (start + ones[fits], others[fits], product[ones[fits], others[fits]])
        yield from zip(*(part.tolist() for part in found), strict=True)


def _box_means(array: Array) -> NDArray[np.float64]:
    """Means (8, 8, 8) over boxes of equal extent."""
    # With axes by decreasing stride a slab is one stretch of memory.
    order = sorted(range(3), key=lambda axis: (-abs(array.strides[axis]), axis))
    ordered = array.transpose(order)
    # Share (8, n) of each voxel in each box's mean; rows sum to 1.
    shares = []
    for size in ordered.shape:
        edges, voxels = np.linspace(0, size, SIDE + 1)[:, None], np.arange(size)
        overlap = np.minimum(edges[1:], voxels + 1) - np.maximum(edges[:-1], voxels)
        shares.append(np.maximum(overlap, 0.0) * (SIDE / size))
    slowest, middle, fastest = shares
    result = np.zeros((SIDE, SIDE, SIDE))
    step = max(_SLAB // max(ordered[0].size, 1), 1)
    for start in range(0, len(ordered), step):
        slab = np.asarray(ordered[start : start + step], dtype=np.float64)
        if array.dtype.kind == "f":
            slab = np.nan_to_num(slab, nan=0.0, posinf=0.0, neginf=0.0)
        planes = middle @ (slab @ fastest.T)
        result += np.tensordot(slowest[:, start : start + step], planes, axes=1)
    return np.ascontiguousarray(result.transpose(np.argsort(order)))
