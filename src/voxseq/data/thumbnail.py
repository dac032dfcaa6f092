"""Small pictures of images, by which copies are found whose voxels differ.

Both are turned to RAS and averaged over boxes that cover the image's extent: the thumbnail over
8 x 8 x 8, by which candidates are found, and the detail over 32 x 32 x 32, by which they are
confirmed; see :mod:`voxseq.data.same_picture`.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np
from numpy.typing import NDArray

from voxseq.data.grid import to_ras
from voxseq.data.volume import Array, Volume

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
#: Boxes of the thumbnail along every axis.
SIDE = 8
SIZE = SIDE**3
#: Boxes of the detail along every axis.
DETAIL_SIDE = 32
#: Percentiles of the box means that become 0 and 255 in the detail.
_DETAIL_RANGE = (0.5, 99.5)
#: Voxels that are converted to 64 bits at a time.
_SLAB = 1 << 22
#: A spread below this share of the largest mean is rounding.
_LEAST_SPREAD = 1e-9
#: Digits that are kept, so that the order in which sums are taken shows nowhere.
_DIGITS = 4


def small_pictures(volume: Volume) -> tuple[Floats, Bytes]:
    """Thumbnail and detail of an image.

    A voxel that lies in two boxes counts for each by the part of it that lies there, so any shape
    gives all boxes. Values that are not finite count as 0.

    Args:
        volume: (X, Y, Z); read slab by slab, never copied as a whole.

    Returns:
        thumbnail: (512,) 8 x 8 x 8 boxes in C order, minus mean, over standard deviation, four
            decimals; zeros for an image whose boxes are equal.
        detail: (32, 32, 32) from 0 at percentile 0.5 of the boxes to 255 at percentile 99.5.
    """
    # Box means and turning of axes can be exchanged, so only the small array is turned.
    turned, _ = to_ras(Volume(_box_means(volume.array), volume.affine, volume.oriented))
    parts = DETAIL_SIDE // SIDE
    means = turned.reshape((SIDE, parts) * 3).mean(axis=(1, 3, 5))
    centred = means.ravel() - means.mean()
    spread = float(centred.std())
    if spread <= _LEAST_SPREAD * float(np.abs(means).max()):
        thumbnail = np.zeros(SIZE, np.float32)
    else:
        # Adding zero turns -0 into 0.
        thumbnail = np.asarray(np.round(centred / spread, _DIGITS) + 0.0, dtype=np.float32)
    low, high = np.percentile(turned, _DETAIL_RANGE)
    scaled = (turned - low) / max(high - low, np.finfo(np.float64).tiny)
    return thumbnail, np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def packed_detail(detail: Bytes) -> str:
    """A detail as text for the index: its bytes in C order, zlib, base64."""
    return base64.b64encode(zlib.compress(detail.tobytes(), 6)).decode()


def unpacked_detail(text: str) -> Bytes:
    """The detail (32, 32, 32) that was packed."""
    values = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return values.reshape((DETAIL_SIDE,) * 3)


def _box_means(array: Array) -> NDArray[np.float64]:
    """Means (32, 32, 32) over boxes of equal extent."""
    # With axes by decreasing stride a slab is one stretch of memory.
    order = sorted(range(3), key=lambda axis: (-abs(array.strides[axis]), axis))
    ordered = array.transpose(order)
    # Share (32, n) of each voxel in each box's mean; rows sum to 1.
    shares = []
    for size in ordered.shape:
        edges, voxels = np.linspace(0, size, DETAIL_SIDE + 1)[:, None], np.arange(size)
        overlap = np.minimum(edges[1:], voxels + 1) - np.maximum(edges[:-1], voxels)
        shares.append(np.maximum(overlap, 0.0) * (DETAIL_SIDE / size))
    slowest, middle, fastest = shares
    result = np.zeros((DETAIL_SIDE,) * 3)
    step = max(_SLAB // max(ordered[0].size, 1), 1)
    for start in range(0, len(ordered), step):
        slab = np.asarray(ordered[start : start + step], dtype=np.float64)
        if array.dtype.kind == "f":
            slab = np.nan_to_num(slab, nan=0.0, posinf=0.0, neginf=0.0)
        planes = middle @ (slab @ fastest.T)
        result += np.tensordot(slowest[:, start : start + step], planes, axes=1)
    return np.ascontiguousarray(result.transpose(np.argsort(order)))
