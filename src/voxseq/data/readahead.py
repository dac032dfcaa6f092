"""Asking the system for the bytes of a box in one go, before they are unpacked piece by piece.

Blosc2 reads a file block by block. From a disk, each of these small reads waits for the one before,
and the system reads on behind it what no one wants.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

#: Where the length of a file's header stands in it: 4 bytes, the highest first.
_HEADER_LENGTH = slice(11, 15)
#: Where a chunk says how many bytes it has: 4 bytes, the lowest first.
_CHUNK_BYTES = slice(12, 16)
_CHUNK_HEADER = 32


class ReadAhead:
    """Where the chunks of one array lie in its file.

    Args:
        path: a contiguous file of Blosc2.
        array: the same file, opened.
    """

    def __init__(self, path: Path, array: Any) -> None:
        self._path = path
        self._chunks: tuple[int, ...] = array.chunks
        grid = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
        borders = chunk_borders(path, array)
        self._first, self._end = borders[:-1].reshape(grid), borders[1:].reshape(grid)

    def ask(self, start: Sequence[int], shape: Sequence[int]) -> None:
        """Let the system begin to read what a box needs; this call waits for nothing."""
        if not hasattr(os, "posix_fadvise"):
            return
        file = os.open(self._path, os.O_RDONLY)
        try:
            for first, end in self.ranges(start, shape):
                os.posix_fadvise(file, first, end - first, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)

    def ranges(self, start: Sequence[int], shape: Sequence[int]) -> Iterator[tuple[int, int]]:
        """First byte and end of each run of the file that holds chunks of a box.

        Args:
            start: first voxel of the box on each axis.
            shape: voxels of the box, at least one on each axis.
        """
        x, y, z = (
            slice(s // c, (s + n - 1) // c + 1)
            for s, n, c in zip(start, shape, self._chunks, strict=True)
        )
        # Chunks that follow each other along the last axis do so in the file.
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


def chunk_borders(path: Path, array: Any) -> NDArray[np.int64]:
    """Byte at which each chunk begins, and the end of the last (chunks + 1).

    A chunk of equal values takes no bytes. The format is in "Blosc2 Contiguous Frame Format".
    """
    packed = array.schunk.cbytes
    with path.open("rb") as file:
        header = int.from_bytes(file.read(_HEADER_LENGTH.stop)[_HEADER_LENGTH], "big")
        # The table of the chunks' places comes after the last of them, packed as they are.
        file.seek(header + packed)
        table = file.read(_CHUNK_HEADER)
        table += file.read(int.from_bytes(table[_CHUNK_BYTES], "little") - len(table))
    places = np.frombuffer(blosc2.decompress2(table), np.int64)
    # Chunks without bytes have negative numbers there: they begin where the next one does.
    places = np.append(np.where(places < 0, packed, places), packed)
    borders: NDArray[np.int64] = np.minimum.accumulate(places[::-1])[::-1] + header
    return borders
