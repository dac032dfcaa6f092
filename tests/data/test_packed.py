"""A box is read with one read for each run of its chunks, and no other byte is read."""

from __future__ import annotations

import os
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_store import made
from voxseq.config.data import StoreConfig
from voxseq.data import packed
from voxseq.data.packed import PackedArray, ShardFile
from voxseq.data.shards import Places, shard_path
from voxseq.data.store import VolumeStore

SHAPE, CHUNKS = (70, 50, 60), (16, 32, 16)


def _image() -> np.ndarray:
    image = np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)
    # Chunks of equal values: first, in between and last.
    image[:16] = image[32:48, :32, 16:32] = image[64:] = 0
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = StoreConfig(chunk_shape=CHUNKS)
    small = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    # The image is not the first array of its shard.
    return made(tmp_path_factory.mktemp("store"), (small,), (_image(),), config=config)


class CountedFile(ShardFile):
    """Notes what is announced and what is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.announced: list[tuple[int, int]] = []
        self.runs: list[tuple[int, int]] = []

    def announce(self, first: int, end: int) -> None:
        self.announced.append((first, end))
        super().announce(first, end)

    def read(self, first: int, end: int) -> memoryview:
        self.runs.append((first, end))
        return super().read(first, end)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_box_comes_from_the_bytes_of_its_chunks_and_no_others(
    folder: Path, data: st.DataObject
) -> None:
    place = Places(folder).find(1, "images")
    assert place is not None
    start = [data.draw(st.integers(0, n - 1)) for n in SHAPE]
    shape = [data.draw(st.integers(1, n - s)) for n, s in zip(SHAPE, start, strict=True)]
    grid = np.zeros(tuple(-(-n // c) for n, c in zip(SHAPE, CHUNKS, strict=True)), bool)
    box = [*zip(start, shape, CHUNKS, strict=True)]
    grid[tuple(slice(s // c, (s + n - 1) // c + 1) for s, n, c in box)] = True
    borders = place.offset + np.cumsum([0, *place.sizes.tolist()])
    needed = np.zeros(borders[-1], bool)
    for number in np.flatnonzero(grid):
        needed[borders[number] : borders[number + 1]] = True
    file = CountedFile(shard_path(folder, place.shard))
    crop = PackedArray(file, place).crop(start, shape)
    np.testing.assert_array_equal(crop, _image()[tuple(slice(s, s + n) for s, n, _ in box)])
    read = np.zeros_like(needed)
    for first, end in file.runs:
        assert first < end
        assert not read[first:end].any()
        read[first:end] = True
    np.testing.assert_array_equal(read, needed)
    assert file.announced == file.runs
    # Neighbours in the file are read together, within a layer along the first axis.
    rows, layers = (-(-(s + n) // c) - s // c for s, n, c in (box[1], box[0]))
    assert len(file.runs) <= rows * layers
    layer = len(place.sizes) // grid.shape[0]
    for (_, end), (first, _) in pairwise(file.runs):
        assert end < first or np.flatnonzero(borders == first)[0] % layer == 0


def test_a_box_takes_one_system_call_for_each_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = VolumeStore(folder), []
    store.crop(1, (0, 0, 0), (1, 1, 1))
    real = os.pread

    def counted(*call: int) -> bytes:
        calls.append(call)
        return real(*call)

    monkeypatch.setattr(os, "pread", counted)
    crop = store.crop(1, (10, 20, 30), (30, 20, 20))
    # Layers from 10 to 40 are three; rows from 20 to 40 are two, and apart in the file.
    assert len(calls) == 6
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    np.testing.assert_array_equal(store.crop(1, (10, 20, 30), (30, 20, 20)), crop)


@pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="Linux counts the calls of a process"
)
def test_a_box_of_a_ct_takes_at_most_25_reads(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(-900, 900, (160, 192, 128)).astype(np.int16)
    store = VolumeStore(made(tmp_path, (image,), config=StoreConfig(chunk_shape=(32, 32, 32))))
    store.crop(0, (0, 0, 0), (1, 1, 1))

    def reads() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("syscr"))

    nothing = -reads() + reads()
    before = reads()
    # At the worst place: 5 x 5 rows of chunks.
    crop = store.crop(0, (31, 31, 31), (128, 128, 56))
    assert reads() - before - nothing == 25
    np.testing.assert_array_equal(crop, image[31:159, 31:159, 31:87])


def test_long_runs_are_read_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Places(folder).find(1, "images")
    assert place is not None
    file = CountedFile(shard_path(folder, place.shard))
    array = PackedArray(file, place)
    array.crop((16, 0, 0), (16, 50, 60))
    assert len(file.runs) == 1
    monkeypatch.setattr(packed, "RUN_BYTES", 1)
    np.testing.assert_array_equal(array.crop((16, 0, 0), (16, 50, 60)), _image()[16:32])
    assert len(file.runs) == 1 + 2


def test_few_layers_of_chunks_are_kept(tmp_path: Path) -> None:
    images = [(np.full((3, 3, 3 + n), n, np.int16),) for n in range(40)]
    store = VolumeStore(made(tmp_path, *images))
    for index, (image,) in enumerate(images):
        np.testing.assert_array_equal(store.image(index), image)
    assert len(packed._SCRATCH._layers) <= 16


def test_threads_do_not_share_memory(folder: Path) -> None:
    """Each has arrays of its own into which chunks are unpacked."""
    image, found = _image(), []

    def read(number: int) -> None:
        store = VolumeStore(folder)
        for place in range(40):
            start = (place % 30, (place * number) % 20, place % 25)
            box = tuple(slice(s, s + 30) for s in start)
            found.append(np.array_equal(store.crop(1, start, (30, 30, 30)), image[box]))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 160
