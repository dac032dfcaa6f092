"""Small stores and run configurations for the tests of fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from voxseq.config.data import StoreConfig
from voxseq.config.runs import FinetuneRun
from voxseq.data.store import StoreWriter
from voxseq.plan.context import RunContext

SHAPE = (12, 10, 8)
SPLITS = {"train": 6, "val": 3, "test": 3}
ENCODER = {
    "width": 12,
    "depth": 2,
    "heads": 2,
    "mlp_width": 16,
    "patch_size": [4, 4, 4],
}
RECIPE = {
    "lr": 1e-3,
    "betas": [0.9, 0.95],
    "weight_decay": 0.05,
    "decay_one_dimensional": False,
    "layer_decay": 0.75,
    "decoder_lr": 4e-3,
    "warmup_steps": 1,
    "schedule": "cosine",
    "clip_norm": 12.0,
}
SEGMENTATION = {
    "type": "segmentation",
    "labels": ["organ", "tumour"],
    "roi": [8, 8, 8],
    "crops_per_volume": 2,
    "volumes_per_batch": 2,
    "augmentation": "msd",
    "class_weights": [0.5, 1.0, 2.0],
    "decoder_features": 2,
    "overlap": 0.5,
    "steps": 6,
    "validate_every": 2,
}
CLASSIFICATION = {
    "type": "classification",
    "labels": ["no", "yes"],
    "batch_size": 4,
    "augmentation": "nodule",
    "steps": 6,
    "validate_every": 2,
}


def row(name: str, split: str, label: int, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Columns of one volume whose native grid has a border of one voxel on each side."""
    columns: dict[str, Any] = {
        **dict.fromkeys(("image", "path", "locator", "modality", "contrast", "group"), ""),
        **dict.fromkeys(("label_path", "orientation", "dtype", "content_hash"), ""),
        **dict.fromkeys(("centre_x", "centre_y"), -1),
        **dict.fromkeys(("minimum", "maximum"), 0.0),
        "volume_id": name,
        "subject": name,
        "split": split,
        "label": label,
    }
    for axis, size in zip("xyz", shape, strict=True):
        columns |= {
            f"shape_{axis}": size + 2,
            f"spacing_{axis}": 1.0,
            f"p_spacing_{axis}": 1.0,
            f"crop_start_{axis}": 1,
            f"crop_shape_{axis}": size,
            f"native_{axis}": size + 2,
        }
    return columns


def segmentation_case(
    rng: np.random.Generator, shape: tuple[int, int, int] = SHAPE
) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image with a bright box (class 1) that holds a brighter core (class 2)."""
    label = np.zeros(shape, np.uint8)
    x, y, z = (int(rng.integers(0, s // 2)) for s in shape)
    label[x : x + shape[0] // 2, y : y + shape[1] // 2, z : z + shape[2] // 2] = 1
    label[x + 1 : x + 3, y + 1 : y + 3, z + 1 : z + 3] = 2
    noise = rng.uniform(0, 0.2, shape)
    return (noise + 0.4 * label).astype(np.float32), label


def segmentation_store(
    folder: Path, splits: dict[str, int] | None = None, shape: tuple[int, int, int] = SHAPE
) -> Path:
    """A store of segmented volumes."""
    folder.mkdir(parents=True)
    writer = StoreWriter(folder, StoreConfig(chunk_shape=(4, 4, 4)))
    rng = np.random.default_rng(0)
    key = 0
    for split, count in (splits or SPLITS).items():
        for number in range(count):
            image, label = segmentation_case(rng, shape)
            native = np.pad(label, 1)
            writer.add(key, image, label, row(f"d/{split}{number}", split, -1, shape), native)
            key += 1
    writer.close()
    return folder


def classification_store(
    folder: Path,
    splits: dict[str, int] | None = None,
    one_class: str = "",
    flip_test: bool = False,
) -> Path:
    """A store of dark (class 0) and bright (class 1) volumes, in turn."""
    folder.mkdir(parents=True)
    writer = StoreWriter(folder, StoreConfig())
    rng = np.random.default_rng(0)
    key = 0
    for split, count in (splits or {"train": 10, "val": 6, "test": 6}).items():
        for number in range(count):
            label = 0 if split == one_class else number % 2
            image = (rng.normal(0.3 * label, 0.5, (8, 8, 8))).astype(np.float32)
            if flip_test and split == "test":
                label = 1 - label
            writer.add(key, image, None, row(f"d/{split}{number}", split, label, (8, 8, 8)))
            key += 1
    writer.close()
    return folder


def context(
    root: Path, store: Path, task: dict[str, Any], workers: int = 0, **changes: Any
) -> RunContext[FinetuneRun]:
    """A run of ``task`` with its folders below ``root``."""
    network = "unetr" if task["type"] == "segmentation" else "vit"
    content = {
        "task": "toy",
        "recipe": task,
        "method": network,
        "network": network,
        "network_settings": None,
        "encoder": ENCODER,
        "pretrained": None,
        "trained": "all",
        "optimiser": RECIPE,
        "seed": 0,
        "ratio": 1.0,
        "precision": "32-true",
        "threads": 1,
        "log_every": 1,
        "checkpoint_every": 2,
        **changes,
    }
    config = FinetuneRun.model_validate(content)
    out, state = root / "out", root / "state"
    out.mkdir(parents=True, exist_ok=True)
    state.mkdir(parents=True, exist_ok=True)
    inputs = {"preprocess/task/toy": store}
    return RunContext("finetune/toy/x/s0", config, out, state, inputs, None, workers)
