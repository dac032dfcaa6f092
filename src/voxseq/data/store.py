"""The volume store: prepared volumes as compressed, chunked arrays from which crops are read.

One folder holds ``store.parquet``, a row for each volume, and its images, one array for each
channel, labels, native labels and locations in shards, ``volumes-000.bin`` and so on
(:mod:`voxseq.data.shards`), by the running number of its row: names of subjects can hold anything.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from voxseq.base.errors import IntegrityError
from voxseq.catalogue.splits import words_of
from voxseq.config.base import Shape3
from voxseq.config.data import StoreConfig
from voxseq.data.index import DETAIL, read_arrow, write_table
from voxseq.data.index import SCHEMA as INDEX_SCHEMA
from voxseq.data.packed import KEPT_BYTES, PackedArray, ShardFile
from voxseq.data.shards import PLACES, Packing, Place, Places, ShardWriter, shard_path
from voxseq.data.slabs import Box, class_counts, percentiles, slabs
from voxseq.data.volume import Array

TABLE = "store.parquet"
#: Columns of the store's table. p_*: the prepared array; crop_*: the part of the reoriented image
#: that its voxels cover, in voxels of that image, which need not be whole; native_*: that image's
#: shape. voxels: count by class, as JSON. channel: name of the one channel that a source's volume
#: is; "" where images have one alone. p1, p999: percentiles of the first channel.
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
        ("channel", pa.string()),
        ("has_label", pa.bool_()),
        ("has_native_label", pa.bool_()),
    ]
)
_INT16 = np.iinfo(np.int16)
#: Blosc2 would choose blocks by the size of this machine's caches; a fixed size keeps the bytes.
#: A crop unpacks whole blocks: 16 reads crops of 24 voxels twice as fast as 32, and packs as well.
_BLOCKS = (16, 16, 16)
#: Locations are read as a whole.
_LOCATION_ROWS = (2**14, 4, 1)


class StoreWriter:
    """Writes a store; files are new ones, and the tables come last.

    Args:
        folder: empty folder.
        config: chunks, compression and number of voxel positions kept for each class.
    """

    def __init__(self, folder: Path, config: StoreConfig) -> None:
        self.folder = folder
        self.config = config
        self._rows: dict[int, dict[str, Any]] = {}
        self._shards = ShardWriter(folder)

    def add(
        self,
        key: int,
        image: Array,
        label: Array | None,
        row: Mapping[str, Any],
        native_label: Array | None = None,
        floors: Sequence[float] | None = None,
    ) -> None:
        """Write one volume; none of its arrays is copied as a whole.

        Args:
            key: running number.
            image: (X, Y, Z), or (C, X, Y, Z) of several channels; whole numbers that fit are kept
                as int16, else float32, channel by channel.
            label: (X, Y, Z) classes on the same grid, or None.
            row: the index's columns and the geometry; what follows from the voxels is added here.
            native_label: classes on the reoriented, uncropped grid, for scoring there.
            floors: of each channel: only background above one of them gives locations of class 0;
                None: all of it does.
        """
        if key in self._rows:
            raise ValueError(f"volume {key} is in the store already")
        self._shards.begin_volume()
        channels = image[None] if image.ndim == 3 else image
        for number, channel in enumerate(channels):
            self._write(image_kind(number), key, channel, stored_type(channel))
        counts: dict[str, int] = {}
        if label is not None:
            classes = label.astype(np.uint8, copy=False)
            self._write("labels", key, classes, classes.dtype)
            most = self.config.locations_per_class
            shown = None if floors is None else [*zip(channels, floors, strict=True)]
            positions = class_locations(classes, most, row["volume_id"], shown)
            self._write_locations(key, positions)
            counts = {str(c): int(n) for c, n in enumerate(class_counts(classes)) if n}
        if native_label is not None:
            self._write("native_labels", key, native_label, np.dtype(np.uint8))
        low, high = percentiles(channels[0], (1.0, 99.9))
        self._rows[key] = {
            "channel": "",
            **row,
            **{f"p_{a}": int(n) for a, n in zip("xyz", channels.shape[1:], strict=True)},
            "p1": float(low),
            "p999": float(high),
            "voxels": json.dumps(counts, sort_keys=True),
            "has_label": label is not None,
            "has_native_label": native_label is not None,
        }

    def piece(self, key: int) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Row and places of the one volume that was added, for :meth:`adopt` of another store.

        The folder then holds the volume, all of it written; this store is not closed.
        """
        self._shards.flush()
        return self._rows[key], self._shards.record(key)

    def adopt(
        self, key: int, row: Mapping[str, Any], places: Mapping[str, Any], folder: Path
    ) -> None:
        """Append a volume packed into ``folder`` by a writer of its own; see :meth:`piece`."""
        self._rows[key] = dict(row)
        self._shards.adopt(key, places, folder)

    def close(self) -> None:
        """Write the tables."""
        keys = sorted(self._rows)
        if keys != list(range(len(keys))):
            raise ValueError("the volumes of a store are numbered from 0 without gaps")
        self._shards.close()
        write_table(self.folder / TABLE, [self._rows[key] for key in keys], SCHEMA)

    def _write(self, kind: str, key: int, array: Array, dtype: np.dtype[Any]) -> None:
        config = self.config
        packing = Packing(config.chunk_shape, _BLOCKS, config.codec, config.compression_level)
        self._shards.write(key, kind, array, dtype, packing)

    def _write_locations(self, key: int, positions: Mapping[int, Array]) -> None:
        table = np.concatenate(
            [np.insert(places, 0, number, axis=1) for number, places in positions.items()]
        )
        packing = Packing(
            _LOCATION_ROWS, _LOCATION_ROWS, self.config.codec, self.config.compression_level
        )
        self._shards.write(key, "locations", table[..., None], np.dtype(np.int32), packing)


class VolumeStore:
    """Reads a store. Crops read only the chunks they need; shards stay open.

    Small volumes are kept as voxels when they are first read.

    Args:
        folder: finished folder of a preprocess run.
        open_files: number of shards kept open, and measure of the memory for small volumes.

    Attributes:
        table: of Arrow; columns as in :data:`SCHEMA`. Trainings do without pandas.
    """

    def __init__(self, folder: Path, open_files: int = 64) -> None:
        self.folder = folder
        self.table: pa.Table = read_arrow(folder / TABLE)
        self._open_files = open_files
        self._room = open_files * KEPT_BYTES
        self._files: OrderedDict[int, ShardFile] = OrderedDict()
        self._arrays: OrderedDict[tuple[str, int], PackedArray] = OrderedDict()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def _places(self) -> Places:
        """Where the arrays are; not needed by whoever looks at the table alone."""
        return Places(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes open the files for themselves.
        room = self._room + sum(array.memory for array in self._arrays.values())
        empty = {"_files": OrderedDict(), "_arrays": OrderedDict(), "_room": room}
        return {**self.__dict__, **empty}

    def shape(self, index: int) -> Shape3:
        """Voxels of image ``index``; reads no file."""
        return self.place(index, "images").shape

    def channels(self, index: int) -> int:
        """Channels of image ``index``; reads no file."""
        count = 1
        while self._places.find(int(index), image_kind(count)) is not None:
            count += 1
        return count

    def dtype(self, index: int, channel: int = 0) -> np.dtype[Any]:
        """Type of a channel of image ``index``, int16 or float32; reads no file."""
        return np.dtype(self.place(index, image_kind(channel)).dtype)

    def image(self, index: int) -> Array:
        """The first channel of image ``index``, (X, Y, Z), int16 or float32."""
        return self._read_all("images", index)

    def label(self, index: int) -> Array:
        """Its classes, (X, Y, Z) uint8."""
        return self._read_all("labels", index)

    def native_label(self, index: int) -> Array:
        """Its classes on the reoriented, uncropped grid of the file, (X, Y, Z) uint8."""
        return self._read_all("native_labels", index)

    def crop(
        self, index: int, start: Sequence[int], shape: Sequence[int], channel: int = 0
    ) -> Array:
        """The box of ``shape`` voxels at ``start`` of a channel of image ``index``.

        Raises:
            ValueError: the box leaves the image.
        """
        return self._open(image_kind(channel), index).crop(start, shape)

    def crop_into(
        self, index: int, start: Sequence[int], shape: Sequence[int], out: Array, channel: int = 0
    ) -> None:
        """Write the same box to ``out``, an array of that shape and :meth:`dtype` in C order.

        Raises:
            ValueError: the box leaves the image, or ``out`` is another array.
        """
        self._open(image_kind(channel), index).crop_into(start, shape, out)

    def label_crop(self, index: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        """The same box of the classes."""
        return self._open("labels", index).crop(start, shape)

    def locations(self, index: int) -> dict[int, Array]:
        """For every class present, background included, voxel positions (n, 3) int32.

        Of the background, those are taken that are above a channel's floor, if there are any.
        They are a random sample of fixed seed of at most ``locations_per_class`` positions, sorted.
        """
        table = self._read_all("locations", index)[..., 0]
        return {int(c): table[table[:, 0] == c, 1:] for c in np.unique(table[:, 0])}

    def _read_all(self, kind: str, index: int) -> Array:
        array = self._open(kind, index)
        return array.crop((0, 0, 0), array.shape)

    def place(self, index: int, kind: str) -> Place:
        """Where an array of volume ``index`` is.

        Its kind is "labels", "native_labels", "locations" or an :func:`image_kind`.

        Raises:
            IntegrityError: the store has none.
        """
        place = self._places.find(int(index), kind)
        if place is None:
            raise IntegrityError(
                f"{self.folder / PLACES}: volume {index} has no {kind}",
                "run the stage preprocess again",
            )
        return place

    def _open(self, kind: str, index: int) -> PackedArray:
        key = (kind, int(index))
        if key not in self._arrays:
            place = self.place(index, kind)
            found = PackedArray(self._file(place.shard), place)
            self._room -= found.memory
            while self._room < 0 and self._arrays:
                self._room += self._arrays.popitem(last=False)[1].memory
            self._arrays[key] = found
        self._arrays.move_to_end(key)
        return self._arrays[key]

    def _file(self, number: int) -> ShardFile:
        if number not in self._files:
            self._files[number] = ShardFile(shard_path(self.folder, number))
            if len(self._files) > self._open_files:
                self._files.popitem(last=False)
        self._files.move_to_end(number)
        return self._files[number]


def image_kind(channel: int) -> str:
    """Kind of the arrays of a channel, counted from 0."""
    return f"images_{channel}" if channel else "images"


def class_locations(
    label: Array, most: int, volume_id: str, shown: Sequence[tuple[Array, float]] | None = None
) -> dict[int, Array]:
    """Voxel positions of each class, for the centres of crops; see :meth:`VolumeStore.locations`.

    Args:
        label: (X, Y, Z) uint8.
        most: positions of a class.
        volume_id: for the seed.
        shown: channels (X, Y, Z) of the image, and the value of each above which background counts
            (published code: the window's lower end). Where no background lies above one, all of it
            counts.
    """
    boxes = list(slabs(label, axis=0))
    counts = np.stack([class_counts(label[box]) for box in boxes])
    if shown is not None:
        above = [np.count_nonzero((label[b] == 0) & _is_shown(shown, b)) for b in boxes]
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
                    mask &= _is_shown(shown, box)
                inside = np.flatnonzero(mask)[chosen[ends[i] : ends[i + 1]] - borders[i]]
                found.append(inside + box[0].start * label[0].size)
        places = np.stack(np.unravel_index(np.concatenate(found), label.shape), axis=1)
        positions[number] = places.astype(np.int32)
    return positions


def _is_shown(channels: Sequence[tuple[Array, float]], box: Box) -> Array:
    """Whether a voxel of a box lies above the floor of any channel."""
    masks = (channel[box] > floor for channel, floor in channels)
    mask: Array = next(masks)
    for other in masks:
        mask |= other
    return mask


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
