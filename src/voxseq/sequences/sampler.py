"""Drawing sequences: which one stands in which slot of which batch, and its voxels.

Every draw is a function of (seed, step, slot): a resumed run, or one with other worker processes,
sees the same data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxseq.base.errors import DataError
from voxseq.base.files import read_json
from voxseq.base.random import numpy_generator
from voxseq.config.data import SequencesConfig
from voxseq.data.store import VolumeStore
from voxseq.sequences.assemble import assemble
from voxseq.sequences.boxes import centred_boxes
from voxseq.sequences.raw import SLIDING, TYPES, Raw, aligned, header_type, padded, start_count
from voxseq.sequences.table import LEFT_OUT, IndexTable
from voxseq.training.batches import EpochOrder
from voxseq.transforms.spatial import Array, Item


class SequenceSampler:
    """All sequences of some kinds.

    Args:
        index: folder of the sequence index.
        stores: data set → folder of its volume store.
        config: geometry, stride and mixing weights.
        kinds: kinds of sequence to draw from; those of which no source is here are left out.
        seed: of every draw.

    Attributes:
        header: type of the record that lies beside the raw voxels of an item.

    Raises:
        DataError: a kind without sequences.
    """

    def __init__(
        self,
        index: Path,
        stores: Mapping[str, Path],
        config: SequencesConfig,
        kinds: tuple[str, ...],
        seed: int,
    ) -> None:
        self.config = config
        self.kinds = tuple(sorted({*kinds} - {*read_json(index / LEFT_OUT)["kinds"]}))
        if not self.kinds:
            raise DataError(
                f"no source of {' and '.join(kinds)} sequences is here",
                "get one (`voxseq data show NAME`), then give data.release another value",
            )
        self.seed = seed
        self._index = index
        self._names: list[str] = read_json(index / "sources.json")
        self._folders = stores
        self._tables = {kind: IndexTable.read(index / f"{kind}.parquet") for kind in self.kinds}
        for kind, table in self._tables.items():
            if not len(table.training):
                raise DataError(
                    f"the sequence index has no {kind} sequence for training",
                    "lower sequences.validation_every or add volumes",
                )
        self._items = (
            IndexTable.read(index / "semantic_items.parquet") if "semantic" in self.kinds else None
        )
        self._opened: dict[int, VolumeStore] = {}
        self._modality_of: dict[int, NDArray[np.str_]] = {}
        self._ct: dict[str, NDArray[np.bool_]] = {}
        self.header = header_type(config.length)
        self._order = EpochOrder(range(len(self)), seed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the paths: another process reads the index itself."""
        return SequenceSampler, (self._index, self._folders, self.config, self.kinds, self.seed)

    def __len__(self) -> int:
        """Number of training sequences."""
        return sum(len(table.training) for table in self._tables.values())

    def training_rows(self, kind: str) -> NDArray[np.int64]:
        """Rows of a kind's table that are trained on."""
        return self._tables[kind].training

    def choose(self, step: int, size: int, slot: int) -> tuple[int, np.random.Generator]:
        """Choose the item of a place in a training batch.

        Args:
            step: number of the batch.
            size: number of items in the whole batch.
            slot: place in the batch.

        Returns:
            Its number in the training list, and the generator for :meth:`raw`.
        """
        generator = numpy_generator(self.seed, "sequence", step, slot)
        return self._choose(step * size + slot, generator), generator

    def validation(self, count: int, *, sequences: bool = True) -> list[Raw]:
        """At most ``count`` validation items, the kinds in turn, always the same ones."""
        turns = max((len(t.validation) for t in self._tables.values()), default=0)
        picks = [
            (kind, int(table.validation[turn]))
            for turn in range(turns)
            for kind, table in self._tables.items()
            if turn < len(table.validation)
        ]
        items = []
        for number, (kind, row) in enumerate(picks[:count]):
            generator = numpy_generator(self.seed, "validation", kind, row)
            items.append(self._raw(kind, row, generator, sequences, number))
        return items

    def _choose(self, position: int, generator: np.random.Generator) -> int:
        """List number of the item at a position of the endless stream."""
        if self._weights is None:
            return self._order[position]
        chosen = int(generator.choice(len(self.kinds), p=self._weights))
        size = len(self._tables[self.kinds[chosen]].training)
        return int(self._offsets[chosen]) + int(generator.integers(size))

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        """List number of each kind's first training sequence, and the length of the list."""
        sizes = [len(self._tables[kind].training) for kind in self.kinds]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def numbers(self, modality: str) -> NDArray[np.int64]:
        """Sorted list numbers of the training sequences of one modality.

        Args:
            modality: "CT" or "MRI".
        """
        found = [
            offset + np.flatnonzero(self._modality_at(kind, table.training) == modality)
            for offset, (kind, table) in zip(self._offsets, self._tables.items(), strict=False)
        ]
        return np.concatenate(found).astype(np.int64)

    def raw(self, number: int, generator: np.random.Generator, *, sequences: bool = False) -> Raw:
        """Where the voxels of an entry of the training list are.

        Args:
            number: in the list.
            generator: for the start of the window or the choice of one image.
            sequences: patch sequences; ``False`` gives single images instead, for the methods
                and the ablation that use none.
        """
        chosen = int(np.searchsorted(self._offsets, number, side="right")) - 1
        kind = self.kinds[chosen]
        row = int(self._tables[kind].training[number - int(self._offsets[chosen])])
        return self._raw(kind, row, generator, sequences, number)

    def _is_ct(self, kind: str) -> NDArray[np.bool_]:
        """Whether each row of a kind's table is CT."""
        if kind not in self._ct:
            rows = np.arange(len(self._tables[kind].columns["validation"]))
            self._ct[kind] = self._modality_at(kind, rows) == "CT"
        return self._ct[kind]

    def _modality_at(self, kind: str, rows: NDArray[np.int64]) -> NDArray[np.str_]:
        """Modality of the sequences, or of their first patches, in some rows of a kind's table."""
        table, column = self._tables[kind], "row_0" if kind == "contrast" else "row"
        if kind == "semantic":
            # Lesions have a table of their own, whose rows the table of the sequences names.
            assert self._items is not None
            rows, table = table.columns["item_0"][rows].astype(np.int64), self._items
        stores, places = table.columns["store"][rows], table.columns[column][rows]
        found = np.empty(len(rows), dtype=object)
        for store in np.unique(stores):
            here = stores == store
            found[here] = self._modalities_of(int(store))[places[here]]
        return found.astype(np.str_)

    def _modalities_of(self, store: int) -> NDArray[np.str_]:
        """Modality of every volume of a store."""
        if store not in self._modality_of:
            modalities = self._store(store).table["modality"].to_pylist()
            self._modality_of[store] = np.array(modalities, str)
        return self._modality_of[store]

    @cached_property
    def _weights(self) -> NDArray[np.float64] | None:
        given = [getattr(self.config, kind).weight for kind in self.kinds]
        if None in given:
            return None
        values = np.asarray(given, dtype=np.float64)
        if not values.sum() > 0:
            raise DataError(
                f"the weights of {', '.join(self.kinds)} sum to 0",
                "give at least one of them a positive weight",
            )
        shares: NDArray[np.float64] = values / values.sum()
        return shares

    def read(
        self,
        kind: str,
        row: int,
        generator: np.random.Generator,
        *,
        sequences: bool = True,
        number: int = 0,
    ) -> Item:
        """Read one sequence, or the single image that stands for it, as a volume.

        Args:
            kind: kind of sequence.
            row: row of its table.
            generator: as in :meth:`raw`.
            sequences: as in :meth:`raw`.
            number: id that the item carries.
        """
        raw = self._raw(kind, row, generator, sequences, number)
        modality = str(self._modality_at(kind, np.array([row]))[0])
        return Item(self.volume(raw), kind, self._names[raw.source], number, modality)

    def volume(self, raw: Raw) -> Array:
        """The voxels of an item: (X, Y, Z) float32 in 0..1."""
        voxels = np.empty((1, self.bytes_of(raw)), np.uint8)
        header = np.zeros(1, self.header)
        self.read_into(raw, voxels[0], header[0])
        made: Array = assemble(torch.from_numpy(voxels), header, self.config)[0, 0].numpy()
        return made

    def read_into(self, raw: Raw, voxels: NDArray[np.uint8], header: Any) -> None:
        """Copy the boxes of an item as they are stored, one behind the other.

        Args:
            raw: the item.
            voxels: (bytes,) of a row, at least :meth:`row_bytes`.
            header: its record, of type :attr:`header`; written to.
        """
        header["number"], header["ct"] = raw.number, raw.ct
        header["shape"], header["mode"], header["first"] = raw.shape, raw.mode, raw.first
        header["parts"] = len(raw.boxes)
        offset = 0
        for box, record in zip(raw.boxes, header["part"], strict=False):
            store = self._store(box.store)
            stored = store.dtype(box.row)
            size = stored.itemsize * math.prod(box.extent)
            out = voxels[offset : offset + size].view(stored).reshape(box.extent)
            store.crop_into(box.row, box.start, box.extent, out)
            record["offset"], record["type"] = offset, TYPES.index(stored)
            record["extent"], record["low"], record["high"] = box.extent, box.low, box.high
            offset += aligned(size)
        header["used"] = offset

    def row_bytes(self, *, sequences: bool) -> int:
        """Bytes of the largest item of the training list or of the validation."""
        return padded(max(self._largest(kind, sequences) for kind in self.kinds))

    def bytes_of(self, raw: Raw) -> int:
        """Bytes of a row that holds an item."""
        sizes = (
            self._store(box.store).dtype(box.row).itemsize * math.prod(box.extent)
            for box in raw.boxes
        )
        return padded(sum(aligned(size) for size in sizes))

    def _largest(self, kind: str, sequences: bool) -> int:
        """Bytes of the largest item of a kind."""
        table, config = self._tables[kind], self.config
        if kind == "spatial":
            extents = table.extents()
            if sequences:
                is_whole = (extents == config.spatial.window_shape).all(axis=1)
                extents[is_whole, 2] = self._reach
            return int(self._sizes(table, "row", extents).max())
        if kind == "contrast":
            rows = [f"row_{i}" for i in range(config.length)]
            if sequences:
                parts = [self._sizes(table, row, table.extents()) for row in rows]
                return int(np.sum(parts, axis=0).max())
            extents = np.broadcast_to(config.spatial.crop_shape, table.extents().shape)
            return int(max(self._sizes(table, row, extents).max() for row in rows))
        assert self._items is not None
        each = self._sizes(self._items, "row", self._items.extents())
        chosen = np.stack([each[table.columns[f"item_{i}"]] for i in range(config.length)])
        return int((chosen.sum(axis=0) if sequences else chosen).max())

    def _sizes(
        self, table: IndexTable, column: str, extents: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Bytes of a box of each row of a table, with those that are left free behind it."""
        width = np.zeros(len(extents), np.int64)
        for store in np.unique(table.columns["store"]):
            here = table.columns["store"] == store
            rows = table.columns[column][here]
            found, places = np.unique(rows, return_inverse=True)
            widths = [self._store(int(store)).dtype(int(row)).itemsize for row in found]
            width[here] = np.array(widths)[places]
        sizes: NDArray[np.int64] = aligned(width * extents.prod(axis=1))
        return sizes

    def _store(self, number: int) -> VolumeStore:
        if number not in self._opened:
            self._opened[number] = VolumeStore(self._folders[self._names[number]])
        return self._opened[number]

    @cached_property
    def _reach(self) -> int:
        """Planes that the windows of one sequence cover."""
        config = self.config
        return config.spatial.stride * (config.length - 1) + config.patch_shape[2]

    def _raw(
        self, kind: str, row: int, generator: np.random.Generator, sequences: bool, number: int
    ) -> Raw:
        make = {
            "spatial": self._spatial,
            "contrast": self._contrast,
            "semantic": self._semantic,
        }[kind]
        raw = make(self._tables[kind], row, generator, sequences)
        return replace(raw, number=number, ct=bool(self._is_ct(kind)[row]))

    def _spatial(
        self, table: IndexTable, row: int, generator: np.random.Generator, sequences: bool
    ) -> Raw:
        config = self.config
        if not sequences:
            return Raw([table.stored(row, "row", "image_low", "image_high")], config.image_shape)
        box, window = table.stored(row, "row", "low", "high"), config.spatial.window_shape
        starts = start_count(
            window[2],
            config.spatial.stride,
            config.patch_shape[2],
            config.length,
            config.spatial.max_start,
        )
        first = int(generator.integers(starts))
        if box.extent != window:
            return Raw([box], window, SLIDING, first)
        # Windows overlap: less than half of a published crop is looked at in one sequence.
        (x, y, z), extent = box.start, (*window[:2], self._reach)
        return Raw([replace(box, start=(x, y, z + first), extent=extent)], extent, SLIDING)

    def _contrast(
        self, table: IndexTable, row: int, generator: np.random.Generator, sequences: bool
    ) -> Raw:
        config = self.config
        if sequences:
            boxes = [
                table.stored(row, f"row_{i}", f"low_{i}", f"high_{i}") for i in range(config.length)
            ]
            return Raw(boxes, config.patch_shape)
        i = int(generator.integers(config.length))
        box = table.stored(row, f"row_{i}", f"image_low_{i}", f"image_high_{i}")
        # A single image fills the network's input: a spatial crop around the same centre.
        whole = np.array([self._store(box.store).shape(box.row)])
        own = np.array([[*box.start, *box.extent]])
        (x, y, z, a, b, c), *_ = centred_boxes(own, config.spatial.crop_shape, whole).tolist()
        return Raw([replace(box, start=(x, y, z), extent=(a, b, c))], config.image_shape)

    def _semantic(
        self, table: IndexTable, row: int, generator: np.random.Generator, sequences: bool
    ) -> Raw:
        config = self.config
        assert self._items is not None
        items = [table.number(f"item_{i}", row) for i in range(config.length)]
        if sequences:
            boxes = [self._items.stored(item, "row", "low", "high") for item in items]
            return Raw(boxes, config.patch_shape)
        chosen = items[int(generator.integers(len(items)))]
        box = self._items.stored(chosen, "row", "image_low", "image_high")
        return Raw([box], config.image_shape)
