"""The volume store: prepared volumes as compressed, chunked arrays from which crops are read.

One folder holds ``store.parquet`` and, by the running number of its rows, ``images/000000.b2nd``,
``labels/000000.b2nd``, ``native_labels/000000.b2nd`` and ``locations/000000.npy``. Numbers are used
because names of subjects can hold anything.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blosc2
import numpy as np
import pyarrow as pa

from voxseq.base.failures import read_named, unexplained_write_named, write_named
from voxseq.catalogue.splits import words_of
from voxseq.config.data import Codec, StoreConfig
from voxseq.data.index import DETAIL, read_table, write_table
from voxseq.data.index import SCHEMA as INDEX_SCHEMA
from voxseq.data.packed import FILE_BYTES, PackedArray, damaged
from voxseq.data.slabs import class_counts, percentiles, slabs
from voxseq.data.volume import Array

if TYPE_CHECKING:
    import pandas as pd

TABLE = "store.parquet"
#: Columns of the store's table. p_*: the prepared array; crop_*: the part of the reoriented image
#: that its voxels cover, in voxels of that image, which need not be whole; native_*: that image's
#: shape. voxels: count by class, as JSON.
SCHEMA = pa.schema(
    [
        *(field for field in INDEX_SCHEMA if field.name not in ("files", DETAIL)),
        *((f"p_{axis}", pa.int32()) for axis in "xyz"),
        *((f"p_spacing_{axis}", pa.float64()) for axis in "xyz"),
        *((f"crop_start_{axis}", pa.float64()) for axis in "xyz"),
        *((f"crop_shape_{axis}", pa.float64()) for axis in "xyz"),
        *((f"native_{axis}", pa.int32()) for axis in "xyz"),
        ("p1", pa.float64()),
        ("p999", pa.float64()),
        ("voxels", pa.string()),
        ("has_label", pa.bool_()),
        ("has_native_label", pa.bool_()),
    ]
)
_INT16 = np.iinfo(np.int16)
#: Blosc2 would choose blocks by the size of this machine's caches; a fixed size keeps the bytes.
#: A crop unpacks whole blocks: 16 reads crops of 24 voxels twice as fast as 32, and packs as well.
_BLOCK_SIDE = 16
_CODECS: Mapping[Codec, blosc2.Codec] = {
    "lz4": blosc2.Codec.LZ4,
    "lz4hc": blosc2.Codec.LZ4HC,
    "zstd": blosc2.Codec.ZSTD,
}


class StoreWriter:
    """Writes a store; files are new ones, and the table comes last.

    Args:
        folder: empty folder.
        config: chunks, compression and number of voxel positions kept for each class.
    """

    def __init__(self, folder: Path, config: StoreConfig) -> None:
        self.folder = folder
        self.config = config
        self._rows: dict[int, dict[str, Any]] = {}

    def add(
        self,
        key: int,
        image: Array,
        label: Array | None,
        row: Mapping[str, Any],
        native_label: Array | None = None,
        floor: float | None = None,
    ) -> None:
        """Write one volume; none of its arrays is copied as a whole.

        Args:
            key: running number.
            image: (X, Y, Z); whole numbers that fit are kept as int16, else float32.
            label: (X, Y, Z) classes on the same grid, or None.
            row: the index's columns and the geometry; what follows from the voxels is added here.
            native_label: classes on the reoriented, uncropped grid, for scoring there.
            floor: only background above it gives locations of class 0; None: all of it does.
        """
        if key in self._rows:
            raise ValueError(f"volume {key} is in the store already")
        self._write("images", key, image, stored_type(image))
        counts: dict[str, int] = {}
        if label is not None:
            classes = label.astype(np.uint8, copy=False)
            self._write("labels", key, classes, classes.dtype)
            most = self.config.locations_per_class
            shown = None if floor is None else (image, floor)
            positions = class_locations(classes, most, row["volume_id"], shown)
            self._write_locations(key, positions)
            counts = {str(c): int(n) for c, n in enumerate(class_counts(classes)) if n}
        if native_label is not None:
            self._write("native_labels", key, native_label, np.dtype(np.uint8))
        low, high = percentiles(image, (1.0, 99.9))
        self._rows[key] = {
            **row,
            **{f"p_{a}": int(n) for a, n in zip("xyz", image.shape, strict=True)},
            "p1": float(low),
            "p999": float(high),
            "voxels": json.dumps(counts, sort_keys=True),
            "has_label": label is not None,
            "has_native_label": native_label is not None,
        }

    def row(self, key: int) -> Mapping[str, Any]:
        """Row of the table of a volume that was added."""
        return self._rows[key]

    def adopt(self, key: int, row: Mapping[str, Any]) -> None:
        """Take the row of a volume whose files another writer has made and that lie here."""
        self._rows[key] = dict(row)

    def close(self) -> None:
        """Write the table."""
        keys = sorted(self._rows)
        if keys != list(range(len(keys))):
            raise ValueError("the volumes of a store are numbered from 0 without gaps")
        write_table(self.folder / TABLE, [self._rows[key] for key in keys], SCHEMA)

    def _write(self, kind: str, key: int, array: Array, dtype: np.dtype[Any]) -> None:
        path = _path(self.folder, kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_named(path):
            # Blosc2 would write over an existing file.
            path.open("xb").close()
        with unexplained_write_named(path):
            self._pack(path, array, dtype)
            self._require_written(path, array, dtype)

    def _pack(self, path: Path, array: Array, dtype: np.dtype[Any]) -> None:
        chunks = tuple(min(c, n) for c, n in zip(self.config.chunk_shape, array.shape, strict=True))
        # The high bytes of neighbouring voxels are alike. Shuffling bits packs LZ4 tighter where
        # there is noise, but takes as long to undo as the rest of the reading.
        shuffle = blosc2.Filter.SHUFFLE if dtype.itemsize > 1 else blosc2.Filter.NOFILTER
        packed = blosc2.empty(
            array.shape,
            dtype=dtype,
            chunks=chunks,
            blocks=tuple(min(c, _BLOCK_SIDE) for c in chunks),
            urlpath=str(path),
            mode="w",
            # The bytes of a sparse array are not the same from call to call.
            contiguous=True,
            cparams=blosc2.CParams(
                codec=_CODECS[self.config.codec],
                clevel=self.config.compression_level,
                filters=[shuffle],
                filters_meta=[0],
                nthreads=1,
            ),
        )
        # Chunks in their order give the same bytes as the whole array at once.
        for start in range(0, array.shape[0], chunks[0]):
            rows = slice(start, min(start + chunks[0], array.shape[0]))
            packed[rows] = np.ascontiguousarray(array[rows], dtype=dtype)

    def _require_written(self, path: Path, array: Array, dtype: np.dtype[Any]) -> None:
        """Compare a file with what it was made from: Blosc2 does not tell of every failed write."""
        packed = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
        for start in range(0, array.shape[0], packed.chunks[0]):
            rows = slice(start, min(start + packed.chunks[0], array.shape[0]))
            if not np.array_equal(packed[rows], array[rows].astype(dtype, copy=False), True):
                raise RuntimeError("what was read again differs")

    def _write_locations(self, key: int, positions: Mapping[int, Array]) -> None:
        table = np.concatenate(
            [np.insert(places, 0, number, axis=1) for number, places in positions.items()]
        ).astype(np.int32)
        path = _path(self.folder, "locations", key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_named(path), path.open("xb") as file:
            np.save(file, table, allow_pickle=False)


class VolumeStore:
    """Reads a store. Crops touch only the chunks they need; open files are kept and reused.

    Of a volume that takes no more memory than an open file, the voxels are kept instead.

    Args:
        folder: finished folder of a preprocess run.
        open_files: number of files kept open, or volumes that take the same memory.
    """

    def __init__(self, folder: Path, open_files: int = 64) -> None:
        self.folder = folder
        self.table: pd.DataFrame = read_table(folder / TABLE)
        self._room = open_files * FILE_BYTES
        self._arrays: OrderedDict[tuple[str, int, int], PackedArray] = OrderedDict()

    def __len__(self) -> int:
        return len(self.table)

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes open the files for themselves.
        room = self._room + sum(array.memory for array in self._arrays.values())
        return {**self.__dict__, "_arrays": OrderedDict(), "_room": room}

    def image(self, index: int) -> Any:
        """Image ``index`` as an array (X, Y, Z), int16 or float32, that is read when sliced."""
        return self._open("images", index).values

    def label(self, index: int) -> Any:
        """Its classes as an array (X, Y, Z) uint8 that is read when sliced."""
        return self._open("labels", index).values

    def native_label(self, index: int) -> Array:
        """Its classes on the reoriented, uncropped grid of the file, (X, Y, Z) uint8."""
        return self._open("native_labels", index).read()

    def crop(self, index: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        """The box of ``shape`` voxels at ``start`` of image ``index``.

        Raises:
            ValueError: the box leaves the image.
        """
        return self._open("images", index).crop(start, shape)

    def shape(self, index: int) -> tuple[int, int, int]:
        """Voxels of image ``index``."""
        x, y, z = self._open("images", index).values.shape
        return x, y, z

    def dtype(self, index: int) -> np.dtype[Any]:
        """Type of the voxels of image ``index``."""
        found: np.dtype[Any] = self._open("images", index).values.dtype
        return found

    def crop_into(self, index: int, start: Sequence[int], shape: Sequence[int], out: Array) -> None:
        """:meth:`crop` into memory of that shape and type."""
        out[...] = self.crop(index, start, shape)

    def label_crop(self, index: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        """The same box of the classes."""
        return self._open("labels", index).crop(start, shape)

    def locations(self, index: int) -> dict[int, Array]:
        """For every class present, background included, voxel positions (n, 3) int32.

        Of the background, those are taken that are above the image's floor, if there are any.
        They are a random sample of fixed seed of at most ``locations_per_class`` positions, sorted.
        """
        path = _path(self.folder, "locations", index)
        try:
            with read_named(path):
                table = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise damaged(path, error) from None
        return {int(c): table[table[:, 0] == c, 1:] for c in np.unique(table[:, 0])}

    def _open(self, kind: str, index: int) -> PackedArray:
        # A forked worker opens files of its own.
        key = (kind, int(index), os.getpid())
        if key not in self._arrays:
            found = PackedArray(_path(self.folder, *key[:2]))
            self._room -= found.memory
            while self._room < 0:
                self._room += self._arrays.popitem(last=False)[1].memory
            self._arrays[key] = found
        self._arrays.move_to_end(key)
        return self._arrays[key]


def class_locations(
    label: Array, most: int, volume_id: str, shown: tuple[Array, float] | None = None
) -> dict[int, Array]:
    """Voxel positions of each class, for the centres of crops; see :meth:`VolumeStore.locations`.

    Args:
        label: (X, Y, Z) uint8.
        most: positions of a class.
        volume_id: for the seed.
        shown: the image (X, Y, Z), and the value above which background counts (published code: the
            window's lower end). Where no background lies above it, all of it counts.
    """
    boxes = list(slabs(label, axis=0))
    counts = np.stack([class_counts(label[box]) for box in boxes])
    if shown is not None:
        image, floor = shown
        above = [np.count_nonzero((label[b] == 0) & (image[b] > floor)) for b in boxes]
        if any(above):
            counts[:, 0] = above
        else:
            shown = None
    positions = {}
    for number in np.flatnonzero(counts.any(axis=0)).tolist():
        total = int(counts[:, number].sum())
        # Which of the class's voxels, counted in C order.
        chosen = np.arange(min(total, most))
        if total > most:
            rng = np.random.default_rng([number, *words_of(volume_id)])
            chosen = np.sort(rng.choice(total, most, replace=False))
        borders = np.append(0, np.cumsum(counts[:, number]))
        ends = np.searchsorted(chosen, borders)
        found = []
        for i, box in enumerate(boxes):
            if ends[i] < ends[i + 1]:
                mask = label[box] == number
                if number == 0 and shown is not None:
                    mask &= shown[0][box] > shown[1]
                inside = np.flatnonzero(mask)[chosen[ends[i] : ends[i + 1]] - borders[i]]
                found.append(inside + box[0].start * label[0].size)
        places = np.stack(np.unravel_index(np.concatenate(found), label.shape), axis=1)
        positions[number] = places.astype(np.int32)
    return positions


def stored_type(array: Array) -> np.dtype[Any]:
    """Type in which the store keeps ``array``: int16 if that keeps every value, else float32."""
    small, wide = np.dtype(np.int16), np.dtype(np.float32)
    if not (array.min() >= _INT16.min and array.max() <= _INT16.max):
        return wide
    if array.dtype.kind == "f":
        for box in slabs(array):
            if not np.array_equal(array[box].astype(small), array[box]):
                return wide
    return small


def _path(folder: Path, kind: str, key: int) -> Path:
    return folder / kind / f"{key:06d}{'.npy' if kind == 'locations' else '.b2nd'}"
