"""The way in which batches were made before, to be compared with.

A process made whole batches on its CPU: it opened a file for each volume, scaled and resized crops
with NumPy, found the percentiles of all but spatial ones each time, made views one by one and
stacked float32 cubes. What has not changed since is not repeated here: drawing, resizing one crop
and percentiles are those of ``voxseq``.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from benchmarks.earlier_voxels import resize_all, scale, scale_percentiles
from voxseq.data.store import VolumeStore
from voxseq.sequences.raw import SLIDING, Box, Raw
from voxseq.sequences.sampler import SequenceSampler
from voxseq.transforms.spatial import Array, Item, Triple, resize

#: Bytes that an open file took, and up to which the voxels were kept instead; files kept open.
_FILE_BYTES, _OPEN = 2**17, 64
#: Where the length of a file's header stands in it, the highest byte first; where a chunk says how
#: many bytes it has, the lowest first; and the bytes of a chunk's header.
_HEADER_LENGTH, _CHUNK_BYTES, _CHUNK_HEADER = slice(11, 15), slice(12, 16), 32


def write_files(store: VolumeStore, folder: Path, chunks: Triple) -> None:
    """Pack every image of a store into a file of its own, as the store packs it."""
    folder.mkdir(parents=True)
    for row in range(len(store)):
        image = store.image(row)
        fitting = tuple(min(c, n) for c, n in zip(chunks, image.shape, strict=True))
        blosc2.asarray(
            image,
            urlpath=str(_path(folder, row)),
            mode="w",
            contiguous=True,
            chunks=fitting,
            blocks=tuple(min(c, 16) for c in fitting),
            cparams=blosc2.CParams(
                codec=blosc2.Codec.LZ4HC,
                clevel=5,
                filters=[blosc2.Filter.SHUFFLE],
                filters_meta=[0],
                nthreads=1,
            ),
        )


def _path(folder: Path, row: int) -> Path:
    return folder / f"{row:06d}.b2nd"


class FileStore:
    """Images as one file of Blosc2 each, of which some stay open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: OrderedDict[int, _File] = OrderedDict()
        self._room = _OPEN * _FILE_BYTES

    def crop(self, row: int, start: Sequence[int], shape: Sequence[int]) -> NDArray[Any]:
        """The box of ``shape`` voxels at ``start``."""
        if row not in self._opened:
            found = _File(_path(self.folder, row))
            self._room -= found.memory
            while self._room < 0 and self._opened:
                self._room += self._opened.popitem(last=False)[1].memory
            self._opened[row] = found
        self._opened.move_to_end(row)
        return self._opened[row].crop(start, shape)


class _File:
    def __init__(self, path: Path) -> None:
        self.path = path
        array = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
        self.is_kept = array.nbytes <= _FILE_BYTES
        self.values: Any = array[...] if self.is_kept else array
        self.memory = int(self.values.nbytes) if self.is_kept else _FILE_BYTES
        if not self.is_kept:
            grid = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
            borders = _chunk_borders(path, array)
            self._first, self._end = borders[:-1].reshape(grid), borders[1:].reshape(grid)

    def crop(self, start: Sequence[int], shape: Sequence[int]) -> NDArray[Any]:
        box = tuple(slice(int(s), int(s) + int(n)) for s, n in zip(start, shape, strict=True))
        if self.is_kept:
            kept: NDArray[Any] = self.values[box].copy()
            return kept
        file = os.open(self.path, os.O_RDONLY)
        try:
            for first, end in self._runs(start, shape):
                # The system begins to read; the call waits for nothing.
                os.posix_fadvise(file, first, end - first, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)
        found: NDArray[Any] = self.values[box]
        return found

    def _runs(self, start: Sequence[int], shape: Sequence[int]) -> Iterator[tuple[int, int]]:
        """First byte and end of each run of the file that holds chunks of a box."""
        x, y, z = (
            slice(s // c, (s + n - 1) // c + 1)
            for s, n, c in zip(start, shape, self.values.chunks, strict=True)
        )
        begins = self._first[x, y, z.start].ravel().tolist()
        ends = self._end[x, y, z.stop - 1].ravel().tolist()
        run = (0, 0)
        for first, end in zip(begins, ends, strict=True):
            if first <= run[1]:
                run = (run[0], end)
                continue
            if run[0] < run[1]:
                yield run
            run = (first, end)
        if run[0] < run[1]:
            yield run


def _chunk_borders(path: Path, array: Any) -> NDArray[np.int64]:
    """Byte at which each chunk begins, and the end of the last (chunks + 1)."""
    packed = array.schunk.cbytes
    with path.open("rb") as file:
        header = int.from_bytes(file.read(_HEADER_LENGTH.stop)[_HEADER_LENGTH], "big")
        # The table of the chunks' places comes after the last of them, packed as they are.
        file.seek(header + packed)
        table = file.read(_CHUNK_HEADER)
        table += file.read(int.from_bytes(table[_CHUNK_BYTES], "little") - len(table))
    places = np.frombuffer(blosc2.decompress2(table), np.int64)
    places = np.append(np.where(places < 0, packed, places), packed)
    borders: NDArray[np.int64] = np.minimum.accumulate(places[::-1])[::-1] + header
    return borders


class Reader:
    """Reads items as volumes in 0..1, the images of a sampler as files of their own.

    The ranges of spatial sequences are known, as they were from a crop's second reading on.

    Args:
        sampler: says where the voxels of items are.
        folder: gets a folder of files for each source.
        chunks: of the sampler's stores.
    """

    def __init__(self, sampler: SequenceSampler, folder: Path, chunks: Triple) -> None:
        self.sampler = sampler
        self._stores = []
        for number, name in enumerate(sampler._names):
            write_files(sampler._store(number), folder / name, chunks)
            self._stores.append(FileStore(folder / name))

    def item(self, number: int, generator: np.random.Generator, *, sequences: bool) -> Item:
        """Read an entry of the training list; arguments as those of the sampler's ``raw``."""
        sampler = self.sampler
        raw = sampler.raw(number, generator, sequences=sequences)
        chosen = int(np.searchsorted(sampler._offsets, number, side="right")) - 1
        kind = sampler.kinds[chosen]
        row = sampler._tables[kind].training[number - int(sampler._offsets[chosen])]
        modality = str(sampler._modality_at(kind, np.array([row]))[0])
        return Item(self.volume(raw), kind, sampler._names[raw.source], number, modality)

    def volume(self, raw: Raw) -> Array:
        """The volume (X, Y, Z) float32 of an item."""
        if raw.mode == SLIDING:
            return self._slid(raw, raw.boxes[0])
        crops = [self._crop(box) for box in raw.boxes]
        if any(crop.shape != raw.shape for crop in crops):
            crops = [*resize_all(crops, raw.shape)]
        scaled = [scale_percentiles(crop, self.sampler.config.percentiles) for crop in crops]
        return scaled[0] if len(scaled) == 1 else np.concatenate(scaled, axis=2)

    def _slid(self, raw: Raw, box: Box) -> Array:
        config = self.sampler.config
        crop, depth, stride = self._crop(box), config.patch_shape[2], config.spatial.stride
        if crop.shape != raw.shape:
            crop = resize(crop, raw.shape)
        reach = raw.first + stride * (config.length - 1) + depth
        planes = scale(crop[:, :, raw.first : reach], box.low, box.high)
        windows = sliding_window_view(planes, depth, axis=2)[:, :, ::stride]
        return np.ascontiguousarray(windows.reshape(*planes.shape[:2], config.length * depth))

    def _crop(self, box: Box) -> NDArray[Any]:
        return self._stores[box.store].crop(box.row, box.start, box.extent)
