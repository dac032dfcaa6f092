"""The prepared volumes of a task, as training and evaluation read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from voxseq.base.errors import DataError
from voxseq.config.task_types import TaskType
from voxseq.data.grid import to_native
from voxseq.data.store import VolumeStore
from voxseq.data.targets import TARGETS, Held
from voxseq.data.volume import Array

#: Bytes of a voxel as it is handed out: float32 and uint8.
_BYTES: Mapping[str, int] = {"image": 4, "label": 1}
#: Memory for decompressed volumes; what does not fit is read from the store crop by crop, which is
#: about as fast for crops of large volumes. Those of the demo fit.
CACHE_BYTES = 32 * 2**20


class Volumes(VolumeStore):
    """A volume store with a limited memory of decompressed volumes.

    Args:
        folder: of the store.
        cache_bytes: limit of that memory.
    """

    def __init__(self, folder: Path, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__(folder)
        # Three quarters of a table, which only the search for equal images reads.
        self.table = self.table.drop_columns(["thumbnail"])
        self._left = cache_bytes
        self._cache: dict[tuple[str, int], Array] = {}
        self._locations: dict[int, dict[int, Array]] = {}

    def rows(self, split: str) -> tuple[int, ...]:
        """Rows of one split, ordered by volume id.

        Raises:
            DataError: the split is empty.
        """
        ids, splits = (self.table[name].to_pylist() for name in ("volume_id", "split"))
        chosen = [row for row, its_split in enumerate(splits) if its_split == split]
        if not chosen:
            raise DataError(
                f"{self.folder}: the {split} split has no case",
                "change data.split_ratio or the lists of the split, or add volumes; "
                "set_aside.csv of the download shows what was rejected",
            )
        return tuple(sorted(chosen, key=ids.__getitem__))

    def name(self, row: int) -> str:
        """Volume id of a row."""
        return str(self.table["volume_id"][row])

    def subject(self, row: int) -> str:
        """Patient of a row; several images may be of one."""
        return str(self.table["subject"][row])

    def target(self, row: int) -> int:
        """Class of a row."""
        return self._targets[row]

    @cached_property
    def _targets(self) -> list[int]:
        # A plain list: a table takes longer to look one number up than a crop takes to be cut.
        return [int(label) for label in self.table["label"].to_pylist()]

    def value(self, row: int) -> float:
        """Number that a regression predicts for a row."""
        return self._values[row]

    @cached_property
    def _values(self) -> list[float]:
        values = self.table["value"].to_pylist()
        return [math.nan if value is None else float(value) for value in values]

    def held(self, row: int, kind: TaskType) -> Held:
        """What a row holds for a type of task; see :class:`voxseq.data.targets.Target`."""
        return TARGETS[kind].held(self._line(row))

    def spacing(self, row: int) -> tuple[float, float, float]:
        """Millimetres between voxels of the prepared grid."""
        line = self._line(row)
        x, y, z = (float(line[f"p_spacing_{a}"]) for a in "xyz")
        return (x, y, z)

    def oriented(self, row: int) -> bool:
        """Whether the file states an orientation: the axes are then turned to RAS."""
        return bool(self._line(row)["orientation"])

    def native_spacing(self, row: int) -> tuple[float, float, float]:
        """Millimetres between voxels of the file's own grid, its axes turned to RAS."""
        line = self._line(row)
        x, y, z = (
            float(line[f"p_spacing_{a}"]) * int(line[f"p_{a}"]) / float(line[f"crop_shape_{a}"])
            for a in "xyz"
        )
        return (x, y, z)

    @cached_property
    def image_channels(self) -> int:
        """Channels of every image."""
        return self.channels(0)

    def image(self, row: int) -> Array:
        """Whole image (C, X, Y, Z) float32; not to be written to."""
        return self._whole("image", row)

    def label(self, row: int) -> Array:
        """Whole label (X, Y, Z) uint8, ``IGNORED`` where no class is known; read only."""
        return self._whole("label", row)

    def image_crop(self, row: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        """Part of an image that lies inside it, (C, X, Y, Z) float32."""
        return self._part("image", row, start, shape)

    def label_crop(self, row: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        """Part of a label that lies inside it, uint8."""
        return self._part("label", row, start, shape)

    def locations(self, row: int) -> dict[int, Array]:
        """Class → voxel positions (n, 3) that have it."""
        if row not in self._locations:
            self._locations[row] = super().locations(row)
        return self._locations[row]

    def native_classes(self, probabilities: Array, row: int) -> Array:
        """Most probable class of each voxel of the file's own grid, (X, Y, Z) uint8.

        Args:
            probabilities: (C, X, Y, Z) on the prepared grid, background first.
            row: of the volume.
        """
        return to_native(probabilities, self._line(row))

    def _line(self, row: int) -> dict[str, Any]:
        """The row's columns by name."""
        (line,) = self.table.slice(row, 1).to_pylist()
        return dict(line)

    def _whole(self, kind: str, row: int) -> Array:
        if (kind, row) in self._cache:
            return self._cache[kind, row]
        array = self._read(kind, row, (0, 0, 0), self.shape(row))
        array.setflags(write=False)
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            self._cache[kind, row] = array
        return array

    def _part(self, kind: str, row: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        size = int(np.prod(self.shape(row))) * _BYTES[kind]
        size *= self.image_channels if kind == "image" else 1
        if (kind, row) in self._cache or size <= self._left:
            x, y, z = (slice(s, s + n) for s, n in zip(start, shape, strict=True))
            part: Array = self._whole(kind, row)[..., x, y, z]
            return part
        return self._read(kind, row, start, shape)

    def _read(self, kind: str, row: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        """A part of a row in memory of its own."""
        if kind == "label":
            return super().label_crop(row, start, shape)
        part = np.empty((self.image_channels, *shape), np.float32)
        for channel, out in enumerate(part):
            if self.dtype(row, channel) == out.dtype:
                self.crop_into(row, start, shape, out, channel)
            else:
                out[...] = super().crop(row, start, shape, channel)
        return part
