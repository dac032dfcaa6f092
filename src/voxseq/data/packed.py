"""Reading boxes of packed arrays: one read for each run of neighbouring chunks, no more.

Chunks that follow each other in a shard are read at once and unpacked from memory. Blosc2 unpacks
parts of arrays, not of single chunks, so they are put into a small array in memory, of one layer of
chunks along the first axis, and the box is cut out of it layer by layer: only blocks that the box
touches are unpacked.
"""

from __future__ import annotations

import math
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.config.base import Shape3
from voxseq.data.shards import Place
from voxseq.data.volume import Array

#: Bytes of a volume up to which its voxels are kept when it is first read.
KEPT_BYTES = 2**17
#: Bytes that are read at once, at most, where more than one row of chunks could be.
RUN_BYTES = 2**26
#: Layers of chunks that are kept for the next boxes.
_LAYERS = 16
#: Folder of copies of stores on a local disk (:mod:`voxseq.data.copies`).
COPIES = "voxseq-stores"
#: How a chunk says how many bytes it has, and where.
_CHUNK_BYTES, _CHUNK_BYTES_AT = struct.Struct("<i"), 12


class ShardFile:
    """A shard that is open for reading; closed when nothing refers to it.

    Args:
        path: the file.

    Raises:
        IntegrityError: it is missing.
        ResourceError: the machine failed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with read_named(path):
                self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise damaged(path, error) from None

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def announce(self, first: int, end: int) -> None:
        """Let the system read some bytes, where it can, and wait for nothing."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, first, end - first, os.POSIX_FADV_WILLNEED)

    def read(self, first: int, end: int) -> memoryview:
        """The bytes from ``first`` on and before ``end``.

        Raises:
            ValueError: the file ends before.
            OSError: the machine failed.
        """
        content = os.pread(self._descriptor, end - first, first)
        if len(content) < end - first:
            raise ValueError("it is too short")
        return memoryview(content)


class PackedArray:
    """An array (X, Y, Z) in a shard.

    Args:
        file: the shard.
        place: where the array is in it.

    Attributes:
        shape: its voxels.
        dtype: their type.
        memory: bytes that it takes while it is open.

    Raises:
        IntegrityError: the array is small and its bytes are missing or damaged.
    """

    def __init__(self, file: ShardFile, place: Place) -> None:
        self.shape, self.dtype = place.shape, np.dtype(place.dtype)
        self._file, self._place = file, place
        grid = [-(-n // c) for n, c in zip(place.shape, place.chunks, strict=True)]
        ends = place.offset + np.cumsum(place.sizes, dtype=np.int64)
        self._end = ends.reshape(grid)
        self._first = (ends - place.sizes).reshape(grid)
        self.memory = 2 * ends.nbytes
        self._kept: Array | None = None
        if math.prod(self.shape) * self.dtype.itemsize <= KEPT_BYTES:
            self._kept = self.crop((0, 0, 0), self.shape)
            self.memory += self._kept.nbytes

    def crop(self, start: Sequence[int], shape: Sequence[int]) -> Array:
        """The box of ``shape`` voxels at ``start``, in memory of its own.

        Raises:
            ValueError: the box leaves the array.
            IntegrityError: its bytes are missing or damaged.
        """
        out = np.empty(tuple(int(n) for n in shape), self.dtype)
        self.crop_into(start, shape, out)
        return out

    def crop_into(self, start: Sequence[int], shape: Sequence[int], out: Array) -> None:
        """Write the box of ``shape`` voxels at ``start`` to ``out``.

        Args:
            start: its first voxel.
            shape: its voxels.
            out: array of that shape and of the array's type, in C order.

        Raises:
            ValueError: the box leaves the array, or ``out`` is another array.
            IntegrityError: the box's bytes are missing or damaged.
        """
        box = [(int(s), int(s) + int(n)) for s, n in zip(start, shape, strict=True)]
        if any(first < 0 or end > n for (first, end), n in zip(box, self.shape, strict=True)):
            raise ValueError(f"a box at {tuple(start)} of {tuple(shape)} leaves {self.shape}")
        wanted = (tuple(end - first for first, end in box), self.dtype, True, True)
        if (out.shape, out.dtype, out.flags.c_contiguous, out.flags.writeable) != wanted:
            raise ValueError(
                f"a box of {tuple(shape)} {self.dtype} does not go into {out.dtype} {out.shape}"
            )
        if self._kept is not None:
            out[...] = self._kept[tuple(slice(*ends) for ends in box)]
        elif out.size:
            try:
                with read_named(self._file.path):
                    self._unpack(box, out)
            except (RuntimeError, ValueError) as error:
                raise damaged(self._file.path, error) from None

    def _unpack(self, box: Sequence[tuple[int, int]], out: Array) -> None:
        chunks = self._place.chunks
        touched = [range(s // c, -(-e // c)) for (s, e), c in zip(box, chunks, strict=True)]
        cut = tuple(slice(axis.start, axis.stop) for axis in touched)
        # Plain numbers: NumPy takes longer to hand one out than it takes to be used.
        layers = [*zip(self._first[cut].tolist(), self._end[cut].tolist(), strict=True)]
        for first, end in layers:
            for begin, stop in _runs(first, end):
                self._file.announce(first[begin][0], end[stop - 1][-1])
        width, scratch = _SCRATCH.layer(self._place, len(touched[1]), len(touched[2]))
        (x, x_end), *plane = box
        low, high = zip(
            *(
                (s - axis.start * c, e - axis.start * c)
                for (s, e), axis, c in zip(plane, touched[1:], chunks[1:], strict=True)
            ),
            strict=True,
        )
        written = 0
        for number, (first, end) in zip(touched[0], layers, strict=True):
            self._fill(scratch.schunk, width, first, end)
            start = max(x - number * chunks[0], 0)
            stop = min(x_end - number * chunks[0], chunks[0])
            part = out[written : written + stop - start]
            scratch.get_slice_numpy(part, ((start, *low), (stop, *high)))
            written += len(part)

    def _fill(self, schunk: Any, width: int, first: Any, end: Any) -> None:
        """Put the chunks of one layer, (Y, Z) first bytes and ends, in their places there."""
        for begin, stop in _runs(first, end):
            base = first[begin][0]
            content = self._file.read(base, end[stop - 1][-1])
            for row in range(begin, stop):
                place = row * width
                for chunk, chunk_end in zip(first[row], end[row], strict=True):
                    # Blosc2 copies as many bytes as the chunk says that it has.
                    said = _CHUNK_BYTES.unpack_from(content, chunk - base + _CHUNK_BYTES_AT)
                    if said[0] != chunk_end - chunk:
                        raise ValueError("a chunk has another size than it says")
                    schunk.update_chunk(place, content[chunk - base : chunk_end - base])
                    place += 1


class _Scratch(threading.local):
    """Arrays in memory of one layer of chunks, by the way they are packed, to be used again."""

    def __init__(self) -> None:
        self._layers: OrderedDict[tuple[str, Shape3, Shape3], tuple[int, int, Any]] = OrderedDict()

    def layer(self, place: Place, rows: int, columns: int) -> tuple[int, Any]:
        """A layer of at least so many chunks along the second and third axis, and its columns."""
        key = (place.dtype, place.chunks, place.blocks)
        has_rows, has_columns, array = self._layers.get(key, (0, 0, None))
        if has_rows < rows or has_columns < columns:
            has_rows, has_columns = max(rows, has_rows), max(columns, has_columns)
            x, y, z = place.chunks
            array = blosc2.empty(
                (x, has_rows * y, has_columns * z),
                dtype=np.dtype(place.dtype),
                chunks=place.chunks,
                blocks=place.blocks,
                cparams=blosc2.CParams(nthreads=1),
                dparams=blosc2.DParams(nthreads=1),
            )
            self._layers[key] = has_rows, has_columns, array
            if len(self._layers) > _LAYERS:
                self._layers.popitem(last=False)
        self._layers.move_to_end(key)
        return has_columns, array


_SCRATCH = _Scratch()


def _runs(
    first: Sequence[Sequence[int]], end: Sequence[Sequence[int]]
) -> Iterator[tuple[int, int]]:
    """Rows of chunks that follow each other in the file and are read together.

    Args:
        first: (Y, Z) byte at which each chunk begins; chunks of one row follow each other.
        end: (Y, Z) byte at which it ends.

    Yields:
        First row, and the one after the last.
    """
    begin = 0
    for row in range(1, len(first)):
        is_apart = first[row][0] != end[row - 1][-1]
        if is_apart or end[row][-1] - first[begin][0] > RUN_BYTES:
            yield begin, row
            begin = row
    yield begin, len(first)


def damaged(path: Path, error: Exception) -> IntegrityError:
    """The error for a file of a store that cannot be read."""
    hint = "run the stage preprocess again"
    if COPIES in path.parts:
        hint = f"delete the folder {path.parent}, a copy of a store, then start again"
    return IntegrityError(f"{path}: missing or damaged ({error})", hint)
