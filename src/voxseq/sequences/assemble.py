"""From raw boxes to volumes: resized, scaled to 0..1, slid over; plain torch on any device."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from voxseq.config.data import SequencesConfig
from voxseq.sequences.raw import SLIDING, TYPES
from voxseq.transforms.intensity import needs_double
from voxseq.transforms.spatial import Triple

#: Of :data:`TYPES`, in their order.
_TENSOR_TYPES = (torch.int16, torch.float32)


@dataclass(frozen=True)
class _Alike:
    """What parts have in common that are made in one go."""

    mode: int
    type: int
    extent: Triple
    shape: Triple
    double: bool


@dataclass(frozen=True)
class _Part:
    """One part: the row it belongs to, its place in the volume, and its record."""

    row: int
    place: int
    first: int
    record: Any


def assemble(voxels: Tensor, headers: NDArray[Any], config: SequencesConfig) -> Tensor:
    """Make the volumes of raw items.

    Args:
        voxels: (B, bytes) uint8, as :meth:`SequenceSampler.read_into` writes them, on any device.
        headers: (B,) their records.
        config: shape of the volumes and the stride of windows.

    Returns:
        (B, 1, X, Y, Z) float32 in 0..1 on the device of ``voxels``; all of them sequences, or all
        single images. On the CPU a volume does not depend on the others of its batch, to the bit.
    """
    shape = _volume_shape(headers[0], config) if len(headers) else config.volume_shape
    size = (len(headers), 1, *shape)
    volumes = torch.empty(size, dtype=torch.float32, device=voxels.device)
    for alike, parts in _groups(headers).items():
        made = _scaled(_resized(_gathered(voxels, alike, parts), alike.shape), alike, parts)
        for part, values in zip(parts, made, strict=True):
            _place(volumes[part.row, 0], values, part, alike.mode, config)
    return volumes


def _volume_shape(header: Any, config: SequencesConfig) -> Triple:
    """Voxels of the volume that an item becomes."""
    if int(header["mode"]) == SLIDING:
        return config.volume_shape
    x, y, z = _triple(header["shape"])
    return x, y, z * int(header["parts"])


def _groups(headers: NDArray[Any]) -> dict[_Alike, list[_Part]]:
    groups: defaultdict[_Alike, list[_Part]] = defaultdict(list)
    for row, header in enumerate(headers):
        shape, mode, first = _triple(header["shape"]), int(header["mode"]), int(header["first"])
        for place, record in enumerate(header["part"][: int(header["parts"])]):
            double = needs_double(float(record["low"]), float(record["high"]))
            extent = _triple(record["extent"])
            alike = _Alike(mode, int(record["type"]), extent, shape, double)
            groups[alike].append(_Part(row, place, first, record))
    return groups


def _triple(values: NDArray[np.int32]) -> Triple:
    x, y, z = values.tolist()
    return x, y, z


def _gathered(voxels: Tensor, alike: _Alike, parts: Sequence[_Part]) -> Tensor:
    """(N, *extent) in the type in which they are scaled."""
    size = TYPES[alike.type].itemsize * math.prod(alike.extent)
    kind = torch.float64 if alike.double else torch.float32
    out = torch.empty(len(parts), *alike.extent, dtype=kind, device=voxels.device)
    for values, part in zip(out, parts, strict=True):
        start = int(part.record["offset"])
        raw = voxels[part.row, start : start + size].view(_TENSOR_TYPES[alike.type])
        values.copy_(raw.view(alike.extent))
    return out


def _resized(values: Tensor, shape: Triple) -> Tensor:
    """Resize (N, X, Y, Z) to ``shape`` trilinearly, as the published code does."""
    if values.shape[1:] == shape:
        return values
    # In float32 whatever follows, as the ranges of the index were found.
    resized = F.interpolate(values.float()[:, None], shape, mode="trilinear", align_corners=False)
    return resized[:, 0].to(values.dtype)


def _scaled(values: Tensor, alike: _Alike, parts: Sequence[_Part]) -> Tensor:
    """Map each part's ``low`` to 0 and ``high`` to 1 and clip; constant ones become 0."""
    number = np.float64 if alike.double else np.float32
    low: NDArray[Any] = np.array([part.record["low"] for part in parts], number)
    high: NDArray[Any] = np.array([part.record["high"] for part in parts], number)
    is_flat = ~(high > low)
    span = np.where(is_flat, number(1), high - low)
    column = (-1, 1, 1, 1)
    device = values.device
    values.sub_(torch.from_numpy(low).to(device).view(column))
    values.div_(torch.from_numpy(span).to(device).view(column)).clamp_(0, 1)
    for flat in np.flatnonzero(is_flat):
        values[flat] = 0
    return values


def _place(volume: Tensor, values: Tensor, part: _Part, mode: int, config: SequencesConfig) -> None:
    """Write a part into its volume (X, Y, Z)."""
    depth = config.patch_shape[2]
    if mode == SLIDING:
        stride, length = config.spatial.stride, config.length
        reach = stride * (length - 1) + depth
        windows = values[:, :, part.first : part.first + reach].unfold(2, depth, stride)
        volume.view(*volume.shape[:2], length, depth).copy_(windows)
        return
    start = part.place * values.shape[2]
    volume[:, :, start : start + values.shape[2]].copy_(values)
