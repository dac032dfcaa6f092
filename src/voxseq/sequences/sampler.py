"""Drawing sequences: which one stands in which slot of which batch, and its voxels.

Every draw is a function of (seed, step, slot): a resumed run, or one with other worker processes,
sees the same data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxseq.base.errors import DataError
from voxseq.base.failures import read_named
from voxseq.base.files import read_json
from voxseq.base.random import numpy_generator
from voxseq.config.data import SequencesConfig
from voxseq.data.store import VolumeStore
from voxseq.sequences.build import AXES, LEFT_OUT
from voxseq.sequences.reading import Array, Ranges, slide, start_count
from voxseq.training.batches import EpochOrder
from voxseq.transforms.intensity import intensity_range, scale, scale_percentiles
from voxseq.transforms.spatial import Item, Triple, resize, resize_all, start_around

#: Store, row in it, start and extent.
_Box = tuple[int, int, Triple, Triple]


#: Sequences among which the one for a figure is chosen.
CANDIDATES = 48


@dataclass(frozen=True)
class _Table:
    """One kind's index as plain arrays; columns as in :mod:`voxseq.sequences.build`."""

    columns: Mapping[str, NDArray[np.generic]]
    training: NDArray[np.int64]
    validation: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path) -> _Table:
        with read_named(path):
            frame = pd.read_parquet(path)
        held = frame.pop("validation").to_numpy(bool)
        columns = {name: frame[name].to_numpy() for name in frame.columns}
        return cls(columns, np.flatnonzero(~held), np.flatnonzero(held))

    def box(self, row: int) -> tuple[Triple, Triple]:
        """Start and extent of a row's box."""
        start = tuple(int(self.columns[f"start_{a}"][row]) for a in AXES)
        extent = tuple(int(self.columns[f"extent_{a}"][row]) for a in AXES)
        return start, extent  # type: ignore[return-value]

    def number(self, name: str, row: int) -> int:
        """One integer of a row."""
        return int(self.columns[name][row])


class SequenceSampler:
    """All sequences of some kinds.

    Args:
        index: folder of the sequence index.
        stores: data set → folder of its volume store.
        config: geometry, stride and mixing weights.
        kinds: kinds of sequence to draw from; those of which no source is here are left out.
        seed: of every draw.

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
        self._tables = {kind: _Table.read(index / f"{kind}.parquet") for kind in self.kinds}
        for kind, table in self._tables.items():
            if not len(table.training):
                raise DataError(
                    f"the sequence index has no {kind} sequence for training",
                    "lower sequences.validation_every or add volumes",
                )
        self._items = (
            _Table.read(index / "semantic_items.parquet") if "semantic" in self.kinds else None
        )
        self._ranges = Ranges(
            len(self._tables["spatial"].columns["row"]) if "spatial" in self.kinds else 0
        )
        self._opened: dict[int, VolumeStore] = {}
        self._modality_of: dict[int, NDArray[np.str_]] = {}
        self._order = EpochOrder(range(len(self)), seed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the paths: another process reads the index itself, and shares what is found."""
        given = (self._index, self._folders, self.config, self.kinds, self.seed)
        return SequenceSampler, given, {"_ranges": self._ranges}

    def __len__(self) -> int:
        """Number of training sequences."""
        return sum(len(table.training) for table in self._tables.values())

    def batch(
        self, step: int, size: int, slots: Sequence[int] | None = None, *, sequences: bool = True
    ) -> list[Item]:
        """The items of one training batch, or some of them.

        Args:
            step: number of the batch.
            size: number of items in the whole batch.
            slots: places in the batch whose items are read; all by default.
            sequences: patch sequences; ``False`` gives single images instead, for the methods
                and the ablation that use none.
        """
        places = range(size) if slots is None else slots
        items = []
        for slot in places:
            generator = numpy_generator(self.seed, "sequence", step, slot)
            number = self._choose(step * size + slot, generator)
            items.append(self.item(number, generator, sequences=sequences))
        return items

    def validation(self, count: int, *, sequences: bool = True) -> list[Item]:
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
            items.append(self.read(kind, row, generator, sequences=sequences, number=number))
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

    def item(self, number: int, generator: np.random.Generator, *, sequences: bool = False) -> Item:
        """Read the entry of the training list with this number; arguments as in :meth:`read`."""
        chosen = int(np.searchsorted(self._offsets, number, side="right")) - 1
        kind = self.kinds[chosen]
        row = int(self._tables[kind].training[number - int(self._offsets[chosen])])
        return self.read(kind, row, generator, sequences=sequences, number=number)

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
            self._modality_of[store] = self._store(store).table["modality"].to_numpy(str)
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
        """Read one sequence, or the single image that stands for it.

        Args:
            kind: kind of sequence.
            row: row of its table.
            generator: for the start of the window or the choice of one image.
            sequences: see :meth:`batch`.
            number: id that the item carries.
        """
        reader = {
            "spatial": self._spatial,
            "contrast": self._contrast,
            "semantic": self._semantic,
        }[kind]
        volume, store = reader(self._tables[kind], row, generator, sequences)
        return Item(
            volume,
            kind,
            self._names[store],
            number,
            str(self._modality_at(kind, np.array([row]))[0]),
        )

    def _store(self, number: int) -> VolumeStore:
        if number not in self._opened:
            self._opened[number] = VolumeStore(self._folders[self._names[number]])
        return self._opened[number]

    def _crops(self, boxes: Sequence[_Box], shape: Triple) -> list[Array]:
        """Read boxes, resize them and scale the own percentiles of each to 0..1."""
        crops: list[NDArray[Any]] = [
            self._store(store).crop(row, start, extent) for store, row, start, extent in boxes
        ]
        if any(crop.shape != shape for crop in crops):
            crops = [*resize_all(crops, shape)]
        return [scale_percentiles(crop, self.config.percentiles) for crop in crops]

    def _spatial(
        self, table: _Table, row: int, generator: np.random.Generator, sequences: bool
    ) -> tuple[Array, int]:
        config = self.config
        store = table.number("store", row)
        box = table.box(row)
        if not sequences:
            whole = (store, table.number("row", row), *box)
            return self._crops([whole], config.volume_shape)[0], store
        thickness, stride = config.patch_shape[2], config.spatial.stride
        depth = config.spatial.window_shape[2]
        starts = start_count(depth, stride, thickness, config.length, config.spatial.max_start)
        start = int(generator.integers(starts))
        reach = stride * (config.length - 1) + thickness
        part = self._planes(table, row, start, reach)
        return slide(part, 0, stride, thickness, config.length), store

    def _planes(self, table: _Table, row: int, start: int, count: int) -> Array:
        """Some planes across the last axis of a spatial crop, scaled by the percentiles of all."""
        store, volume = self._store(table.number("store", row)), table.number("row", row)
        (x, y, z), extent = table.box(row)
        window, values = self.config.spatial.window_shape, self._ranges[row]
        if values is not None and extent == window:
            # Windows overlap: less than half of a published crop is looked at in one sequence.
            return scale(store.crop(volume, (x, y, z + start), (*window[:2], count)), *values)
        crop = store.crop(volume, (x, y, z), extent)
        if extent != window:
            crop = resize(crop, window)
        if values is None:
            values = self._ranges[row] = intensity_range(crop, self.config.percentiles)
        return scale(crop[:, :, start : start + count], *values)

    def _contrast(
        self, table: _Table, row: int, generator: np.random.Generator, sequences: bool
    ) -> tuple[Array, int]:
        config = self.config
        store = table.number("store", row)
        rows = [table.number(f"row_{i}", row) for i in range(config.length)]
        start, extent = table.box(row)
        if sequences:
            patches = self._crops([(store, r, start, extent) for r in rows], config.patch_shape)
            return np.concatenate(patches, axis=2), store
        chosen = rows[int(generator.integers(len(rows)))]
        # A single image fills the network's input: a spatial crop around the same centre.
        whole = self._store(store).shape(chosen)
        start, extent = centred_box(start, extent, config.spatial.crop_shape, whole)
        return self._crops([(store, chosen, start, extent)], config.volume_shape)[0], store

    def _semantic(
        self, table: _Table, row: int, generator: np.random.Generator, sequences: bool
    ) -> tuple[Array, int]:
        config = self.config
        assert self._items is not None
        items = [table.number(f"item_{i}", row) for i in range(config.length)]
        lesions, shape = self._items, config.patch_shape
        if not sequences:
            items, shape = [items[int(generator.integers(len(items)))]], config.volume_shape
        boxes = [
            (lesions.number("store", item), lesions.number("row", item), *lesions.box(item))
            for item in items
        ]
        return np.concatenate(self._crops(boxes, shape), axis=2), boxes[0][0]


def centred_box(
    start: Triple, extent: Triple, wanted: Triple, whole: Triple
) -> tuple[Triple, Triple]:
    """Box of ``wanted`` voxels around the centre of another, moved and cut to fit a volume."""
    x, y, z = (min(w, n) for w, n in zip(wanted, whole, strict=True))
    centre = [s + e // 2 for s, e in zip(start, extent, strict=True)]
    return start_around(centre, whole, wanted), (x, y, z)


def example(
    index: Path, stores: Mapping[str, Path], config: SequencesConfig, kind: str, number: int
) -> tuple[Array, str]:
    """One training sequence of a kind, for a figure.

    Random crops may show nothing but air. Of :data:`CANDIDATES` sequences, spread over the index,
    the one is taken whose plainest patch varies most.

    Args are as those of :class:`SequenceSampler`; ``number`` is the seed of the choice.

    Returns:
        The volume (X, Y, Z) in 0..1 and the name of its data set.
    """
    sampler = SequenceSampler(index, stores, config, (kind,), seed=0)
    rows = sampler._tables[kind].training
    spread = np.linspace(0, len(rows) - 1, min(CANDIDATES, len(rows))).astype(int)
    items = [
        sampler.read(kind, int(rows[i]), numpy_generator(number, "example", int(i))) for i in spread
    ]
    variations = [
        min(part.std() for part in np.split(item.volume, config.length, axis=2)) for item in items
    ]
    chosen = items[int(np.argmax(variations))]
    return chosen.volume, chosen.source
