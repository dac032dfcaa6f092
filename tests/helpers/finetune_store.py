"""Small stores and runs for the tests of fine-tuning."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from voxseq.config.data import StoreConfig
from voxseq.config.model import EncoderConfig, OptimiserConfig
from voxseq.config.runs import FinetuneRun, TaskRun
from voxseq.data.store import StoreWriter
from voxseq.finetune.training import parameter_groups
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.transfer import ENCODER_FILE, save_encoder
from voxseq.plan.context import RunContext

SHAPE = (12, 10, 8)
SPLITS = {"train": 6, "val": 3, "test": 3}
ENCODER = {"width": 12, "depth": 2, "heads": 2, "mlp_width": 16, "patch_size": [4, 4, 4]}
GEOMETRY = EncoderConfig.model_validate(ENCODER)
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
REGRESSION = {
    "type": "regression",
    "target": "age",
    "unit": "years",
    "batch_size": 4,
    "augmentation": "nodule",
    "steps": 6,
    "validate_every": 2,
}


TASKS: dict[str, dict[str, Any]] = {
    "segmentation": SEGMENTATION,
    "classification": CLASSIFICATION,
    "regression": REGRESSION,
}
#: Facts of the task of a network that is kept: prepared images are the stored ones.
KEPT = {
    "title": "Toy",
    "dataset": "la",
    "data": {"normalise": "none", "foreground_crop": False},
}
#: Split, class or number (float), image, label.
Case = tuple[str, float, np.ndarray, np.ndarray | None]


def row(name: str, split: str, target: float, shape: tuple[int, ...]) -> dict[str, Any]:
    """Columns of one volume whose native grid has a border of one voxel on each side.

    A target that is a float is the number of a regression, else the class.
    """
    is_number = isinstance(target, float)
    columns: dict[str, Any] = {
        **dict.fromkeys(("image", "path", "locator", "modality", "contrast", "group"), ""),
        **dict.fromkeys(("label_path", "orientation", "dtype", "content_hash"), ""),
        **dict.fromkeys(("centre_x", "centre_y"), -1),
        **dict.fromkeys(("minimum", "maximum"), 0.0),
        "volume_id": name,
        "subject": name,
        "split": split,
        "label": -1 if is_number else target,
        "value": target if is_number else None,
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


def write_store(folder: Path, cases: Iterable[Case]) -> Path:
    """A store of cases, which are numbered by split."""
    folder.mkdir(parents=True)
    writer = StoreWriter(folder, StoreConfig(chunk_shape=(4, 4, 4)))
    numbers: Counter[str] = Counter()
    for key, (split, target, image, label) in enumerate(cases):
        columns = row(f"d/{split}{numbers[split]}", split, target, image.shape[-3:])
        native = None if label is None else np.pad(label, 1)
        writer.add(key, image.astype(np.float32), label, columns, native)
        numbers[split] += 1
    writer.close()
    return folder


def segmentation_store(
    folder: Path, splits: dict[str, int] | None = None, shape: tuple[int, int, int] = SHAPE
) -> Path:
    """A store of segmented volumes."""
    rng = np.random.default_rng(0)
    wanted = [split for split, count in (splits or SPLITS).items() for _ in range(count)]
    return write_store(folder, [(split, -1, *segmentation_case(rng, shape)) for split in wanted])


def classification_store(
    folder: Path,
    splits: dict[str, int] | None = None,
    one_class: str = "",
    flip_test: bool = False,
) -> Path:
    """A store of dark (class 0) and bright (class 1) volumes, in turn."""
    rng = np.random.default_rng(0)
    cases: list[Case] = []
    for split, count in (splits or {"train": 10, "val": 6, "test": 6}).items():
        for number in range(count):
            label = 0 if split == one_class else number % 2
            image = rng.normal(0.3 * label, 0.5, (8, 8, 8))
            is_flipped = flip_test and split == "test"
            cases.append((split, 1 - label if is_flipped else label, image, None))
    return write_store(folder, cases)


def regression_store(folder: Path, splits: dict[str, int] | None = None) -> Path:
    """A store of volumes whose brightness tells a number between 20 and 80."""
    rng = np.random.default_rng(0)
    cases: list[Case] = []
    for split, count in (splits or {"train": 10, "val": 6, "test": 6}).items():
        for value in rng.uniform(20.0, 80.0, count):
            image = rng.normal(0.05 * (value - 50.0), 0.5, (8, 8, 8))
            cases.append((split, float(value), image, None))
    return write_store(folder, cases)


def grades_store(folder: Path, splits: dict[str, int] | None = None, classes: int = 4) -> Path:
    """A store of volumes whose brightness rises with their class, in turn."""
    rng = np.random.default_rng(0)
    cases: list[Case] = []
    for split, count in (splits or {"train": 16, "val": 8, "test": 8}).items():
        for number in range(count):
            grade = number % classes
            cases.append((split, grade, rng.normal(grade, 0.5, (8, 8, 8)), None))
    return write_store(folder, cases)


def make_stores(
    root: Path, shape: tuple[int, int, int] = SHAPE, images: dict[str, int] | None = None
) -> dict[str, Path]:
    """A store for each type of task."""
    return {
        "segmentation": segmentation_store(root / "segmentation", shape=shape),
        "classification": classification_store(root / "classification", images),
        "regression": regression_store(root / "regression", images),
    }


def pretrained(folder: Path, seed: int = 0, pretraining: bool = True, **changes: Any) -> Encoder:
    """Write an encoder where a pre-training leaves it."""
    config = GEOMETRY.model_copy(update=changes)
    encoder = build_encoder(config, seed, pretraining=pretraining)
    save_encoder(folder / ENCODER_FILE, encoder, config, {})
    return encoder


def context(
    root: Path,
    store: Path,
    task: dict[str, Any],
    workers: int = 0,
    model: type[TaskRun] = FinetuneRun,
    **changes: Any,
) -> RunContext[Any]:
    """A run of ``task`` with its folders below ``root``, and a pre-training in ``root / "pre"``."""
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
    config = model.model_validate({k: v for k, v in content.items() if k in model.model_fields})
    out, state = root / "out", root / "state"
    out.mkdir(parents=True, exist_ok=True)
    state.mkdir(parents=True, exist_ok=True)
    inputs = {"preprocess/task/toy": store, "pretrain/ours": root / "pre"}
    return RunContext("finetune/toy/x/s0", config, out, state, inputs, None, workers)


def rates(network: nn.Module, config: OptimiserConfig, depth: int) -> dict[str, tuple[float, ...]]:
    """Learning rate and weight decay of every parameter."""
    names = {id(p): name for name, p in network.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(network, config, depth)
        for p in group["params"]
    }


def finish(execute: Callable[[RunContext[Any]], None], *args: Any, **changes: Any) -> Path:
    """Do one run and return its results; arguments as in :func:`context`."""
    given = context(*args, **changes)
    execute(given)
    return given.out


def contents(out: Path) -> dict[str, bytes]:
    """The files of a run."""
    return {p.name: p.read_bytes() for p in out.iterdir()}


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open() as handle:
        return list(csv.DictReader(handle))
