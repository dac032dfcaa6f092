"""What other DICOM series in the same folder cost: time of checking, memory of reading."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness import Row, in_turn, peaks, smaller
from tests.helpers import trees
from voxseq import catalogue
from voxseq.config.datasets import DataConfig
from voxseq.config.runs import SplitSettings
from voxseq.data import layouts
from voxseq.data.examine import examine

SERIES, SLICES = 20, 200
#: Largest ratio of the time, and of the memory.
TIME, MEMORY = 1.3, 1.5
_ROUNDS = 3
_DATASET = "dicom_ct"


def run() -> Iterator[Row]:
    """All rows of this module."""
    with tempfile.TemporaryDirectory() as name:
        yield _time(Path(name))
    with tempfile.TemporaryDirectory() as name:
        yield _memory(Path(name))


def _write(folder: Path, number: int, side: int) -> None:
    """A series of square slices; large ones are noise in a corner and zeros, which need no disk."""
    array = np.random.default_rng(number).integers(0, 2000, (16, 16, SLICES))
    own = folder / f"new{number}"
    tags = {"SeriesInstanceUID": f"1.2.3.{number}", "PatientID": f"p{number}"}
    trees.dicom_series(own, array, Rows=side, Columns=side, **tags)
    missing = 2 * (side * side - 16 * 16)
    for path in own.iterdir():
        if missing:
            _lengthen(path, missing, 2 * side * side)
        path.rename(folder / f"{number}-{path.name}")
    own.rmdir()


def _lengthen(path: Path, missing: int, length: int) -> None:
    """Append zeros to the pixels, the last element of the file."""
    content = path.read_bytes()
    short = length - missing
    place = len(content) - short - 4
    path.write_bytes(content[:place] + length.to_bytes(4, "little") + content[place + 4 :])
    with path.open("r+b") as file:
        file.truncate(len(content) + missing)


def _time(root: Path) -> Row:
    folders = {"ours": root / "one", "other": root / "many"}
    for number in range(SERIES):
        for side, folder in folders.items():
            place = folder if side == "ours" else folder / str(number)
            place.mkdir(parents=True, exist_ok=True)
            _write(place, number, 16)
    dataset, split = catalogue.get(_DATASET), SplitSettings.of(DataConfig())
    seconds: dict[str, list[float]] = {side: [] for side in folders}
    for sides in in_turn(_ROUNDS, list(folders)):
        for side in sides:
            began = time.process_time()
            found = examine(dataset, folders[side], None, split)
            seconds[side].append(time.process_time() - began)
            assert len(found.rows) == SERIES
    note = f"{SERIES} series of {SLICES} slices of 16 × 16; processor time of the examination"
    return smaller("series in one folder", f"{SERIES} folders", seconds, TIME, "s", note)


def _memory(root: Path) -> Row:
    folders = {"ours": root / "beside", "other": root / "alone"}
    for side, folder in folders.items():
        folder.mkdir()
        for number in range(SERIES if side == "ours" else 1):
            _write(folder, number, 512)
    dataset = catalogue.get(_DATASET)
    layout = layouts.get(dataset.layout)

    def read(side: str) -> None:
        entries = layout.scan(folders[side], dataset).entries
        layout.read_image(folders[side], entries[0])

    sizes = peaks({side: partial(read, side) for side in folders})
    note = f"{SLICES} slices of 512 × 512 beside {SERIES - 1} such series; listed and read"
    return smaller("memory of reading a series", "the series alone", sizes, MEMORY, "MiB", note)
