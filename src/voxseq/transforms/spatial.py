"""Spatial operations on volumes: resizing, and the item that views are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

Array = NDArray[np.float32]


Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Item:
    """One training volume.

    Attributes:
        volume: (X, Y, Z) float32 in 0..1.
        kind: "spatial", "contrast" or "semantic".
        source: data set it comes from.
        id: number of the sequence in the joined list of its split; -1 outside a list.
        modality: "CT" or "MRI", "" where unknown.
    """

    volume: Array
    kind: str = ""
    source: str = ""
    id: int = -1
    modality: str = ""


def start_around(centre: Iterable[float], shape: Triple, size: Triple) -> Triple:
    """First voxel of the box of ``size`` around ``centre``, moved so that it stays inside a volume.

    On an axis of ``shape`` that is shorter than the box it is 0.
    """
    x, y, z = (
        min(max(int(c) - s // 2, 0), max(n - s, 0))
        for c, n, s in zip(centre, shape, size, strict=True)
    )
    return (x, y, z)


def resize(volume: NDArray[np.generic], shape: Triple) -> Array:
    """Resize (X, Y, Z) to ``shape`` trilinearly, voxel corners aligned as in the published code."""
    if volume.shape == shape:
        return volume.astype(np.float32)
    tensor = torch.from_numpy(volume.astype(np.float32))[None, None]
    resized = F.interpolate(tensor, size=shape, mode="trilinear", align_corners=False)
    found: Array = resized[0, 0].numpy()
    return found
