"""The bytes that are asked for ahead are those that a crop needs."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import blosc2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_store import made
from voxseq.config.data import StoreConfig
from voxseq.data.packed import PackedArray, chunk_borders
from voxseq.data.store import VolumeStore

SHAPE, CHUNKS = (70, 50, 60), (16, 32, 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)
    # Chunks of equal values take no bytes: first, in between and last.
    image[:16] = image[32:48, :32, 16:32] = image[64:] = 0
    config = StoreConfig(chunk_shape=CHUNKS)
    return made(tmp_path_factory.mktemp("store"), (image,), config=config)


@pytest.fixture(scope="module")
def path(folder: Path) -> Path:
    return folder / "images" / "000000.b2nd"


def test_the_borders_are_those_of_the_chunks(path: Path) -> None:
    array, content = blosc2.open(str(path), mode="r"), path.read_bytes()
    chunks, borders = array.schunk, chunk_borders(path, array)
    assert len(borders) == chunks.nchunks + 1 == 5 * 2 * 4 + 1
    empty = 0
    for number in range(chunks.nchunks):
        found = content[borders[number] : borders[number + 1]]
        empty += not found
        assert found in (chunks.get_chunk(number), b"")
    assert empty == 8 + 1 + 8


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_all_chunks_of_a_box_are_asked_for_and_no_others(path: Path, data: st.DataObject) -> None:
    packed = PackedArray(path)
    borders = chunk_borders(path, packed.values)
    start = [data.draw(st.integers(0, n - 1)) for n in SHAPE]
    shape = [data.draw(st.integers(1, n - s)) for n, s in zip(SHAPE, start, strict=True)]
    grid = np.zeros(tuple(-(-n // c) for n, c in zip(SHAPE, CHUNKS, strict=True)), bool)
    box = zip(start, shape, CHUNKS, strict=True)
    grid[tuple(slice(s // c, (s + n - 1) // c + 1) for s, n, c in box)] = True
    needed = np.zeros(borders[-1], bool)
    for number in np.flatnonzero(grid):
        needed[borders[number] : borders[number + 1]] = True
    asked = np.zeros_like(needed)
    runs = list(packed.ranges(start, shape))
    for first, end in runs:
        assert first < end
        assert not asked[first:end].any()
        asked[first:end] = True
    np.testing.assert_array_equal(asked, needed)
    # Neighbours in the file are asked for together.
    assert all(end < first for (_, end), (first, _) in pairwise(runs))


def test_a_crop_asks_for_its_bytes_and_comes_without_the_call_too(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = VolumeStore(folder), []
    monkeypatch.setattr(os, "posix_fadvise", lambda *call: calls.append(call[1:3]), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    crop = store.crop(0, (10, 20, 30), (30, 20, 20))
    expected = PackedArray(path).ranges((10, 20, 30), (30, 20, 20))
    assert calls == [(first, end - first) for first, end in expected]
    monkeypatch.delattr(os, "posix_fadvise")
    np.testing.assert_array_equal(store.crop(0, (10, 20, 30), (30, 20, 20)), crop)
    assert len(calls) == len(set(calls)) == 4
