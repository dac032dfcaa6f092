"""The packed arrays of a store: opening one, and reading a box of it.

Blosc2 reads a file block by block. From a disk, each of these small reads waits for the one before,
and the system reads on behind it what no one wants. So the system is asked for the bytes of a box
in one go, before they are unpacked piece by piece.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_twice
from voxseq.data.volume import Array

#: Bytes that an open file takes, and up to which the voxels are kept instead.
FILE_BYTES = 2**17
#: Where the length of a file's header stands in it: 4 bytes, the highest first.
_HEADER_LENGTH = slice(11, 15)
#: Where a chunk says how many bytes it has: 4 bytes, the lowest first.
_CHUNK_BYTES = slice(12, 16)
_CHUNK_HEADER = 32


class PackedArray:
    """An array (X, Y, Z) in a contiguous file of Blosc2.

    Args:
        path: the file.

    Attributes:
        values: an array that is read when sliced; of one that takes no more memory than an open
            file, all of its voxels, which cannot be changed.

    Raises:
        IntegrityError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.values: Any = read_twice(path, self._open)
        except (OSError, RuntimeError, ValueError) as error:
            raise damaged(path, error) from None

    def _open(self) -> Any:
        array = blosc2.open(str(self.path), mode="r", dparams=blosc2.DParams(nthreads=1))
        self.is_kept = array.nbytes <= FILE_BYTES
        if self.is_kept:
            voxels = array[...]
            voxels.flags.writeable = False
            return voxels
        grid = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
        borders = chunk_borders(self.path, array)
        self._first, self._end = borders[:-1].reshape(grid), borders[1:].reshape(grid)
        return array

    @property
    def memory(self) -> int:
        """Bytes that it takes while it is open."""
        return int(self.values.nbytes) if self.is_kept else FILE_BYTES

    def crop(self, start: Sequence[int], shape: Sequence[int]) -> Array:
        """The box of ``shape`` voxels at ``start``.

        Raises:
            ValueError: the box leaves the array.
        """
        ends = [int(s) + int(n) for s, n in zip(start, shape, strict=True)]
        if min(start) < 0 or any(e > n for e, n in zip(ends, self.values.shape, strict=True)):
            raise ValueError(
                f"a box at {tuple(start)} of {tuple(shape)} leaves {self.values.shape}"
            )
        if not self.is_kept and hasattr(os, "posix_fadvise"):
            file = os.open(self.path, os.O_RDONLY)
            try:
                for first, end in self.ranges(start, shape):
                    # The system begins to read; the call waits for nothing.
                    os.posix_fadvise(file, first, end - first, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(file)
        return self.read(tuple(slice(int(s), e) for s, e in zip(start, ends, strict=True)))

    def read(self, box: Any = ...) -> Array:
        """Voxels of a box, in memory of their own."""
        if self.is_kept:
            kept: Array = self.values[box].copy()
            return kept
        try:
            values: Array = read_twice(self.path, lambda: self.values[box])
        except RuntimeError as error:
            raise damaged(self.path, error) from None
        return values

    def ranges(self, start: Sequence[int], shape: Sequence[int]) -> Iterator[tuple[int, int]]:
        """First byte and end of each run of the file that holds chunks of a box.

        Args:
            start: first voxel of the box on each axis.
            shape: voxels of the box, at least one on each axis.
        """
        x, y, z = (
            slice(s // c, (s + n - 1) // c + 1)
            for s, n, c in zip(start, shape, self.values.chunks, strict=True)
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


def damaged(path: Path, error: Exception) -> IntegrityError:
    """The error for a file of a store that cannot be read."""
    return IntegrityError(f"{path}: missing or damaged ({error})", "run the stage preprocess again")
