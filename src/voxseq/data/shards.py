"""Shards, the large files of a volume store, and the table of the arrays in them.

A shard is nothing but packed chunks of Blosc2, one after another. ``places.parquet`` says where
each array is and how it is packed, so that no array has a file or a header of its own: a store of
thousands of volumes has tens of files, and no file is read to find out what is where.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import blosc2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from voxseq.base.failures import write_named
from voxseq.config.base import Shape3
from voxseq.config.data import Codec
from voxseq.data.index import numbers, read_arrow, write_table
from voxseq.data.volume import Array

PLACES = "places.parquet"
#: Pattern of the names of shards.
SHARDS = "volumes-*.bin"
#: A shard that has as many bytes gets no further volume.
SHARD_BYTES = 2 * 10**9
#: Bytes that are copied at a time.
_PIECE = 1 << 20
_SHAPES = ("shape", "chunks", "blocks")
_SCHEMA = pa.schema(
    [
        ("volume", pa.int32()),
        ("kind", pa.string()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("dtype", pa.string()),
        *((name, pa.list_(pa.int32())) for name in _SHAPES),
        ("sizes", pa.list_(pa.uint32())),
    ]
)
_CODECS: Mapping[Codec, blosc2.Codec] = {
    "lz4": blosc2.Codec.LZ4,
    "lz4hc": blosc2.Codec.LZ4HC,
    "zstd": blosc2.Codec.ZSTD,
}


@dataclass(frozen=True)
class Place:
    """Where an array (X, Y, Z) is, and how it is packed.

    Attributes:
        shard: number of the file.
        offset: its first byte there.
        dtype: name of its type.
        shape: its voxels.
        chunks: voxels that are packed together; those at the end of an axis are filled up.
        blocks: voxels of a chunk that can be unpacked alone.
        sizes: bytes of each chunk, uint32, in C order.
    """

    shard: int
    offset: int
    dtype: str
    shape: Shape3
    chunks: Shape3
    blocks: Shape3
    sizes: NDArray[np.uint32]


@dataclass(frozen=True)
class Packing:
    """How an array is packed.

    Attributes:
        chunks: voxels that are packed together, at most.
        blocks: voxels of a chunk that can be unpacked alone, at most.
        codec: name of the codec.
        level: 0 to 9.
    """

    chunks: Shape3
    blocks: Shape3
    codec: Codec
    level: int


class ShardWriter:
    """Writes shards, which are new files, and their table in the end.

    A volume is never divided between shards, and which one it is in depends on the sizes of those
    before it alone.

    Args:
        folder: empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: BinaryIO | None = None
        self._shard, self._bytes = -1, SHARD_BYTES
        self._places: dict[tuple[int, str], Place] = {}

    def begin_volume(self) -> None:
        """Say that the arrays of another volume follow."""
        if self._bytes < SHARD_BYTES:
            return
        self.flush()
        self._shard, self._bytes = self._shard + 1, 0
        path = shard_path(self.folder, self._shard)
        with write_named(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Large writes leave the file in large pieces of memory, which are read faster.
            self._file = path.open("xb", buffering=_PIECE)

    def write(
        self, volume: int, kind: str, array: Array, dtype: np.dtype[Any], packing: Packing
    ) -> None:
        """Pack an array (X, Y, Z) as ``dtype``; no copy is made of all of it."""
        chunks = _fitting(packing.chunks, array.shape)
        blocks = _fitting(packing.blocks, chunks)
        offset, sizes = self._bytes, []
        for chunk in _packed(array, dtype, chunks, blocks, packing):
            self._write(chunk)
            sizes.append(len(chunk))
        x, y, z = array.shape
        self._places[volume, kind] = Place(
            self._shard, offset, dtype.name, (x, y, z), chunks, blocks, np.array(sizes, np.uint32)
        )

    def record(self, volume: int) -> dict[str, Any]:
        """The places of a volume's arrays as plain numbers, for :meth:`adopt`."""
        return {
            kind: asdict(place) | {"sizes": place.sizes.tolist()}
            for (number, kind), place in self._places.items()
            if number == volume
        }

    def adopt(self, volume: int, record: Mapping[str, Any], folder: Path) -> None:
        """Append a volume that another writer has packed alone.

        Args:
            volume: its number here.
            record: of the other writer.
            folder: of the other writer.
        """
        self.begin_volume()
        path, start = shard_path(folder, 0), self._bytes
        for kind, one in record.items():
            here = {"shard": self._shard, "offset": start + one["offset"]}
            sizes = np.array(one["sizes"], np.uint32)
            self._places[volume, kind] = Place(**{**one, **here, "sizes": sizes})
        assert self._file is not None
        with write_named(shard_path(self.folder, self._shard)), path.open("rb") as piece:
            shutil.copyfileobj(piece, self._file, _PIECE)
            self._bytes = self._file.tell()

    def flush(self) -> None:
        """Close the shard, so that all of it is on its way to the disk."""
        if self._file is not None:
            with write_named(shard_path(self.folder, self._shard)):
                self._file.close()
            self._file = None

    def close(self) -> None:
        """Write the table of the arrays."""
        self.flush()
        rows = [
            {"volume": volume, "kind": kind, **asdict(place)}
            for (volume, kind), place in sorted(self._places.items(), key=lambda item: item[0])
        ]
        write_table(self.folder / PLACES, rows, _SCHEMA)

    def _write(self, chunk: bytes) -> None:
        assert self._file is not None
        with write_named(shard_path(self.folder, self._shard)):
            self._file.write(chunk)
        self._bytes += len(chunk)


class Places:
    """The table of a store's arrays.

    Args:
        folder: of the store.

    Raises:
        IntegrityError: the table is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        table = read_arrow(folder / PLACES)
        column = {name: table[name].combine_chunks() for name in _SCHEMA.names}
        self._rows = {
            key: row
            for row, key in enumerate(
                zip(column["volume"].to_pylist(), column["kind"].to_pylist(), strict=True)
            )
        }
        self._dtypes = column["dtype"].to_pylist()
        self._numbers = np.stack([numbers(column[name]) for name in ("shard", "offset")], axis=1)
        self._shapes = np.stack(
            [numbers(column[name].flatten()).reshape(-1, 3) for name in _SHAPES], axis=1
        )
        # One array for all: processes forked from this one share it.
        self._sizes = numbers(column["sizes"].flatten())
        self._borders = numbers(column["sizes"].offsets)
        # Unpacking took several times the memory of the numbers.
        del table
        pa.default_memory_pool().release_unused()

    def find(self, volume: int, kind: str) -> Place | None:
        """Where an array is; None where the store has none of the kind for the volume."""
        row = self._rows.get((volume, kind))
        if row is None:
            return None
        shard, offset = self._numbers[row].tolist()
        shape, chunks, blocks = map(tuple, self._shapes[row].tolist())
        sizes = self._sizes[self._borders[row] : self._borders[row + 1]]
        return Place(shard, offset, self._dtypes[row], shape, chunks, blocks, sizes)


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"volumes-{number:03d}.bin"


def _fitting(wanted: Shape3, shape: Sequence[int]) -> Shape3:
    x, y, z = (min(w, n) for w, n in zip(wanted, shape, strict=True))
    return (x, y, z)


def _packed(
    array: Array, dtype: np.dtype[Any], chunks: Shape3, blocks: Shape3, packing: Packing
) -> Iterator[bytes]:
    """Chunks of an array in C order, the same bytes each time."""
    # The high bytes of neighbouring voxels are alike. Shuffling bits packs LZ4 tighter where
    # there is noise, but takes as long to undo as the rest of the reading.
    shuffle = blosc2.Filter.SHUFFLE if dtype.itemsize > 1 else blosc2.Filter.NOFILTER
    settings = blosc2.CParams(
        codec=_CODECS[packing.codec],
        clevel=packing.level,
        filters=[shuffle],
        filters_meta=[0],
        nthreads=1,
    )
    for start in range(0, array.shape[0], chunks[0]):
        rows = np.ascontiguousarray(array[start : start + chunks[0]], dtype=dtype)
        # Zeros, because what fills a chunk up is packed with it.
        layer = blosc2.zeros(
            (chunks[0], *array.shape[1:]),
            dtype=dtype,
            chunks=chunks,
            blocks=blocks,
            cparams=settings,
        )
        layer[: len(rows)] = rows
        for number in range(layer.schunk.nchunks):
            yield layer.schunk.get_chunk(number)
