"""Index and sequence building at the paper's size, without a voxel.

A simulated catalogue with the true counts goes through writing and reading of all tables, the
sequence index and the opening of the sampler; time and memory of every part are printed.

    python benchmarks/large_index.py [--share 1.0] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from voxseq.config import Config, load_config, read_yaml
from voxseq.config.data import SequencesConfig
from voxseq.config.runs import SequencesRun
from voxseq.data.index import INDEX, SCHEMA, read_index, write_table
from voxseq.data.store import SCHEMA as STORE_SCHEMA
from voxseq.data.store import TABLE
from voxseq.plan.context import RunContext
from voxseq.plan.data import sequences_run
from voxseq.sequences import build, ranges
from voxseq.sequences.sampler import SequenceSampler

ROOT = Path(__file__).resolve().parents[1]
#: Images of the spatial sources. Publishers' counts; the remainder to the paper's 23,287 falls to
#: RSNA-2020-PED, whose test images are to be had as well.
SPATIAL = {
    "ribfrac": 660,
    "tcia_covid19": 771,
    "amos22": 600,
    "isles2022": 750,
    "abdomenct1k": 1112,
    "totalsegmentator": 1228,
    "verse20": 319,
    "rsna2022_csfd": 2019,
    "rsna2020_ped": 7728,
    "stoic": 2000,
    "flare22": 2100,
    "flare23": 4000,
}
#: Subjects of BraTS 23, each with four contrasts.
SUBJECTS = 2995
#: Lesions of DeepLesion, how many of them have a type, and patients.
LESIONS, TYPED, PATIENTS = 32_735, 9816, 4427
#: Types 1 to 8 in the shares that the typed test rows have.
TYPES = np.array([108, 1173, 864, 700, 1100, 234, 339, 409]) / 4927
#: Cases of the tasks, of which three in ten are held out from pre-training.
TASKS = {
    "task03_liver": 131,
    "task06_lung": 63,
    "task07_pancreas": 281,
    "task08_hepaticvessel": 303,
    "task09_spleen": 41,
    "task10_colon": 126,
    "la": 100,
    "ricord": 330,
    "nodule": 1633,
}
KINDS = ("contrast", "semantic", "spatial")


@dataclass
class Report:
    """Seconds of each part, and the most memory that the process had."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds of all parts, the simulation itself left out."""
        return sum(s for name, s in self.seconds.items() if name != "simulate")

    def add(self, name: str, began: float) -> None:
        """Record the end of a part."""
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
        self.peak_mb[name] = _peak_mb()


def _peak_mb() -> float:
    """Highest resident memory of this program (proc(5)); getrusage would count its parent's too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _row(dataset: str, subject: str, image: str, rng: np.random.Generator) -> dict[str, Any]:
    """One row of an index and of a store, with every column of both."""
    shape = (512, 512, int(rng.integers(40, 500)))
    axes = dict(zip("xyz", shape, strict=True))
    words = dict.fromkeys((f.name for f in STORE_SCHEMA if str(f.type) == "string"), "")
    return {
        **words,
        "volume_id": f"{dataset}/{subject}/{image}",
        "subject": subject,
        "image": image,
        "path": f"images/{subject}/{image}.nii.gz",
        "modality": "CT",
        "label": -1,
        "split": "train",
        "orientation": "LPS",
        "dtype": "int16",
        "content_hash": rng.bytes(32).hex(),
        "centre_x": -1,
        "centre_y": -1,
        "minimum": -1024.0,
        "maximum": 3071.0,
        "affine": [0.8, 0.0, 0.0, 0.0, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0, 1.5, 0.0, 0.0, 0.0, 0.0, 1.0],
        "thumbnail": rng.standard_normal(512).astype(np.float32).tolist(),
        # Of no thumbnails at random are any candidates: nobody reads it.
        "detail": "",
        "files": [],
        "channels": [],
        "value": None,
        "p1": -1000.0,
        "p999": 1200.0,
        "voxels": "{}",
        "has_label": False,
        "has_native_label": False,
        **{
            f"{name}_{a}": n
            for name in ("shape", "p", "crop_shape", "native")
            for a, n in axes.items()
        },
        **{f"{name}_{a}": 1.0 for name in ("spacing", "p_spacing") for a in axes},
        **{f"crop_start_{a}": 0 for a in axes},
    }


def _spatial_rows(name: str, count: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for number in range(count):
        modality = "MRI" if name == "isles2022" or (name == "amos22" and number >= 500) else "CT"
        yield {**_row(name, f"s{number:05d}", "scan", rng), "modality": modality}


def _contrast_rows(count: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    sides = {"x": 240, "y": 240, "z": 155}
    shape = {f"{name}_{a}": n for name in ("shape", "p") for a, n in sides.items()}
    for number in range(count):
        subject = f"BraTS-GLI-{number:05d}-000"
        for contrast in ("t1c", "t1n", "t2f", "t2w"):
            own = {"modality": "MRI", "contrast": contrast, "group": subject}
            yield {**_row("brats23", subject, contrast, rng), **own, **shape}


def _lesion_rows(share: float, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    typed = _part(TYPED, share)
    kinds = rng.choice(np.arange(1, 9), typed, p=TYPES / TYPES.sum())
    for number in range(_part(LESIONS, share)):
        subject = f"{number % _part(PATIENTS, share):06d}"
        label = int(kinds[number]) if number < typed else -1
        place = {"centre_x": int(rng.integers(512)), "centre_y": int(rng.integers(512))}
        yield {**_row("deeplesion", subject, f"l{number}", rng), **place, "label": label}


def with_draws(sequences: SequencesConfig, share: float) -> SequencesRun:
    """The configuration of the index with a share of the draws per lesion category."""
    settings = sequences_run(sequences)
    draws = _part(settings.semantic.draws_per_category, share)
    semantic = settings.semantic.model_copy(update={"draws_per_category": draws})
    return settings.model_copy(update={"semantic": semantic})


def _part(count: int, share: float) -> int:
    return max(round(count * share), 1)


def simulate(folder: Path, share: float, report: Report) -> dict[str, Path]:
    """Write the tables that download and preparation would leave; returns run id → folder.

    Args:
        folder: an empty folder.
        share: of all counts.
        report: gets the seconds of ``simulate`` and ``write tables``.
    """
    rng = np.random.default_rng(0)
    inputs: dict[str, Path] = {}
    sources: dict[str, Iterator[dict[str, Any]]] = {
        **{name: _spatial_rows(name, _part(n, share), rng) for name, n in SPATIAL.items()},
        "brats23": _contrast_rows(_part(SUBJECTS, share), rng),
        "deeplesion": _lesion_rows(share, rng),
    }
    tasks = {name: _spatial_rows(name, _part(n, share), rng) for name, n in TASKS.items()}
    for name, rows in {**sources, **tasks}.items():
        began = time.perf_counter()
        table = list(rows)
        if name in TASKS:
            for number, row in enumerate(table):
                row["split"] = ("train", "val", "test")[max(number % 10 - 7, 0)]
        report.add("simulate", began)
        began = time.perf_counter()
        inputs[f"download/{name}"] = folder / "download" / name
        write_table(inputs[f"download/{name}"] / INDEX, _columns(table, SCHEMA), SCHEMA)
        if name in sources:
            store = folder / "store" / name
            inputs[f"preprocess/source/{name}"] = store
            write_table(store / TABLE, _columns(table, STORE_SCHEMA), STORE_SCHEMA)
        report.add("write tables", began)
        report.counts["rows"] = report.counts.get("rows", 0) + len(table)
    return inputs


def _columns(rows: list[dict[str, Any]], schema: Any) -> list[dict[str, Any]]:
    return [{name: row[name] for name in schema.names} for row in rows]


def build_index(settings: SequencesRun, out: Path, state: Path, inputs: dict[str, Path]) -> None:
    """Build the index with ranges of 0 to 1, since there is no voxel to find others of."""
    unit = np.array([[0.0, 1.0]])
    with patch.object(ranges, "measure", lambda _, crops: unit.repeat(len(crops.boxes), axis=0)):
        build.execute(RunContext("sequences/all", settings, out, state, inputs, None))


def paper() -> Config:
    """The configuration of the paper's scale."""
    overlay = read_yaml(ROOT / "workflow/scales/paper.yaml")
    return load_config(ROOT / "params.yaml", [overlay])


def measure(folder: Path, share: float = 1.0) -> Report:
    """Run all parts once.

    Args:
        folder: an empty folder, which gets some hundred MB at full size.
        share: of the paper's counts; draws for each type of lesion shrink with it.
    """
    config = paper()
    report = Report()
    inputs = simulate(folder, share, report)
    began = time.perf_counter()
    for name, place in inputs.items():
        if name.startswith("download/"):
            read_index(place)
    report.add("read indexes", began)
    began = time.perf_counter()
    out = folder / "sequences"
    out.mkdir()
    settings = with_draws(config.sequences, share)
    build_index(settings, out, folder / "state", inputs)
    report.add("build sequences", began)
    began = time.perf_counter()
    prefix = "preprocess/source/"
    stores = {n.removeprefix(prefix): p for n, p in inputs.items() if n.startswith(prefix)}
    sampler = SequenceSampler(out, stores, config.sequences, KINDS, seed=0)
    for position in range(1000):
        sampler._choose(position, np.random.default_rng(position))
    report.add("open sampler", began)
    began = time.perf_counter()
    report.counts["CT"], report.counts["MRI"] = (len(sampler.numbers(m)) for m in ("CT", "MRI"))
    report.add("modalities", began)
    report.counts["sequences"] = len(sampler)
    size = sum(path.stat().st_size for path in out.glob("*.parquet"))
    report.counts["index bytes"] = size
    return report


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the paper's counts")
    parser.add_argument("--folder", type=Path, help="where tables are kept; default: nowhere")
    given = parser.parse_args()
    if given.folder is not None:
        given.folder.mkdir(parents=True)
        report = measure(given.folder, given.share)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = measure(Path(folder), given.share)
    print(f"{'part':18} {'seconds':>8} {'peak MB':>8}")
    for name, seconds in report.seconds.items():
        print(f"{name:18} {seconds:8.1f} {report.peak_mb[name]:8.0f}")
    print(f"{'all but simulate':18} {report.total:8.1f} {max(report.peak_mb.values()):8.0f}")
    print(", ".join(f"{name} {count:,}" for name, count in report.counts.items()))


if __name__ == "__main__":
    main()
