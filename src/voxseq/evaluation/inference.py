"""Segmentation of whole volumes window by window.

Windows lie where MONAI's ``sliding_window_inference`` puts them and weigh the same. They are walked
along the first axis, so only the planes that further windows still reach are held: at no time does
a process keep the logits of a whole volume, unless it asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxseq.config.base import Shape3

Array = NDArray[np.generic]
#: Planes along the first axis, and their logits (C, n, Y, Z).
Slabs = Iterator[tuple[slice, Tensor]]
#: Most windows of a forward pass (published code: 4), and most voxels beyond a single window: more
#: at a time take more memory and, from this size on, are no faster.
WINDOW_BATCH, WINDOW_VOXELS = 32, 64**3


def predict_logits(network: nn.Module, image: Array, roi: Shape3, overlap: float) -> Tensor:
    """Logits of a whole volume, averaged with equal weight where windows overlap.

    A volume smaller than the window is padded with 0 at the end of its axes, as crops are in
    training, so that fixed positions keep their meaning; the padding is cut off again.

    Args:
        network: maps (B, 1, *roi) to (B, C, *roi).
        image: (X, Y, Z) on the prepared grid.
        roi: window in voxels.
        overlap: share of a window that its neighbour covers too, in [0, 1).

    Returns:
        (C, X, Y, Z) float32 on the CPU.
    """
    whole: Tensor | None = None
    for planes, logits in iterate_logits(network, image, roi, overlap):
        if whole is None:
            whole = torch.empty(len(logits), *image.shape)
        whole[:, planes] = logits
    assert whole is not None
    return whole


def iterate_logits(network: nn.Module, image: Array, roi: Shape3, overlap: float) -> Slabs:
    """The logits of :func:`predict_logits`, slab after slab along the first axis.

    Args:
        network: maps (B, 1, *roi) to (B, C, *roi).
        image: (X, Y, Z) on the prepared grid.
        roi: window in voxels.
        overlap: share of a window that its neighbour covers too, in [0, 1).

    Yields:
        The planes, and their logits (C, n, Y, Z) float32 on the network's device, which are only
        to be used, and may be written to, until the next ones are asked for.
    """
    device = next(network.parameters()).device
    walk = _Walk(image, roi, overlap)
    sums: Tensor | None = None
    starts, depth = walk.starts[0], roi[0]
    for x, following in zip(starts, [*starts[1:], starts[-1] + depth], strict=True):
        for places in walk.batches():
            with torch.no_grad():
                logits = network(walk.windows(x, places).to(device))
            if sums is None:
                padded = (max(n, r) for n, r in zip(image.shape[1:], roi[1:], strict=True))
                sums = torch.zeros(logits.shape[1], depth, *padded, device=device)
            for one, (y, z) in zip(logits, places, strict=True):
                part = sums[:, :, y : y + roi[1], z : z + roi[2]]
                # Plane p of the volume lies in slot p modulo the window's depth.
                for slots, planes in _wrapped(x, x + depth, depth):
                    part[:, slots] += one[:, planes]
            del logits
        assert sums is not None
        for slots, planes in _wrapped(x, following, depth):
            first = x + planes.start
            count = min(planes.stop - planes.start, image.shape[0] - first)
            if count > 0:
                part = sums[:, slots.start : slots.start + count]
                part /= walk.counts(first, count).to(device)
                yield slice(first, first + count), part[..., : image.shape[1], : image.shape[2]]
            sums[:, slots] = 0


def largest(logits: Tensor) -> NDArray[np.uint8]:
    """Class of the largest logit of every voxel, the first of equal ones: (C, X, Y, Z) → (X, Y, Z).

    Class by class and plane by plane, five times as fast as ``argmax`` across so great a stride.
    """
    values = logits.cpu().numpy()
    classes = np.zeros(values.shape[1:], np.uint8)
    for plane, chosen in enumerate(classes):
        best = values[0, plane].copy()
        for number in range(1, len(values)):
            np.putmask(chosen, values[number, plane] > best, number)
            np.maximum(best, values[number, plane], out=best)
    return classes


@dataclass(frozen=True)
class _Walk:
    """The windows of a volume."""

    image: Array
    roi: Shape3
    overlap: float

    @cached_property
    def starts(self) -> list[list[int]]:
        """First voxels of the windows along each axis."""
        return [
            window_starts(size, side, self.overlap)
            for size, side in zip(self.image.shape, self.roi, strict=True)
        ]

    def batches(self) -> Iterator[list[tuple[int, int]]]:
        """Places in the other two axes of the windows of one forward pass."""
        places = list(product(self.starts[1], self.starts[2]))
        most = max(WINDOW_VOXELS // int(np.prod(self.roi)), 1)
        size = min(most, WINDOW_BATCH)
        for first in range(0, len(places), size):
            yield places[first : first + size]

    def windows(self, x: int, places: Sequence[tuple[int, int]]) -> Tensor:
        """Windows (B, 1, *roi) float32, padded with 0 where the volume ends."""
        windows = np.zeros((len(places), 1, *self.roi), np.float32)
        for window, start in zip(windows, ((x, y, z) for y, z in places), strict=True):
            box = tuple(slice(s, s + r) for s, r in zip(start, self.roi, strict=True))
            found = self.image[box]
            window[0, : found.shape[0], : found.shape[1], : found.shape[2]] = found
        return torch.from_numpy(windows)

    def counts(self, first: int, count: int) -> Tensor:
        """How many windows cover each voxel of some planes: (count, Y, Z), padding included."""
        x, y, z = self._counts
        return x[first : first + count, None, None] * (y[:, None] * z)

    @cached_property
    def _counts(self) -> list[Tensor]:
        counts = []
        for size, side, starts in zip(self.image.shape, self.roi, self.starts, strict=True):
            along = np.zeros(max(size, side), np.float32)
            for start in starts:
                along[start : start + side] += 1
            counts.append(torch.from_numpy(along))
        return counts


def window_starts(size: int, side: int, overlap: float) -> list[int]:
    """First voxels of windows that cover an axis, the last moved back to end with it (MONAI).

    Args:
        size: voxels of the axis; if shorter than the window, one window starts at 0.
        side: voxels of a window.
        overlap: share of a window that its neighbour covers too.
    """
    step = max(int(side * (1 - overlap)), 1)
    last = max(size - side, 0)
    return [*range(0, last, step), last]


def _wrapped(start: int, stop: int, depth: int) -> Iterator[tuple[slice, slice]]:
    """Planes ``start`` to ``stop`` in a ring of ``depth`` slots: slots, planes counted from start.

    The planes are no more than the slots; there is a second pair where the ring begins anew.
    """
    slot = start % depth
    before = min(stop - start, depth - slot)
    yield slice(slot, slot + before), slice(0, before)
    if before < stop - start:
        yield slice(0, stop - start - before), slice(before, stop - start)
