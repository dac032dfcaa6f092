"""The volume store: prepared volumes as compressed, chunked arrays from which crops are read.

One folder holds ``store.parquet`` and, by the running number of its rows, ``images/000000.b2nd``,
``labels/000000.b2nd``, ``native_labels/000000.b2nd`` and ``locations/000000.npy``. Numbers are used
because names of subjects can hold anything.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blosc2
import numpy as np
import pyarrow as pa

from voxseq.config.data import StoreConfig
from voxseq.data.index import SCHEMA as INDEX_SCHEMA
from voxseq.data.index import read_table, write_table
from voxseq.data.splits import words_of
from voxseq.data.types import Array
from voxseq.errors import IntegrityError

if TYPE_CHECKING:
    import pandas as pd

TABLE = "store.parquet"
#: Columns of the store's table. p_*: the prepared array; crop_*: the part of the reoriented image
#: that was kept, in its voxels; native_*: that image's shape. voxels: count by class, as JSON.
SCHEMA = pa.schema(
    [
        *INDEX_SCHEMA,
        *((f"p_{axis}", pa.int32()) for axis in "xyz"),
        *((f"p_spacing_{axis}", pa.float64()) for axis in "xyz"),
        *((f"crop_start_{axis}", pa.int32()) for axis in "xyz"),
        *((f"crop_shape_{axis}", pa.int32()) for axis in "xyz"),
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
    ) -> None:
        """Write one volume.

        Args:
            key: running number.
            image: (X, Y, Z); whole numbers that fit are kept as int16, else float32.
            label: (X, Y, Z) classes on the same grid, or None.
            row: the index's columns and the geometry; what follows from the voxels is added here.
            native_label: classes on the reoriented, uncropped grid, for scoring there.
        """
        if key in self._rows:
            raise ValueError(f"volume {key} is in the store already")
        self._write("images", key, compact(image))
        counts: dict[str, int] = {}
        if label is not None:
            classes = label.astype(np.uint8)
            self._write("labels", key, classes)
            positions = class_locations(classes, self.config.locations_per_class, row["volume_id"])
            self._write_locations(key, positions)
            found = np.bincount(classes.ravel())
            counts = {str(c): int(n) for c, n in enumerate(found) if n}
        if native_label is not None:
            self._write("native_labels", key, native_label.astype(np.uint8))
        low, high = np.percentile(image, (1.0, 99.9))
        self._rows[key] = {
            **row,
            **{f"p_{a}": int(n) for a, n in zip("xyz", image.shape, strict=True)},
            "p1": float(low),
            "p999": float(high),
            "voxels": json.dumps(counts, sort_keys=True),
            "has_label": label is not None,
            "has_native_label": native_label is not None,
        }

    def close(self) -> None:
        """Write the table."""
        keys = sorted(self._rows)
        if keys != list(range(len(keys))):
            raise ValueError("the volumes of a store are numbered from 0 without gaps")
        write_table(self.folder / TABLE, [self._rows[key] for key in keys], SCHEMA)

    def _write(self, kind: str, key: int, array: Array) -> None:
        chunks = tuple(min(c, n) for c, n in zip(self.config.chunk_shape, array.shape, strict=True))
        packed = blosc2.asarray(
            np.ascontiguousarray(array),
            chunks=chunks,
            blocks=tuple(min(c, _BLOCK_SIDE) for c in chunks),
            # The bytes of a sparse array are not the same from call to call.
            contiguous=True,
            cparams=blosc2.CParams(
                codec=blosc2.Codec.ZSTD, clevel=self.config.compression_level, nthreads=1
            ),
        )
        with _new_file(_path(self.folder, kind, key)) as file:
            file.write(packed.to_cframe())

    def _write_locations(self, key: int, positions: Mapping[int, Array]) -> None:
        table = np.concatenate(
            [np.insert(places, 0, number, axis=1) for number, places in positions.items()]
        ).astype(np.int32)
        with _new_file(_path(self.folder, "locations", key)) as file:
            np.save(file, table, allow_pickle=False)


class VolumeStore:
    """Reads a store. Crops touch only the chunks they need; open files are kept and reused.

    Args:
        folder: finished folder of a preprocess run.
        open_files: number of files kept open.
    """

    def __init__(self, folder: Path, open_files: int = 256) -> None:
        self.folder = folder
        self.table: pd.DataFrame = read_table(folder / TABLE)
        self._open_files = open_files
        self._arrays: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self.table)

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes open the files for themselves.
        return {**self.__dict__, "_arrays": OrderedDict()}

    def image(self, index: int) -> Any:
        """Image ``index`` as a blosc2 array (X, Y, Z), int16 or float32, read when sliced."""
        return self._open("images", index)

    def label(self, index: int) -> Any:
        """Its classes as a blosc2 array (X, Y, Z) uint8, read when sliced."""
        return self._open("labels", index)

    def native_label(self, index: int) -> Array:
        """Its classes on the reoriented, uncropped grid of the file, (X, Y, Z) uint8."""
        array: Array = self._open("native_labels", index)[...]
        return array

    def crop(self, index: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        """The box of ``shape`` voxels at ``start`` of image ``index``.

        Raises:
            ValueError: the box leaves the image.
        """
        return _crop(self.image(index), start, shape)

    def label_crop(self, index: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        """The same box of the classes."""
        return _crop(self.label(index), start, shape)

    def locations(self, index: int) -> dict[int, Array]:
        """For every class present, background included, voxel positions (n, 3) int32.

        They are a random sample of fixed seed of at most ``locations_per_class`` positions, sorted.
        """
        path = _path(self.folder, "locations", index)
        try:
            table = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from None
        return {int(c): table[table[:, 0] == c, 1:] for c in np.unique(table[:, 0])}

    def _open(self, kind: str, index: int) -> Any:
        key = (kind, int(index))
        array = self._arrays.get(key)
        if array is None:
            path = _path(self.folder, kind, int(index))
            try:
                array = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
            except (OSError, RuntimeError, ValueError) as error:
                raise _damaged(path, error) from None
            self._arrays[key] = array
            if len(self._arrays) > self._open_files:
                self._arrays.popitem(last=False)
        self._arrays.move_to_end(key)
        return array


def compact(array: Array) -> Array:
    """``array`` as int16 if that keeps every value, else as float32."""
    if array.dtype.kind in "bui":
        fits = array.min() >= _INT16.min and array.max() <= _INT16.max
        return array.astype(np.int16 if fits else np.float32)
    if array.min() >= _INT16.min and array.max() <= _INT16.max:
        whole = array.astype(np.int16)
        if np.array_equal(whole, array):
            return whole
    return array.astype(np.float32)


def class_locations(label: Array, most: int, volume_id: str) -> dict[int, Array]:
    """Positions of each class of ``label``; see :meth:`VolumeStore.locations`."""
    positions = {}
    for number in np.flatnonzero(np.bincount(label.ravel())):
        flat = np.flatnonzero(label == number)
        if len(flat) > most:
            rng = np.random.default_rng([int(number), *words_of(volume_id)])
            flat = np.sort(rng.choice(flat, most, replace=False))
        places = np.stack(np.unravel_index(flat, label.shape), axis=1)
        positions[int(number)] = places.astype(np.int32)
    return positions


def _path(folder: Path, kind: str, key: int) -> Path:
    return folder / kind / f"{key:06d}{'.npy' if kind == 'locations' else '.b2nd'}"


def _new_file(path: Path) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("xb")


def _crop(array: Any, start: Sequence[int], shape: Sequence[int]) -> Array:
    box = tuple(slice(int(s), int(s) + int(n)) for s, n in zip(start, shape, strict=True))
    if any(b.start < 0 or b.stop > n for b, n in zip(box, array.shape, strict=True)):
        raise ValueError(f"a box at {tuple(start)} of {tuple(shape)} leaves {array.shape}")
    crop: Array = array[box]
    return crop


def _damaged(path: Path, error: Exception) -> IntegrityError:
    return IntegrityError(f"{path}: missing or damaged ({error})", "run the stage preprocess again")
