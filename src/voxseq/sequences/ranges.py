"""Intensity ranges of the crops that the index names, found once when the index is built.

A crop is scaled by percentiles of its own, so a reader of a part of it must know them. The range is
that of the crop as it is used, that is after resizing. Every row has two: that of the crop as a
part of a sequence (``low``, ``high``), and that of the single image which stands for it in methods
and ablations without sequences (``image_low``, ``image_high``). A row of contrasts has both for
every contrast, numbered as its volumes are (``low_0``). A constant crop has equal ends.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxseq.base import processes as parallel
from voxseq.base.progress import track
from voxseq.config.base import Shape3
from voxseq.data.journal import Journal
from voxseq.data.store import VolumeStore
from voxseq.sequences.boxes import BOX, Integers, centred_boxes
from voxseq.transforms.intensity import intensity_range
from voxseq.transforms.spatial import resize

if TYPE_CHECKING:
    from voxseq.config.runs import SequencesRun

_LOG = logging.getLogger("voxseq.sequences")
Ranges = NDArray[np.float64]


@dataclass(frozen=True)
class Crops:
    """Crops of one table whose ranges are two of its columns.

    Attributes:
        columns: names of the lower and of the upper end.
        volumes: (N, 2) store and row in it of each.
        boxes: (N, 6) start x, y, z and extent x, y, z.
        shape: voxels that each is resized to.
    """

    columns: tuple[str, str]
    volumes: Integers
    boxes: Integers
    shape: Shape3


@dataclass(frozen=True)
class VolumeCrops:
    """The distinct crops of one volume.

    Attributes:
        folder: of its store.
        row: in the store.
        boxes: (N, 9), sorted: start, extent, and the shape that each is resized to.
    """

    folder: Path
    row: int
    boxes: Integers


@dataclass(frozen=True)
class RangeFinder:
    """Finds the ranges of a table's rows.

    What has been found is kept in ``state``, so that a stopped run goes on from there. Neither that
    nor the number of processes changes a bit.

    Attributes:
        config: percentiles, and shapes of patches, windows and images.
        volumes: rows of the sources' stores, as in :class:`voxseq.sequences.exclusion.Selection`.
        folders: store of each number.
        state: folder of the run's state.
        workers: processes; 0: all is done in this one.
    """

    config: SequencesRun
    volumes: pd.DataFrame
    folders: Sequence[Path]
    state: Path
    workers: int

    def added(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        """The tables of :mod:`voxseq.sequences.build` with the columns of the ranges.

        Raises:
            IntegrityError: an image is missing or damaged.
        """
        crops = {name: self._crops(name, table) for name, table in tables.items()}
        ends = iter(self.of([*itertools.chain.from_iterable(crops.values())]))
        extended = {}
        for name, table in tables.items():
            columns: dict[str, NDArray[np.float64]] = {}
            for own in crops[name]:
                columns |= zip(own.columns, next(ends).T, strict=True)
            extended[name] = table.assign(**columns)
        return extended

    def of(self, crops: Sequence[Crops]) -> list[Ranges]:
        """Lower and upper end (N, 2) of each of some crops."""
        if not crops:
            return []
        volumes = np.concatenate([own.volumes for own in crops])
        boxes = np.concatenate(
            [np.insert(own.boxes, (6, 6, 6), own.shape, axis=1) for own in crops]
        )
        order = np.lexsort(volumes.T[::-1])
        borders = np.flatnonzero((np.diff(volumes[order], axis=0) != 0).any(axis=1)) + 1
        members = np.split(order, borders)
        work, places = [], []
        for rows in members:
            store, row = volumes[rows[0]].tolist()
            distinct, place = np.unique(boxes[rows], axis=0, return_inverse=True)
            work.append(VolumeCrops(self.folders[store], row, distinct))
            places.append(place.reshape(-1))
        found = np.empty((len(boxes), 2))
        for rows, place, ranges in zip(members, places, self._found(work), strict=True):
            found[rows] = ranges[place]
        return np.split(found, np.cumsum([len(own.boxes) for own in crops])[:-1])

    def _found(self, work: Sequence[VolumeCrops]) -> list[Ranges]:
        """Ranges of the distinct crops of each volume."""
        journal = Journal(self.state / "ranges.jsonl")
        hashes = self.volumes.set_index(["store", "row"])["content_hash"]
        numbers = {folder: number for number, folder in enumerate(self.folders)}
        keys = [_key(own, hashes[numbers[own.folder], own.row]) for own in work]
        left = {key: own for key, own in zip(keys, work, strict=True) if journal.get(key) is None}
        done = len(work) - len(left)
        if done:
            _LOG.info("intensity ranges of %d of %d volumes were found before", done, len(work))
        # An earlier call in this process may have seen another store in the same folder.
        _store.cache_clear()
        title = "finding intensity ranges"
        measured = parallel.in_order(
            functools.partial(measure, self.config.percentiles),
            list(left.values()),
            self.workers,
            parallel.Work[VolumeCrops](title, _name, "sequences"),
        )
        for key, ranges in zip(left, track(measured, title, len(work), done), strict=True):
            journal.add(key, {"ranges": ranges.tobytes().hex()})
        kept = (bytes.fromhex(journal.get(key)["ranges"]) for key in keys)
        return [np.frombuffer(ranges).reshape(-1, 2) for ranges in kept]

    def _crops(self, name: str, table: pd.DataFrame) -> list[Crops]:
        """Crops whose ranges a table has, by the columns."""
        config = self.config
        patch, image = config.patch_shape, config.spatial.window_shape
        if not len(table) or name == "semantic":
            # The draws name rows of the table of lesions.
            return []
        boxes = table[list(BOX)].to_numpy(np.int64)
        if name != "contrast":
            volumes = table[["store", "row"]].to_numpy(np.int64)
            part = config.spatial.window_shape if name == "spatial" else patch
            return [
                Crops(("low", "high"), volumes, boxes, part),
                Crops(("image_low", "image_high"), volumes, boxes, image),
            ]
        crops = []
        shapes = self.volumes.set_index(["store", "row"])[["p_x", "p_y", "p_z"]]
        for i in range(config.length):
            volumes = table[["store", f"row_{i}"]].to_numpy(np.int64)
            whole = shapes.loc[[*map(tuple, volumes.tolist())]].to_numpy(np.int64)
            wide = centred_boxes(boxes, config.spatial.crop_shape, whole)
            crops.append(Crops((f"low_{i}", f"high_{i}"), volumes, boxes, patch))
            crops.append(Crops((f"image_low_{i}", f"image_high_{i}"), volumes, wide, image))
        return crops


def measure(percentiles: tuple[float, float], crops: VolumeCrops) -> Ranges:
    """Ranges (N, 2) of the crops of one volume, in their order."""
    store = _store(crops.folder)
    found = []
    for place, boxes in itertools.groupby(crops.boxes.tolist(), key=lambda box: box[:6]):
        crop = store.crop(crops.row, place[:3], place[3:])
        for box in boxes:
            shape = tuple(box[6:])
            used: NDArray[Any] = crop if crop.shape == shape else resize(crop, shape)
            found.append(intensity_range(used, percentiles))
    return np.array(found, np.float64)


@functools.lru_cache(maxsize=1)
def _store(folder: Path) -> VolumeStore:
    """The store of the volume before, which is nearly always that of the next."""
    return VolumeStore(folder)


def _name(crops: VolumeCrops) -> str:
    return f"volume {crops.row} of {crops.folder}"


def _key(crops: VolumeCrops, content: str) -> str:
    """Which volume and which crops: whatever else matters is in the run's fingerprint."""
    described = f"{crops.folder.name} {crops.row} {content} ".encode() + crops.boxes.tobytes()
    return hashlib.sha256(described).hexdigest()
