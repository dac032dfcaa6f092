"""The prepared volumes of a task, as training and evaluation read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from voxseq.base.errors import DataError
from voxseq.data.grid import to_native
from voxseq.data.store import VolumeStore
from voxseq.data.volume import Array

#: Types in which voxels are handed out.
_TYPES: Mapping[str, np.dtype[Any]] = {"image": np.dtype(np.float32), "label": np.dtype(np.uint8)}
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
        self._left = cache_bytes
        self._cache: dict[tuple[str, int], Array] = {}
        self._locations: dict[int, dict[int, Array]] = {}

    def rows(self, split: str) -> tuple[int, ...]:
        """Rows of one split, ordered by volume id.

        Raises:
            DataError: the split is empty.
        """
        ids = self.table["volume_id"]
        chosen = [int(i) for i in np.flatnonzero(self.table["split"] == split)]
        if not chosen:
            raise DataError(
                f"{self.folder}: the {split} split has no case",
                "change data.split_ratio or the lists of the split, or add volumes; "
                "set_aside.csv of the download shows what was rejected",
            )
        return tuple(sorted(chosen, key=lambda i: str(ids.iloc[i])))

    def name(self, row: int) -> str:
        """Volume id of a row."""
        return str(self.table["volume_id"].iloc[row])

    def target(self, row: int) -> int:
        """Class of a row."""
        return self._targets[row]

    @cached_property
    def _targets(self) -> list[int]:
        # A plain list: pandas takes longer to look one number up than a crop takes to be cut.
        return [int(label) for label in self.table["label"]]

    def classes(self, row: int) -> list[int]:
        """Classes in the prepared label of a row, background included; without one, its class."""
        if not self.table["has_label"].iloc[row]:
            return [self.target(row)]
        counts: dict[str, int] = json.loads(self.table["voxels"].iloc[row])
        return [int(number) for number in counts]

    def image(self, row: int) -> Array:
        """Whole image (X, Y, Z) float32; not to be written to."""
        return self._whole("image", row)

    def label(self, row: int) -> Array:
        """Whole label (X, Y, Z) uint8; not to be written to."""
        return self._whole("label", row)

    def image_crop(self, row: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        """Part of an image that lies inside it, float32."""
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
        line = {str(name): value for name, value in self.table.iloc[row].items()}
        return to_native(probabilities, line)

    def _whole(self, kind: str, row: int) -> Array:
        if (kind, row) in self._cache:
            return self._cache[kind, row]
        array = np.ascontiguousarray(self._read(kind, row, (0, 0, 0), self.shape(row)))
        array.setflags(write=False)
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            self._cache[kind, row] = array
        return array

    def _part(self, kind: str, row: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        size = int(np.prod(self.shape(row))) * _TYPES[kind].itemsize
        if (kind, row) in self._cache or size <= self._left:
            window = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
            part: Array = self._whole(kind, row)[window]
            return part
        return self._read(kind, row, start, shape)

    def _read(self, kind: str, row: int, start: Sequence[int], shape: Sequence[int]) -> Array:
        read = super().crop if kind == "image" else super().label_crop
        return read(row, start, shape).astype(_TYPES[kind], copy=False)
