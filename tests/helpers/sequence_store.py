"""Tiny volume stores and sequence indexes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxseq.config.data import SequencesConfig, StoreConfig
from voxseq.config.runs import SequencesRun
from voxseq.data.index import INDEX, SCHEMA, write_table
from voxseq.data.store import StoreWriter
from voxseq.data.thumbnail import packed_detail, small_pictures
from voxseq.data.volume import Volume
from voxseq.plan.context import RunContext
from voxseq.plan.data import sequences_run
from voxseq.sequences import build
from voxseq.sequences.sampler import SequenceSampler

CONTRASTS = ("t1n", "t1c", "t2w", "t2f")
KINDS = ("contrast", "semantic", "spatial")


@dataclass(frozen=True)
class Image:
    """One volume of a data set."""

    subject: str
    array: np.ndarray
    image: str = "scan"
    split: str = "train"
    contrast: str = ""
    group: str = ""
    label: int = -1
    centre: tuple[int, int] = (-1, -1)

    def row(self, dataset: str) -> dict[str, Any]:
        """Its row of the index."""
        shape = self.array.shape
        content = np.ascontiguousarray(self.array, dtype=np.float32).tobytes()
        thumbnail, detail = small_pictures(Volume(self.array, np.eye(4), oriented=False))
        return {
            **dict.fromkeys(("path", "locator", "label_path", "orientation"), ""),
            "dtype": "float32",
            "modality": "MRI" if self.contrast else "CT",
            "volume_id": f"{dataset}/{self.subject}/{self.image}",
            "subject": self.subject,
            "image": self.image,
            "contrast": self.contrast,
            "group": self.group,
            "label": self.label,
            "split": self.split,
            "content_hash": hashlib.sha256(content).hexdigest(),
            "centre_x": self.centre[0],
            "centre_y": self.centre[1],
            "minimum": float(self.array.min()),
            "maximum": float(self.array.max()),
            **{f"shape_{a}": n for a, n in zip("xyz", shape, strict=True)},
            **{f"spacing_{a}": 1.0 for a in "xyz"},
            "affine": np.eye(4).ravel().tolist(),
            "thumbnail": thumbnail,
            "detail": packed_detail(detail),
        }


def write_download(folder: Path, dataset: str, images: Sequence[Image]) -> Path:
    """What a finished download run leaves: the index."""
    folder.mkdir(parents=True)
    write_table(folder / INDEX, [image.row(dataset) for image in images], SCHEMA)
    return folder


def write_store(
    folder: Path,
    dataset: str,
    images: Sequence[Image],
    chunk_shape: tuple[int, int, int] = (8, 8, 8),
) -> Path:
    """What a finished preparation of a source leaves: the store."""
    folder.mkdir(parents=True)
    writer = StoreWriter(folder, StoreConfig(chunk_shape=chunk_shape))
    for key, image in enumerate(images):
        shape = dict(zip("xyz", image.array.shape, strict=True))
        geometry = {
            **{f"p_spacing_{a}": 1.0 for a in shape},
            **{f"crop_start_{a}": 0 for a in shape},
            **{f"crop_shape_{a}": n for a, n in shape.items()},
            **{f"native_{a}": n for a, n in shape.items()},
        }
        writer.add(key, image.array, None, {**image.row(dataset), **geometry})
    writer.close()
    return folder


def noise(seed: int, shape: tuple[int, int, int] = (14, 12, 13)) -> np.ndarray:
    """Whole numbers without structure."""
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def ramp(which: int, shape: tuple[int, int, int] = (12, 12, 8)) -> np.ndarray:
    """Increasing along x, decreasing along x, increasing along y, decreasing along y."""
    x, y, _ = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return ((x, -x, y, -y)[which] * 10).astype(np.int16)


def direction(patch: np.ndarray) -> int:
    """Which of the ramps a patch shows; -1 for none."""
    for which in range(4):
        steps = np.diff(patch, axis=0 if which < 2 else 1) * (1 if which % 2 == 0 else -1)
        if (steps >= 0).all() and steps.max() > 0:
            return which
    return -1


def config(**changes: Any) -> SequencesConfig:
    """Sequences of 4 patches of 8 x 8 x 2 voxels."""
    content: dict[str, Any] = {
        "volume_shape": (8, 8, 8),
        "length": 4,
        "sources": (
            {"dataset": "amos22", "kind": "spatial"},
            {"dataset": "brats23", "kind": "contrast"},
            {"dataset": "deeplesion", "kind": "semantic"},
        ),
        "spatial": {
            "crops_per_volume": 6,
            "crop_shape": (10, 10, 10),
            "window_shape": (8, 8, 8),
            "stride": 1,
        },
        "contrast": {"crops_per_subject": 5, "crop_shape": (6, 6, 3)},
        "semantic": {"window": (6, 6), "draws_per_category": 7},
        "validation_every": 4,
        "seed": 3,
    }
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    return SequencesConfig.model_validate(content)


SOURCES: dict[str, list[Image]] = {
    "amos22": [Image(f"s{i}", noise(i)) for i in range(3)] + [Image("thin", noise(9, (14, 12, 5)))],
    # Stored in another order than that of the sequence.
    "brats23": [
        Image(f"p{p}", ramp(CONTRASTS.index(c)), image=c, contrast=c, group=f"p{p}")
        for p in range(2)
        for c in ("t2f", "t1n", "t2w", "t1c")
    ],
    "deeplesion": [
        Image(f"c{category}_{i}", ramp(i % 4, (10, 10, 3 + i)), label=category, centre=(3 + i, 5))
        for category in (1, 4)
        for i in range(6)
    ],
}


def index_context(
    folder: Path,
    sequences: SequencesConfig,
    sources: dict[str, list[Image]],
    tasks: dict[str, list[Image]] | None = None,
    workers: int = 0,
    chunk_shape: tuple[int, int, int] = (8, 8, 8),
) -> RunContext[SequencesRun]:
    """What the stage that builds the index is given, with stores that are written here."""
    stores = {
        name: write_store(folder / "store" / name, name, images, chunk_shape)
        for name, images in sources.items()
    }
    inputs = {f"preprocess/source/{name}": path for name, path in stores.items()}
    for name, images in {**sources, **(tasks or {})}.items():
        inputs[f"download/{name}"] = write_download(folder / "download" / name, name, images)
    out = folder / "index"
    out.mkdir()
    config = sequences_run(sequences)
    return RunContext("sequences/all", config, out, folder / "state", inputs, None, workers)


def build_index(
    folder: Path,
    sequences: SequencesConfig,
    sources: dict[str, list[Image]],
    tasks: dict[str, list[Image]] | None = None,
    workers: int = 0,
    chunk_shape: tuple[int, int, int] = (8, 8, 8),
) -> tuple[Path, dict[str, Path]]:
    """Write stores and the index; returns the index's folder and the stores by data set."""
    context = index_context(folder, sequences, sources, tasks, workers, chunk_shape)
    build.execute(context)
    return context.out, {name: folder / "store" / name for name in sources}


def sampler(
    folder: Path, kinds: tuple[str, ...] = KINDS, seed: int = 0, **changes: Any
) -> SequenceSampler:
    """A sampler of the tiny sources; the index is written at the first call for a folder."""
    sequences = config(**changes)
    if not (folder / "index").exists():
        build_index(folder, sequences, SOURCES)
    stores = {name: folder / "store" / name for name in SOURCES}
    return SequenceSampler(folder / "index", stores, sequences, kinds, seed)
