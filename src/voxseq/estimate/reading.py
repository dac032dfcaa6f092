"""What a pre-training reads: voxels of an item, chunks that hold them, and bytes handed over.

Boxes are those of the sampler at the typical shapes of the data sets. A row of a batch has room for
the largest of them in the store's own type.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from voxseq.config import Config
from voxseq.config.amounts import Content, content, sequences_of
from voxseq.config.base import Shape3
from voxseq.config.data import SequencesConfig, SourceConfig
from voxseq.config.runs import PretrainRun
from voxseq.estimate.run_cost import Packing

#: Bytes of a voxel in the types of the store.
_INT16, _FLOAT32 = 2, 4
#: Sources of MRI with whole numbers. In other types their items would be twice as large.
_WHOLE_NUMBERS = frozenset({"brats23"})
#: Bytes of a row besides voxels: shapes of its boxes, their ranges, parameters of its views.
HEADER = 4096
#: Seconds of one core to read and unpack a voxel, from the page cache: 1.2 to 1.7 ms for a box of
#: 128 x 128 x 56 (docs/performance.md).
UNPACKING = 1.8e-9


@dataclass(frozen=True)
class Boxes:
    """The boxes of one item.

    Attributes:
        count: how many.
        shape: of each, as it is read.
        volume: voxels of the volumes that they are read from.
    """

    count: int
    shape: Shape3
    volume: Shape3

    @property
    def voxels(self) -> int:
        """Voxels of all."""
        return self.count * math.prod(self.shape)

    def touched(self, chunk: Shape3) -> float:
        """Voxels of the chunks that they lie in, at random places: the mean.

        A side of b voxels begins anywhere in a chunk of c voxels, so (b + c - 1) / c chunks are
        touched on average, at most those that there are.
        """
        sides = zip(self.shape, self.volume, chunk, strict=True)
        return self.count * math.prod(min(b + c - 1, -(-n // c) * c) for b, n, c in sides)


@dataclass(frozen=True)
class Reading:
    """What an item of a pre-training takes, on average over the mixture of its sources.

    Attributes:
        voxels: that are read.
        touched: voxels of the chunks that hold them.
        stored: bytes of these chunks, compressed.
        handed_over: bytes of the item in the store's type.
        row: bytes of a row of a batch, which has room for the largest item.
    """

    voxels: float
    touched: float
    stored: float
    handed_over: float
    row: int

    @property
    def core_seconds(self) -> float:
        """Seconds of one core to read an item."""
        return self.voxels * UNPACKING


def reading(run: PretrainRun, config: Config, packing: Packing, *, sequences: bool) -> Reading:
    """What an item of a pre-training takes.

    Args:
        run: the run.
        config: the whole configuration.
        packing: bytes of stored voxels.
        sequences: whether an item is a patch sequence; otherwise a single image.
    """
    found = list(_weighed(run, config))
    total = sum(weight for _, weight in found)
    chunk = config.store.chunk_shape
    voxels = touched = stored = handed_over = 0.0
    row = 0
    for source, weight in found:
        share, held = weight / total, content(source.dataset, config)
        boxes = boxes_of(source.kind, held, run.sequences, sequences=sequences)
        voxels += share * boxes.voxels
        touched += share * boxes.touched(chunk)
        stored += share * boxes.touched(chunk) * packing.of_source(source.dataset, held)
        size, largest = voxel_bytes(source.dataset, held, config)
        handed_over += share * boxes.voxels * size
        row = max(row, boxes.voxels * largest)
    return Reading(voxels, touched, stored, handed_over, row + HEADER)


def _weighed(run: PretrainRun, config: Config) -> Iterator[tuple[SourceConfig, float]]:
    """The sources of a run with their shares of its items, which need not sum to 1."""
    kinds = run.kinds or tuple({source.kind for source in config.sequences.sources})
    sources = [source for source in config.sequences.sources if source.kind in kinds]
    counts = [sequences_of(source, config) for source in sources]
    for source, count in zip(sources, counts, strict=True):
        weight = getattr(run.sequences, source.kind).weight
        alike = sum(n for s, n in zip(sources, counts, strict=True) if s.kind == source.kind)
        yield source, count if weight is None else weight * count / alike


def boxes_of(kind: str, found: Content, config: SequencesConfig, *, sequences: bool) -> Boxes:
    """The boxes of one item of a kind, read from typical volumes of a data set."""
    whole, count = found.shape, config.length if sequences else 1
    match kind:
        case "spatial":
            crop = _within(config.spatial.crop_shape, whole)
            if sequences and crop == config.spatial.window_shape:
                reach = config.spatial.stride * (config.length - 1) + config.patch_shape[2]
                crop = (*crop[:2], reach)
            return Boxes(1, crop, whole)
        case "contrast":
            asked = config.contrast.crop_shape if sequences else config.spatial.crop_shape
            return Boxes(count, _within(asked, whole), whole)
        case _:
            return Boxes(count, _within((*config.semantic.window, whole[2]), whole), whole)


def _within(shape: Shape3, whole: Shape3) -> Shape3:
    x, y, z = (min(s, n) for s, n in zip(shape, whole, strict=True))
    return (x, y, z)


def voxel_bytes(dataset: str, found: Content, config: Config) -> tuple[float, int]:
    """Bytes of a voxel in the store's type: the mean, and of the largest.

    The store keeps whole numbers as int16, which CT and phantoms have, and BraTS, as is assumed.
    The values of other MRI are float32.
    """
    if config.data.is_phantom(dataset) or dataset in _WHOLE_NUMBERS or found.ct_share == 1:
        return float(_INT16), _INT16
    return _INT16 * found.ct_share + _FLOAT32 * (1 - found.ct_share), _FLOAT32
