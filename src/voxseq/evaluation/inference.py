"""Segmentation of whole volumes window by window.

Windows lie where MONAI's ``sliding_window_inference`` puts them and weigh the same. They are walked
along the first axis, so only the planes that further windows still reach are held: at no time does
a process keep the logits of a whole volume, unless it asks for them. The volume goes to the
network's device once, and logits stay there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from voxseq.config.base import Shape3

Array = NDArray[np.generic]
#: Planes along the first axis, and their logits (C, n, Y, Z).
Slabs = Iterator[tuple[slice, Tensor]]
#: Makes the context in which a network computes, such as autocast.
Precision = Callable[[], AbstractContextManager[object]]
#: Most windows of a forward pass (published code: 4), and most voxels beyond a single window: more
#: at a time take more memory and, from this size on, are no faster on a CPU.
WINDOW_BATCH, WINDOW_VOXELS = 32, 64**3
#: Windows of a forward pass on other devices, which need many voxels to be busy.
DEVICE_WINDOWS = 16
#: Standard deviation of Gaussian weights over a window's side (MONAI), and their least value along
#: an axis: sums of smaller ones would be rounding.
_GAUSSIAN_SD, _LEAST_WEIGHT = 0.125, 1e-3


def predict_logits(
    network: nn.Module,
    image: Array,
    roi: Shape3,
    overlap: float,
    precision: Precision = nullcontext,
) -> Tensor:
    """Logits of a whole volume, averaged with equal weight where windows overlap.

    A volume smaller than the window is padded with 0 at the end of its axes, as crops are in
    training, so that fixed positions keep their meaning; the padding is cut off again.

    Args:
        network: maps (B, channels, *roi) to (B, C, *roi).
        image: (channels, X, Y, Z) on the prepared grid.
        roi: window in voxels.
        overlap: share of a window that its neighbour covers too, in [0, 1).
        precision: makes the context in which the network computes.

    Returns:
        (C, X, Y, Z) float32 on the CPU.
    """
    whole: Tensor | None = None
    for planes, logits in iterate_logits(network, image, roi, overlap, precision):
        if whole is None:
            whole = torch.empty(len(logits), *image.shape[1:])
        whole[:, planes] = logits
    assert whole is not None
    return whole


def iterate_logits(
    network: nn.Module,
    image: Array,
    roi: Shape3,
    overlap: float,
    precision: Precision = nullcontext,
    gaussian: bool = False,
) -> Slabs:
    """The logits of :func:`predict_logits`, slab after slab along the first axis.

    Args:
        network: maps (B, channels, *roi) to (B, C, *roi).
        image: (channels, X, Y, Z) on the prepared grid.
        roi: window in voxels.
        overlap: share of a window that its neighbour covers too, in [0, 1).
        precision: makes the context in which the network computes; sums are float32 in any.
        gaussian: whether the middle of a window weighs more than its edges; otherwise all alike.

    Yields:
        The planes, and their logits (C, n, Y, Z) float32 on the network's device, which are only
        to be used, and may be written to, until the next ones are asked for.
    """
    device = next(network.parameters()).device
    shape = image.shape[1:]
    walk = _Walk(_on_device(image, roi, device), roi, overlap, shape, gaussian)
    forward = _Forward(network, precision, most_windows(device, roi))
    sums: Tensor | None = None
    starts, depth = walk.starts[0], roi[0]
    for x, following in zip(starts, [*starts[1:], starts[-1] + depth], strict=True):
        for places, logits in forward.passes(walk, x):
            if sums is None:
                padded = walk.volume.shape[2:]
                sums = torch.zeros(logits.shape[1], depth, *padded, device=device)
            for one, (y, z) in zip(logits, places, strict=True):
                part = sums[:, :, y : y + roi[1], z : z + roi[2]]
                weighed = one.float() * walk.weights if gaussian else one
                # Plane p of the volume lies in slot p modulo the window's depth.
                for slots, planes in _wrapped(x, x + depth, depth):
                    part[:, slots] += weighed[:, planes]
            del logits
        assert sums is not None
        for slots, planes in _wrapped(x, following, depth):
            first = x + planes.start
            count = min(planes.stop - planes.start, shape[0] - first)
            if count > 0:
                part = sums[:, slots.start : slots.start + count]
                part /= walk.counts(first, count)
                yield slice(first, first + count), part[..., : shape[1], : shape[2]]
            sums[:, slots] = 0


def largest(logits: Tensor) -> NDArray[np.uint8]:
    """Class of the largest logit of every voxel, the first of equal ones: (C, X, Y, Z) → (X, Y, Z).

    Found where the logits are: a byte a voxel leaves the device.
    """
    if logits.device.type != "cpu":
        return _by_device(logits)
    # Class by class and plane by plane, five times as fast as argmax across so great a stride.
    values = logits.numpy()
    classes = np.zeros(values.shape[1:], np.uint8)
    for plane, chosen in enumerate(classes):
        best = values[0, plane].copy()
        for number in range(1, len(values)):
            np.putmask(chosen, values[number, plane] > best, number)
            np.maximum(best, values[number, plane], out=best)
    return classes


def _by_device(logits: Tensor) -> NDArray[np.uint8]:
    classes: NDArray[np.uint8] = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
    return classes


def most_windows(device: torch.device, roi: Shape3) -> int:
    """Windows of a forward pass, at most; a device without room for them is given fewer."""
    if device.type != "cpu":
        return DEVICE_WINDOWS
    return min(max(WINDOW_VOXELS // int(np.prod(roi)), 1), WINDOW_BATCH)


def _on_device(image: Array, roi: Shape3, device: torch.device) -> Tensor:
    """An image as float32 (C, X, Y, Z), padded with 0 where it is smaller than a window."""
    with warnings.catch_warnings():
        # It may be shared and read-only; nothing here writes to it.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        volume = torch.from_numpy(np.ascontiguousarray(image, np.float32)).to(device)
    missing = [max(side - size, 0) for size, side in zip(image.shape[1:], roi, strict=True)]
    if not any(missing):
        return volume
    return functional.pad(volume, [n for axis in reversed(missing) for n in (0, axis)])


@dataclass
class _Forward:
    """Forward passes of as many windows as the device has memory for."""

    network: nn.Module
    precision: Precision
    most: int

    def passes(self, walk: _Walk, x: int) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
        """Places of windows that begin at plane ``x``, and their logits (B, C, *roi)."""
        left = walk.places
        while left:
            here = left[: self.most]
            logits = self._logits(walk.windows(x, here))
            if logits is None:
                self.most = (self.most + 1) // 2
                continue
            yield here, logits
            del logits
            left = left[len(here) :]

    @torch.no_grad()
    def _logits(self, windows: Tensor) -> Tensor | None:
        """Logits, or nothing where there was no memory for more than one window."""
        try:
            with self.precision():
                logits: Tensor = self.network(windows)
        except torch.OutOfMemoryError:
            if len(windows) == 1:
                raise
            return None
        return logits


@dataclass(frozen=True)
class _Walk:
    """The windows of a volume (C, X, Y, Z), padded to one at least; ``shape`` is that before."""

    volume: Tensor
    roi: Shape3
    overlap: float
    shape: tuple[int, ...]
    gaussian: bool = False

    @cached_property
    def starts(self) -> list[list[int]]:
        """First voxels of the windows along each axis."""
        return [
            window_starts(size, side, self.overlap)
            for size, side in zip(self.shape, self.roi, strict=True)
        ]

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """Places of the windows in the other two axes."""
        return list(product(self.starts[1], self.starts[2]))

    def windows(self, x: int, places: Sequence[tuple[int, int]]) -> Tensor:
        """Windows (B, C, *roi)."""
        a, b, c = self.roi
        return torch.stack([self.volume[:, x : x + a, y : y + b, z : z + c] for y, z in places])

    @cached_property
    def weights(self) -> Tensor:
        """Weights of the voxels of a window, (*roi)."""
        x, y, z = (self._profile(side) for side in self.roi)
        return x[:, None, None] * (y[:, None] * z)

    def _profile(self, side: int) -> Tensor:
        """Weights along one axis of a window."""
        if not self.gaussian:
            return torch.ones(side, device=self.volume.device)
        places = torch.arange(side, device=self.volume.device) - (side - 1) / 2
        return torch.exp(-0.5 * (places / (side * _GAUSSIAN_SD)) ** 2).clamp(min=_LEAST_WEIGHT)

    def counts(self, first: int, count: int) -> Tensor:
        """Sum of the weights of the windows that cover each voxel of some planes: (count, Y, Z),
        padding included."""
        x, y, z = self._counts
        return x[first : first + count, None, None] * (y[:, None] * z)

    @cached_property
    def _counts(self) -> list[Tensor]:
        counts = []
        for size, side, starts in zip(self.volume.shape[1:], self.roi, self.starts, strict=True):
            along = torch.zeros(size, device=self.volume.device)
            for start in starts:
                along[start : start + side] += self._profile(side)
            counts.append(along)
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
