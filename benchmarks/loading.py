"""Reading training sequences, and preparing pre-training data, against the published way.

The published way writes 50 crops of each volume, resized to 128³ and scaled by their percentiles,
as float32 arrays (8.4 MB each), and joins four slabs of one when it is read. voxseq keeps each
volume once in a chunked store and cuts, resizes and scales when a sequence is read.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import blosc2
import nibabel
import numpy as np
import pandas as pd
from monai.transforms import Compose, RandSpatialCrop, Resize, ScaleIntensityRangePercentiles

from benchmarks.flops import prepare
from benchmarks.harness import ROUNDS, Row, Unmeasured, alternate, faster, in_turn, smaller, timed
from benchmarks.material import ct_like, paper_config, table_row
from voxseq.base.files import write_json
from voxseq.data import grid as resample
from voxseq.data.readers import nifti
from voxseq.data.store import StoreWriter, VolumeStore
from voxseq.data.volume import Entry
from voxseq.sequences.boxes import BOX
from voxseq.sequences.build import random_boxes
from voxseq.sequences.ranges import VolumeCrops, measure
from voxseq.sequences.sampler import SequenceSampler
from voxseq.sequences.table import LEFT_OUT

CROP = (128, 128, 128)
CROPS = 50
_CROPS_OF_A_ROUND = CROPS // ROUNDS
SHAPE = (512, 512, 200)
#: Sequences read in one round, which takes so short a time that many rounds are needed; fewer of
#: those that drop the page cache first.
READS, _MANY, _COLD = 10, 5 * ROUNDS, 2 * ROUNDS
CT = "ct.nii.gz"
#: The planes of a crop that one sequence takes, and boxes read in one round.
PLANES, BOXES = (128, 128, 56), 30


def run() -> Iterator[Row | Unmeasured]:
    """All rows of this module."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = nibabel.Nifti1Image(ct_like(SHAPE), np.diag([0.8, 0.8, 1.5, 1]))
        nibabel.save(image, folder / CT)
        del image
        yield from _prepare(folder)
        yield from _read(folder)
        yield from _boxes(folder)


def _prepare(folder: Path) -> Iterator[Row]:
    """Seconds and bytes of a volume, reading included."""
    seconds: dict[str, list[float]] = {"ours": [], "other": []}
    sizes: dict[str, list[float]] = {"ours": []}
    for number, names in enumerate(in_turn(ROUNDS, list(seconds))):
        for side in names:
            if side == "ours":
                shutil.rmtree(folder / side, ignore_errors=True)
                seconds[side].append(timed(partial(prepared_by_us, folder, folder / side)))
                sizes[side].append(_bytes(folder / side) / 2**20)
            else:
                part = range(number * _CROPS_OF_A_ROUND, (number + 1) * _CROPS_OF_A_ROUND)
                seconds[side].append(prepared_as_published(folder, folder / side, part))
    # All of them are there now, and of one size.
    sizes["other"] = [_bytes(folder / "other") / 2**20] * ROUNDS
    note = (
        "512×512×200 CT; ours is read twice, checked, hashed and compressed; of the crops "
        f"{_CROPS_OF_A_ROUND} are made in a round, their time counts {CROPS // _CROPS_OF_A_ROUND}×"
    )
    against = f"{CROPS} crops, resized, scaled by percentiles, a .npy each"
    yield faster("preparing a CT", against, seconds, 2.0, note)
    yield smaller("bytes of a prepared CT", against, sizes, 1 / 5, "MiB")
    a_sequence = {side: [mib / CROPS for mib in sizes[side]] for side in sizes}
    note = f"{CROPS} sequences of a volume, as published"
    yield smaller("disk a training sequence", "a crop of float32", a_sequence, 1 / 5, "MiB", note)


def prepared_by_us(folder: Path, out: Path) -> None:
    """Take one volume in and store it, as the stages download and preprocess do one by one."""
    row = table_row(nifti.read(folder, CT), Entry("ct", "0", CT, modality="CT"))
    image, _ = resample.to_ras(nifti.read(folder, CT))
    out.mkdir()
    writer = StoreWriter(out, paper_config().store)
    writer.add(0, image, None, row)
    writer.close()


def prepared_as_published(folder: Path, out: Path, numbers: Sequence[int]) -> float:
    """Crops of one volume as float32 files of 128³.

    Args:
        folder: holds the volume.
        out: folder of the files.
        numbers: of the crops that are made.

    Returns:
        Seconds that all :data:`CROPS` take: the reading, and as much for each as for these.
    """
    out.mkdir(exist_ok=True)
    began = time.perf_counter()
    image = nibabel.load(folder / CT).get_fdata().astype(np.float32)[None]
    reading = time.perf_counter() - began
    crop = Compose(
        [
            RandSpatialCrop(CROP, random_size=False),
            Resize(CROP, mode="trilinear"),
            ScaleIntensityRangePercentiles(1, 99.9, 0.0, 1.0, clip=True),
        ]
    )
    crop.set_random_state(numbers[0])

    def make() -> None:
        for number in numbers:
            np.save(out / f"{number}.npy", np.asarray(crop(image))[0])

    return reading + timed(make) * CROPS / len(numbers)


def _read(folder: Path) -> Iterator[Row | Unmeasured]:
    """Sequences a second, with and without the page cache."""
    prepare()
    store, crops = folder / "ours", folder / "other"
    index = _write_index(folder / "index", store)
    order = np.random.default_rng(1).permutation(CROPS)
    turn = {"ours": 0, "other": 0}

    def following(side: str) -> Iterator[tuple[int, np.random.Generator]]:
        for _ in range(READS):
            turn[side] += 1
            yield int(order[turn[side] % CROPS]), np.random.default_rng(turn[side])

    def ours() -> None:
        for row, generator in following("ours"):
            sampler.read("spatial", row, generator)

    def published() -> None:
        for row, generator in following("other"):
            crop = np.load(crops / f"{row}.npy")
            start = int(generator.integers(64))
            np.concatenate([crop[:, :, start + 8 * i :][:, :, :32] for i in range(4)], axis=2)

    sides = {"ours": ours, "other": published}
    against = "np.load of float32 crops"
    sampler = _sampler(index, store)
    note = "128³ of a 512×512×200 CT; the range of a crop is in the index"
    yield faster("spatial sequences, warm", against, alternate(sides, _MANY), 1.0, note, READS)

    yield _cold(sides, {"ours": store, "other": crops}, against)


def _boxes(folder: Path) -> Iterator[Row]:
    """Boxes at random places, against an open Blosc2 file of the same chunks and blocks."""
    store = VolumeStore(folder / "ours")
    path = folder / "ct.b2nd"
    place = store.place(0, "images")
    blosc2.asarray(
        store.image(0),
        chunks=place.chunks,
        blocks=place.blocks,
        urlpath=str(path),
        cparams=blosc2.CParams(codec=blosc2.Codec.LZ4HC, clevel=5, nthreads=1),
    )
    file = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
    starts = random_boxes(place.shape, PLANES, BOXES, np.random.default_rng(3))[:, :3].tolist()

    def from_file(start: Sequence[int]) -> object:
        return file[tuple(slice(s, s + n) for s, n in zip(start, PLANES, strict=True))]

    sides: dict[str, Callable[[Sequence[int]], object]] = {
        "ours": lambda start: store.crop(0, start, PLANES),
        "other": from_file,
    }
    calls: dict[str, list[float]] = {side: [] for side in sides}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    counting = -_read_calls() + _read_calls()
    for side, read in sides.items():
        for start in starts:
            before = _read_calls()
            read(start)
            calls[side].append(_read_calls() - before - counting)
    for names in in_turn(_MANY, list(sides)):
        for side in names:
            began = time.process_time()
            for start in starts:
                sides[side](start)
            seconds[side].append(time.process_time() - began)
    against, note = "an open Blosc2 file", "128×128×56 of a 512×512×200 CT, chunks of 32³"
    yield smaller("reads of a box", against, calls, 1 / 4, "calls", note)
    note += "; processor time, in memory"
    yield faster("reading a box, warm", against, seconds, 1.1, note, BOXES)


def _read_calls() -> int:
    """Calls by which this process has read, some of these among them (proc(5))."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("syscr"))


def _cold(
    sides: Mapping[str, Callable[[], None]], folders: Mapping[str, Path], against: str
) -> Row | Unmeasured:
    name = "spatial sequences, cold"
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    read: dict[str, list[float]] = {side: [] for side in sides}
    for names in in_turn(_COLD, list(sides)):
        for side in names:
            _forget(folders[side])
            before = _read_mib()
            seconds[side].append(timed(sides[side]))
            read[side].append((_read_mib() - before) / READS)
    if min(min(found) for found in read.values()) == 0:
        return Unmeasured(name, "a temporary folder on a disk whose page cache can be dropped")
    ours, other = (statistics.median(read[side]) for side in ("ours", "other"))
    note = f"the same, files dropped from the page cache; read {ours:.2f} and {other:.2f} MiB each"
    return faster(name, against, seconds, 4.0, note, READS)


def _read_mib() -> float:
    """What this process has had read from disks (proc(5))."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes")) / 2**20


def _write_index(index: Path, store: Path) -> Path:
    index.mkdir()
    boxes = random_boxes(VolumeStore(store).shape(0), CROP, CROPS, np.random.default_rng(2))
    table = pd.DataFrame(boxes.astype(np.int32), columns=list(BOX))
    table = table.assign(store=np.int32(0), row=np.int32(0), validation=False)
    config = paper_config().sequences
    crops = np.insert(boxes, (6, 6, 6), config.spatial.window_shape, axis=1)
    found = measure(config.percentiles, VolumeCrops(store, 0, crops))
    for names in (("low", "high"), ("image_low", "image_high")):
        table = table.assign(**dict(zip(names, found.T, strict=True)))
    table.to_parquet(index / "spatial.parquet", index=False)
    write_json(index / "sources.json", ["bench"])
    write_json(index / LEFT_OUT, {"sources": [], "kinds": []})
    return index


def _sampler(index: Path, store: Path) -> SequenceSampler:
    return SequenceSampler(index, {"bench": store}, paper_config().sequences, ("spatial",), 0)


def _forget(folder: Path) -> None:
    """Drop the files' pages from the cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
