"""Volumes of raw rows, against the same arithmetic crop by crop in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.earlier_voxels import scale
from tests.helpers.sequence_store import config
from voxseq.config.data import SequencesConfig
from voxseq.sequences.assemble import assemble
from voxseq.sequences.raw import JOINED, SLIDING, Box, Raw, header_type, padded
from voxseq.sequences.sampler import SequenceSampler
from voxseq.sequences.table import IndexTable
from voxseq.transforms.intensity import needs_double
from voxseq.transforms.spatial import Triple

#: Four windows of 2 planes at stride 1.
SEQUENCES = config()
RNG = np.random.default_rng(0)


class Arrays:
    """What a sampler uses of a store, over arrays in memory."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.arrays = arrays

    def dtype(self, index: int) -> np.dtype[Any]:
        return self.arrays[index].dtype

    def crop_into(self, index: int, start: Triple, shape: Triple, out: np.ndarray) -> None:
        box = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
        out[...] = self.arrays[index][box]


class Sampler(SequenceSampler):
    """One that reads arrays in memory."""

    def __init__(self, arrays: list[np.ndarray], sequences: SequencesConfig) -> None:
        self.arrays, self.config = Arrays(arrays), sequences
        self.header = header_type(sequences.length)

    def _store(self, number: int) -> Any:
        return self.arrays


@dataclass(frozen=True)
class Made:
    """One item: its crops, their ranges, and how they become a volume."""

    crops: list[np.ndarray]
    ranges: list[tuple[float, float]]
    shape: Triple
    mode: int = JOINED
    first: int = 0

    def volume(self) -> np.ndarray:
        """The plain way: resize, scale, slide, join."""
        parts = []
        for crop, (low, high) in zip(self.crops, self.ranges, strict=True):
            values = crop
            if crop.shape != self.shape:
                tensor = torch.from_numpy(crop.astype(np.float32))[None, None]
                values = F.interpolate(
                    tensor, self.shape, mode="trilinear", align_corners=False
                ).numpy()[0, 0]
            parts.append(scale(values, low, high))
        if self.mode == JOINED:
            return np.concatenate(parts, axis=2)
        windows = sliding_window_view(parts[0], 2, axis=2)[:, :, self.first : self.first + 4]
        return windows.reshape(8, 8, 8)


def whole(shape: Triple) -> np.ndarray:
    return RNG.integers(-1000, 1000, shape).astype(np.int16)


def real(shape: Triple) -> np.ndarray:
    return RNG.normal(0, 300, shape).astype(np.float32)


def ends(crop: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(crop.astype(np.float32), (1.0, 99.9))
    return float(low), float(high)


def sliding(crop: np.ndarray, first: int = 0) -> Made:
    """A crop of a window's own size, or one that is resized to it."""
    shape = crop.shape if crop.shape[:2] == (8, 8) and crop.shape[2] >= 5 else (8, 8, 8)
    return Made([crop], [ends(crop)], shape, SLIDING, first)


def joined(crops: list[np.ndarray]) -> Made:
    return Made(crops, [ends(crop) for crop in crops], (8, 8, 2))


def narrow(offset: float) -> np.ndarray:
    """A range that is small beside its distance from 0."""
    return (offset + RNG.random((8, 8, 8)) * 64).astype(np.float32)


ITEMS = {
    "window alone": sliding(whole((8, 8, 5))),
    "real numbers": sliding(real((8, 8, 5))),
    "crop with a start": sliding(whole((8, 8, 8)), 3),
    "thin, whole numbers": sliding(whole((14, 12, 3)), 2),
    "thin, real numbers": sliding(real((9, 9, 4)), 1),
    "contrasts": joined([real((6, 6, 3)) * 10.0**k for k in range(4)]),
    "contrasts of the patch's size": joined([whole((8, 8, 2)) for _ in range(4)]),
    "lesions": joined([whole((6 + k, 7, 1 + k)) for k in range(4)]),
    "lesions of two types": joined([whole((6, 6, 4)), *(real((5, 7, 3)) for _ in range(3))]),
    "single image": Made([whole((10, 10, 10))], [(-900.0, 950.0)], (8, 8, 8)),
    "constant": Made([np.full((8, 8, 8), 7, np.int16)], [(7.0, 7.0)], (8, 8, 8)),
    "constant and resized": Made([np.full((9, 6, 7), -3.5, np.float32)], [(-3.5, -3.5)], (8, 8, 8)),
    "a constant contrast": joined([np.zeros((6, 6, 3), np.float32), *[real((6, 6, 3))] * 3]),
    "a range upside down": Made([real((8, 8, 8))], [(5.0, -5.0)], (8, 8, 8)),
    "narrow": sliding(narrow(1e5)),
    "narrow and resized": Made([narrow(1e6)[:, :, :5]], [(1e6, 1e6 + 64)], (8, 8, 8)),
    "narrow whole numbers": Made([whole((8, 8, 8)) // 40 + 3000], [(2980.0, 3020.0)], (8, 8, 8)),
}


def rows_of(items: list[Made]) -> tuple[torch.Tensor, np.ndarray]:
    """Items as rows of one batch, as a sampler writes them; the rest of a row is noise."""
    sampler = Sampler([crop for item in items for crop in item.crops], SEQUENCES)
    raws, number = [], 0
    for item in items:
        boxes = []
        for crop, limits in zip(item.crops, item.ranges, strict=True):
            boxes.append(Box(0, number, (0, 0, 0), crop.shape, *limits))
            number += 1
        raws.append(Raw(boxes, item.shape, item.mode, item.first))
    size = max(sampler.bytes_of(raw) for raw in raws)
    voxels = RNG.integers(0, 256, (len(items), size)).astype(np.uint8)
    headers = np.zeros(len(items), sampler.header)
    for raw, row, header in zip(raws, voxels, headers, strict=True):
        sampler.read_into(raw, row, header)
    return torch.from_numpy(voxels), headers


@pytest.mark.parametrize("name", ITEMS)
def test_a_volume_is_that_of_the_plain_way_to_the_bit(name: str) -> None:
    made = assemble(*rows_of([ITEMS[name]]), SEQUENCES)
    assert made.shape == (1, 1, 8, 8, 8)
    assert made.dtype == torch.float32
    np.testing.assert_array_equal(made[0, 0].numpy(), ITEMS[name].volume())


def test_the_narrow_ones_need_more_digits_than_float32_has() -> None:
    """Otherwise the cases above would say nothing about them."""
    for name, item in ITEMS.items():
        needed = [needs_double(*limits) for limits in item.ranges if limits[1] > limits[0]]
        assert any(needed) == name.startswith("narrow")


@pytest.mark.parametrize("seed", range(3))
def test_volumes_do_not_depend_on_the_rest_of_their_batch(seed: int) -> None:
    order = np.random.default_rng(seed).permutation([*ITEMS, *ITEMS])
    items = [ITEMS[name] for name in order]
    made = assemble(*rows_of(items), SEQUENCES)
    for volume, item in zip(made[:, 0].numpy(), items, strict=True):
        np.testing.assert_array_equal(volume, item.volume())


def test_rows_are_left_as_they_are() -> None:
    voxels, headers = rows_of([*ITEMS.values()])
    before = voxels.clone(), headers.copy()
    assemble(voxels, headers, SEQUENCES)
    assert torch.equal(voxels, before[0])
    assert (headers == before[1]).all()


#: Four windows of 32 planes at stride 8.
PAPER = SequencesConfig.model_validate(
    {
        "volume_shape": (128, 128, 128),
        "length": 4,
        "spatial": {
            **{"crop_shape": (128, 128, 128), "window_shape": (128, 128, 128)},
            **{"stride": 8, "max_start": 63},
        },
    }
)
#: One whole crop.
TABLE = IndexTable(
    {
        **{f"start_{a}": np.zeros(1, np.int32) for a in "xyz"},
        **{f"extent_{a}": np.full(1, 128, np.int32) for a in "xyz"},
        **{name: np.zeros(1, np.int32) for name in ("store", "row")},
        **{"low": np.zeros(1), "high": np.full(1, 6.0)},
    },
    np.zeros(1, np.int64),
    np.zeros(0, np.int64),
)


class Threes:
    """Of a store of the paper's volumes: what decides how much is read."""

    def __init__(self, kind: type[np.generic]) -> None:
        self.kind = np.dtype(kind)

    def dtype(self, index: int) -> np.dtype[Any]:
        return self.kind

    def crop_into(self, index: int, start: Triple, shape: Triple, out: np.ndarray) -> None:
        assert out.shape == shape
        out[...] = 3


@pytest.mark.parametrize(("kind", "used"), [(np.int16, 1_835_008), (np.float32, 3_670_016)])
def test_bytes_of_a_spatial_item_of_the_paper(kind: type[np.generic], used: int) -> None:
    sampler = Sampler([], PAPER)
    sampler.arrays = Threes(kind)  # type: ignore[assignment]
    raw = sampler._spatial(TABLE, 0, np.random.default_rng(0), True)
    size = sampler.bytes_of(raw)
    voxels, header = np.zeros(size, np.uint8), np.zeros(1, sampler.header)
    sampler.read_into(raw, voxels, header[0])
    assert header["part"]["extent"][0, 0].tolist() == [128, 128, 56]
    assert int(header["used"][0]) == used
    assert size == padded(used) == used
    made = assemble(torch.from_numpy(voxels)[None], header, PAPER)
    assert made.nbytes == 128**3 * 4
    assert made.eq(0.5).all()
