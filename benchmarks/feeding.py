"""What feeds a training at the paper's size: worker processes, what crosses, views as torch."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import earlier_views
from benchmarks.earlier import FileStore, Reader
from benchmarks.flops import prepare
from benchmarks.harness import ROUNDS, Row, alternate, figure, smaller, timed
from benchmarks.material import ct_like, paper_config
from benchmarks.sources import Scan, entries, sampler_of
from voxseq.base.random import numpy_generator
from voxseq.config import Config
from voxseq.config.data import SourceConfig
from voxseq.config.registry import METHODS, pretrained
from voxseq.data.store import VolumeStore
from voxseq.pretrain.batching import Batching, ItemRows, headers_of
from voxseq.pretrain.run import method_class
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.distributed import BatchShard
from voxseq.training.held import block_bytes
from voxseq.training.rows import empty, fill_rows, row_bytes

#: Sources: kind of sequence, voxels of an image, and images, subjects or lesions of a category.
_SOURCES = {
    "ribfrac": ("spatial", (512, 512, 200), 1),
    "stoic": ("spatial", (512, 512, 70), 1),
    "brats23": ("contrast", (240, 240, 155), 1),
    "deeplesion": ("semantic", (512, 512, 40), 4),
}
#: Shares of the sources' sequences in the paper's data, by the plan's counts.
_SHARES = {"ribfrac": 0.68, "stoic": 0.029, "brats23": 0.19, "deeplesion": 0.101}
#: Crops of a volume or subject: as many as are read.
_CROPS = 8
#: Milliseconds of an item before and those to reach.
_SPATIAL, _SEMANTIC = 1.8 / 3.2, 4 / 45
_VIEWED = ("simclr", "moco_v3", "dino", "pcrlv2")
_BATCH, _RANKS, _WORKERS = 288, 8, 16
#: Items whose views are made at a time.
_ITEMS = 8
#: Batches that sixteen workers held the way before: in shared memory and in their own.
_HELD = (2 * _WORKERS + 1) + 1.9 * _WORKERS
_BOXES, _BOX = 50, (128, 128, 56)


def run() -> Iterator[Row]:
    """All rows of this module."""
    prepare()
    with tempfile.TemporaryDirectory() as name:
        folder, config = Path(name), _config()
        sampler = paper_sampler(folder, config)
        reader = Reader(sampler, folder / "files", config.store.chunk_shape)
        numbers = _by_source(sampler)
        rows = ItemRows(batching(config, "ours"), sampler, 0, 2 * _CROPS)
        yield _filled("spatial item", rows, reader, numbers["ribfrac"], _SPATIAL)
        yield _filled("semantic item", rows, reader, numbers["deeplesion"], _SEMANTIC)
        yield _crossing(rows, numbers)
        size = row_bytes(rows)
        yield figure(
            "memory of batches in flight",
            "the target",
            [block_bytes(_BATCH, size, _WORKERS) / 1e9],
            6,
            "GB",
            "at most",
            f"{_BATCH} rows of {size / 1e6:.1f} MB, {_WORKERS} workers; before, the same number of "
            f"workers held {_HELD:.0f} batches: {_HELD * _BATCH * 4 * 128**3 / 1e9:.0f} GB",
        )
        yield _calls(folder / "store" / "ribfrac", folder / "files" / "ribfrac")
        yield _of_a_rank(config, sampler)
        for method in _VIEWED:
            yield from _views(config, method, sampler)


def _config() -> Config:
    """The paper's configuration with few sources, and few crops of each."""
    config = paper_config()
    given = config.sequences
    sources = tuple(
        SourceConfig(dataset=name, kind=kind)  # type: ignore[arg-type]
        for name, (kind, _, _) in _SOURCES.items()
    )
    spatial = given.spatial.model_copy(update={"crops_per_volume": 2 * _CROPS})
    contrast = given.contrast.model_copy(update={"crops_per_subject": 2 * _CROPS})
    own = {"sources": sources, "spatial": spatial, "contrast": contrast}
    return config.model_copy(update={"sequences": given.model_copy(update=own)})


def paper_sampler(folder: Path, config: Config) -> SequenceSampler:
    """A sampler of all kinds over images of the paper's sizes."""
    image = ct_like(_SOURCES["ribfrac"][1])
    contrasts = config.sequences.contrast.contrasts

    def scans(name: str) -> Iterator[Scan]:
        kind, (x, y, z), count = _SOURCES[name]
        for number, entry in enumerate(entries(kind, contrasts, (256, 256), count)):
            first = number % (image.shape[2] - z + 1)
            yield entry, image[:x, :y, first : first + z]

    return sampler_of(folder, config, {name: scans(name) for name in _SOURCES}, 1 / 2000)


def batching(config: Config, method: str) -> Batching:
    """The data side of a method at the paper's settings."""
    settings = METHODS[method].settings
    assert settings is not None
    given = settings.model_validate(config.pretrain.methods[method])
    return method_class(method).batching_type(given, config.sequences, 0)


def _by_source(sampler: SequenceSampler) -> dict[str, list[int]]:
    """Data set → numbers of its training sequences."""
    found: dict[str, list[int]] = {}
    for number in range(len(sampler)):
        raw = sampler.raw(number, np.random.default_rng(0), sequences=True)
        found.setdefault(sampler._names[raw.source], []).append(number)
    return found


def _filled(name: str, rows: ItemRows, reader: Reader, numbers: list[int], target: float) -> Row:
    """Processor time to fill the row of an item, beside that to make its volume before."""
    chosen = numbers[:_CROPS]
    turn = itertools.count()
    block = empty(rows, 1)

    def ours() -> None:
        # As in a training, each item goes to another row.
        with patch.object(rows.batching, "choose", _chooser(chosen, next(turn))):
            fill_rows(rows, 0, range(len(chosen)), block)

    def other() -> None:
        choose = _chooser(chosen, next(turn))
        for slot in range(len(chosen)):
            reader.item(*choose(None, 0, 0, slot), sequences=True)

    seconds = alternate({"ours": ours, "other": other}, 4 * ROUNDS, time.process_time)
    each = {side: [1000 * s / len(chosen) for s in found] for side, found in seconds.items()}
    note = "a warm item of 128³ in a worker: drawn, read and copied; before also scaled and joined"
    return smaller(f"CPU of a {name}", "batches the way before", each, target, "ms", note)


def _chooser(numbers: list[int], turn: int) -> Callable[..., tuple[int, np.random.Generator]]:
    def choose(_: object, step: int, size: int, slot: int) -> tuple[int, np.random.Generator]:
        return numbers[slot], np.random.default_rng([turn, step, slot])

    return choose


def _crossing(rows: ItemRows, numbers: dict[str, list[int]]) -> Row:
    """Bytes of an item that cross processes, in the paper's mixture of kinds."""
    block = empty(rows, 1)
    mean = {}
    for source, own in numbers.items():
        with patch.object(rows.batching, "choose", _chooser(own, 0)):
            fill_rows(rows, 0, range(min(len(own), rows.count)), block)
        batch = {name: values[0] for name, values in block.items()}
        used = headers_of(batch, rows.sampler.header)["used"][: len(own)]
        beside = row_bytes(rows) - rows.layout["voxels"].bytes
        mean[source] = float(used.mean()) + beside
    total = sum(_SHARES[source] * size for source, size in mean.items()) / 1e6
    note = ", ".join(
        f"{100 * _SHARES[source]:.3g} % of {size / 1e6:.2f} MB" for source, size in mean.items()
    )
    note += f"; before, {4 * 128**3 / 1e6:.1f} MB of float32"
    return figure("bytes of an item that cross", "the target", [total], 2.7, "MB", "at most", note)


def _calls(store: Path, files: Path) -> Row:
    """Read calls of a box at random places."""
    ours, before = VolumeStore(store), FileStore(files)
    rng = np.random.default_rng(3)
    places = rng.integers(0, np.subtract(ours.shape(0), _BOX) + 1, (_BOXES, 3)).tolist()
    counts: dict[str, list[float]] = {}
    for side, read in (("ours", ours.crop), ("other", before.crop)):
        read(0, places[0], _BOX)
        counts[side] = []
        for place in places:
            first = _read_calls()
            read(0, place, _BOX)
            counts[side].append(_read_calls() - first)
    # Looking at the counter reads as well.
    empty_look = -_read_calls() + _read_calls()
    counts = {side: [n - empty_look for n in found] for side, found in counts.items()}
    note = f"128×128×56 of 512×512×200; before {np.mean(counts['other']):.0f}"
    mean = [float(np.mean(counts["ours"]))]
    return figure("read calls of a box", "the target", mean, 25, "calls", "at most", note)


def _read_calls() -> int:
    """Reading system calls of this process so far (proc(5))."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("syscr"))


def _of_a_rank(config: Config, sampler: SequenceSampler) -> Row:
    """Items that one of eight ranks reads for a batch, of the method that reads most."""
    counts = []
    for method in pretrained():
        own = batching(config, method)
        own.begin(1000, sampler)
        rows = ItemRows(own, sampler, 0, _BATCH, BatchShard(1, _RANKS))
        block = empty(rows, 1)
        with patch.object(SequenceSampler, "read_into", autospec=True) as read:
            fill_rows(rows, 0, range(rows.count), block)
        counts.append(float(read.call_count))
    note = f"batch {_BATCH}; the most of {len(counts)} methods; before {_BATCH}, but for ours"
    return figure(
        f"items read by one rank of {_RANKS}",
        "the target",
        [max(counts)],
        _BATCH / _RANKS,
        "items",
        "at most",
        note,
    )


def _views(config: Config, method: str, sampler: SequenceSampler) -> Iterator[Row]:
    """Milliseconds to draw the views of an item, and to make them as torch on one core."""
    own = batching(config, method)
    rng = np.random.default_rng(0)
    volumes = torch.from_numpy(
        rng.random((_ITEMS, 1, *config.sequences.volume_shape), dtype=np.float32)
    )
    is_ct = np.ones(_ITEMS, bool)
    turn = itertools.count()

    def drawn() -> NDArray[np.void]:
        step = next(turn)
        return np.stack([own.draw(_stream(step, slot)) for slot in range(_ITEMS)])

    drawn()
    taken = [1000 * timed(drawn, time.process_time) / _ITEMS for _ in range(2 * ROUNDS)]
    note = "processor time of an item, in a worker"
    yield figure(f"drawing views: {method}", "the target", taken, 2, "ms", "at most", note)
    given = list(volumes[:, 0].numpy())

    def ours() -> None:
        own.views(volumes, drawn(), is_ct)

    def other() -> None:
        earlier_views.views(own, given, is_ct, numpy_generator(0, "views", next(turn)))

    seconds = alternate({"ours": ours, "other": other}, ROUNDS, time.process_time)
    each = {side: [1000 * s / _ITEMS for s in found] for side, found in seconds.items()}
    note = f"processor time of an item, {_ITEMS} items a batch; torch on one core"
    yield smaller(f"views: {method}", "views the way before", each, 0.5, "ms", note)


def _stream(step: int, slot: int) -> Callable[[int], np.random.Generator]:
    return lambda view: numpy_generator(0, "views", step, slot, view)
