"""Small models that were trained on NIfTI files, with these files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from tests.helpers.finetune_store import CLASSIFICATION, SEGMENTATION, context, row
from voxseq.config.data import StoreConfig, TaskDataConfig
from voxseq.data.prepared import place_label, prepare_image
from voxseq.data.readers import nifti
from voxseq.data.store import StoreWriter
from voxseq.finetune import run

#: Axes of the files run left, inferior, posterior; voxels are not cubes.
AFFINE = np.array([[-1.5, 0, 0, 10], [0, 0, -1, 20], [0, -1.2, 0, -5], [0, 0, 0, 1.0]])
SHAPE = (17, 15, 13)
SPLITS = {"train": 4, "val": 2, "test": 3}
RECIPES: dict[str, dict[str, Any]] = {
    "segmentation": {**SEGMENTATION, "score_grid": "native", "steps": 4},
    "classification": {**CLASSIFICATION, "labels": ["none", "few", "many"], "steps": 4},
    "regression": {
        "type": "regression",
        "target": "brightness",
        "unit": "HU",
        "batch_size": 4,
        "steps": 4,
        "validate_every": 2,
    },
}
PREPARATION: dict[str, dict[str, Any]] = {
    "segmentation": {"window": [0, 1000], "spacing": [1.1, 1.3, 1.0], "crop_margin": 1},
    "classification": {"window": [0, 1000], "resize": [8, 8, 8]},
    "regression": {"normalise": "zscore", "resize": [8, 8, 8]},
}


@dataclass(frozen=True)
class Trained:
    """A model and the files that it was trained on.

    Attributes:
        folder: of the model, a finished run.
        images: files of the test split.
        labels: files of their classes, by the same names; empty where there are none.
    """

    folder: Path
    images: Path
    labels: Path


def image_of(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image with two nested boxes in air, and its classes."""
    label = np.zeros(SHAPE, np.uint8)
    start = rng.integers(2, 5, 3)
    label[tuple(slice(s, s + 8) for s in start)] = 1
    label[tuple(slice(s + 2, s + 5) for s in start)] = 2
    noise = rng.integers(0, 200, SHAPE)
    image = np.where(label > 0, 200 * label + noise + 60 * (number % 3), -50)
    return image.astype(np.int16), label


def write(path: Path, array: np.ndarray) -> None:
    """Write a NIfTI file with both forms, codes and units."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, AFFINE)
    image.set_sform(AFFINE, code=2)
    image.set_qform(AFFINE, code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"made by a test"
    nibabel.save(image, path)


def train(root: Path, kind: str, seed: int = 0, **changes: Any) -> Trained:
    """Train one small model on files below ``root``."""
    images, labels, store = root / "images", root / "labels", root / "store"
    if not store.exists():
        _make_store(root, kind)
    title = {"title": "Toy", "dataset": "la", "data": PREPARATION[kind]}
    given = context(*(root / f"run{seed}", store, RECIPES[kind]), seed=seed, kept=title, **changes)
    run.execute(given)
    return Trained(given.out, images, labels)


def _make_store(root: Path, kind: str) -> None:
    store = root / "store"
    store.mkdir(parents=True)
    writer = StoreWriter(store, StoreConfig(chunk_shape=(4, 4, 4)))
    rng = np.random.default_rng(0)
    data = TaskDataConfig.model_validate(PREPARATION[kind])
    numbers = [(split, n) for split, count in SPLITS.items() for n in range(count)]
    if kind != "segmentation":
        numbers = [(split, n) for split, count in SPLITS.items() for n in range(3 * count)]
    for key, (split, number) in enumerate(numbers):
        image, label = image_of(rng, number)
        place = root / "images" if split == "test" else root / "others"
        name = f"{split}{number}"
        write(place / f"{name}.nii.gz", image)
        made = prepare_image([nifti.read(place, f"{name}.nii.gz")], data)
        columns = row(name, split, number % 3, SHAPE) | made.columns
        columns["value"] = 60.0 * (number % 3)
        if kind != "segmentation":
            writer.add(key, made.image, None, columns)
            continue
        native, prepared = place_label(label, made)
        writer.add(key, made.image, prepared, columns, native)
        if split == "test":
            write(root / "labels" / f"{name}.nii.gz", label)
    writer.close()
