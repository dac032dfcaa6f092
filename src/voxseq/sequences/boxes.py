"""Boxes of voxels as the tables of the sequence index hold them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxseq.config.base import Shape3

Integers = NDArray[np.int64]
AXES = ("x", "y", "z")
#: Columns of a box.
BOX = tuple(f"{what}_{axis}" for what in ("start", "extent") for axis in AXES)


def centred_boxes(boxes: Integers, wanted: Shape3, shapes: Integers) -> Integers:
    """Boxes of ``wanted`` voxels around the centres of others, moved and cut to fit their volumes.

    Args:
        boxes: (N, 6).
        wanted: voxels.
        shapes: (N, 3) voxels of the volume of each.

    Returns:
        (N, 6).
    """
    centre = boxes[:, :3] + boxes[:, 3:] // 2
    last = np.maximum(shapes - wanted, 0)
    start = np.clip(centre - np.asarray(wanted) // 2, 0, last)
    return np.concatenate([start, np.minimum(shapes, wanted)], axis=1)
