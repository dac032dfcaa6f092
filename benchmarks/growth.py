"""How time and memory grow with the number of volumes, sequences and runs."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks import large_index
from benchmarks.harness import MEMORY_ROUNDS, Row, exponent, peak_mib, timed
from benchmarks.material import ROOT, in_ras, table_row
from tests.helpers import fake_study
from voxseq.config import load_config
from voxseq.config.data import StoreConfig
from voxseq.data.index import read_index
from voxseq.data.store import StoreWriter, VolumeStore
from voxseq.data.volume import Entry
from voxseq.plan import build_plan
from voxseq.plan.context import RunContext
from voxseq.report.tables.run import execute_tables

FACTORS = (1, 10, 100)
#: Largest exponent of time and memory, and of memory that does not grow with volumes.
TARGET, FLAT = 1.1, 0.2
#: Each with three sizes, which together give one exponent.
_ROUNDS = 3
#: Share of the paper's catalogue, volumes and seeds at 1×.
_SHARE, _VOLUMES, _SEEDS = 0.002, 2, 1
_SIDE = 64


@dataclass(frozen=True)
class Part:
    """Something whose cost is followed.

    Attributes:
        name: of the part.
        prepare: makes what the work needs: (empty folder, factor) → work.
        memory_target: largest exponent of its memory.
    """

    name: str
    prepare: Callable[[Path, int], Callable[[], object]]
    memory_target: float = TARGET


def run() -> Iterator[Row]:
    """All rows of this module."""
    for part in (
        Part("index: tables written and read", _index),
        Part("index: sequences", _sequences),
        Part("store: volumes written", _written, FLAT),
        Part("store: opened, a crop of each", _read, FLAT),
        Part("plan", _plan),
        Part("tables", _tables),
    ):
        with tempfile.TemporaryDirectory() as name:
            yield from _rows(part, Path(name))


def _rows(part: Part, folder: Path) -> Iterator[Row]:
    works = []
    for factor in FACTORS:
        place = folder / str(factor)
        place.mkdir()
        works.append(part.prepare(place, factor))
    # What is loaded at the first call belongs to neither size.
    works[0]()
    memory = [[peak_mib(work) for work in works] for _ in range(MEMORY_ROUNDS)]
    seconds = [[timed(work) for work in works] for _ in range(_ROUNDS)]
    yield _row(f"growth of time, {part.name}", seconds, "s", TARGET)
    yield _row(f"growth of memory, {part.name}", memory, "MiB", part.memory_target)


def _row(name: str, rounds: list[list[float]], unit: str, target: float) -> Row:
    exponents = [exponent(FACTORS, values) for values in rounds]
    middle = [statistics.median(values) for values in zip(*rounds, strict=True)]
    note = ", ".join(f"{f}×: {m:.3g} {unit}" for f, m in zip(FACTORS, middle, strict=True))
    return Row(
        name=name,
        against="exponent at 1×, 10×, 100×",
        ours=middle[-1],
        other=middle[0],
        unit=unit,
        ratio=statistics.median(exponents),
        low=min(exponents),
        high=max(exponents),
        target=target,
        better="at most",
        rounds=len(rounds),
        note=note,
    )


def _again(folder: Path, work: Callable[[Path], object]) -> Callable[[], object]:
    """Work that writes into an empty folder each time."""

    def cleared() -> None:
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        work(out)

    return cleared


def _simulated(folder: Path, factor: int) -> dict[str, Path]:
    return large_index.simulate(folder, _SHARE * factor, large_index.Report())


def _index(folder: Path, factor: int) -> Callable[[], object]:
    def work(out: Path) -> None:
        inputs = _simulated(out, factor)
        for name, place in inputs.items():
            if name.startswith("download/"):
                read_index(place)

    return _again(folder, work)


def _sequences(folder: Path, factor: int) -> Callable[[], object]:
    inputs = _simulated(folder / "tables", factor)
    settings = large_index.with_draws(large_index.paper().sequences, _SHARE * factor)

    def work(out: Path) -> None:
        large_index.build_index(settings, out, out / "state", inputs)

    return _again(folder, work)


def _written(folder: Path, factor: int) -> Callable[[], object]:
    return _again(folder, lambda out: _write(out, _VOLUMES * factor))


def _read(folder: Path, factor: int) -> Callable[[], object]:
    _write(folder, _VOLUMES * factor)

    def work() -> None:
        store = VolumeStore(folder)
        for number in range(len(store)):
            store.crop(number, (0, 0, 0), (32, 32, 32))

    return work


def _write(folder: Path, count: int) -> None:
    writer = StoreWriter(folder, StoreConfig(chunk_shape=(32, 32, 32)))
    for key in range(count):
        rng = np.random.default_rng(key)
        image = rng.integers(-1000, 1000, (_SIDE, _SIDE, _SIDE), dtype=np.int16)
        entry = Entry(f"case{key:04}", "0", "", modality="CT")
        writer.add(key, image, None, table_row(in_ras(image), entry))
    writer.close()


def _plan(folder: Path, factor: int) -> Callable[[], object]:
    overlay: dict[str, Any] = {"seeds": _SEEDS * factor}
    config = load_config(ROOT / "params.yaml", [overlay])
    return lambda: build_plan(config)


def _tables(folder: Path, factor: int) -> Callable[[], object]:
    seeds = tuple(range(_SEEDS * factor))
    context = fake_study.build(
        folder,
        methods=("vit", "ours"),
        tasks=("task03_liver", "ricord"),
        seeds=seeds,
        ratios=(),
        ablation=(),
    )
    # A study of the report's tests has all of a run's context that the report reads.
    return lambda: execute_tables(cast(RunContext, context))
