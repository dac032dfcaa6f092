"""Volumes and stores that the measurements share."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxseq.base.random import torch_generator
from voxseq.catalogue.splits import TRAIN
from voxseq.config import Config, load_config, read_yaml
from voxseq.config.base import Shape3
from voxseq.data.checks import check_image
from voxseq.data.index import index_row
from voxseq.data.volume import Entry, Volume
from voxseq.pretrain.methods.ours import AutoregressiveMethod

ROOT = Path(__file__).resolve().parents[1]
Spacing = tuple[float, float, float]
_BALLS = 12
#: Largest distance of a typical share of scored tokens from a half.
_TYPICAL = 0.02


def demo_config() -> Config:
    """The demo's configuration, params.yaml."""
    return load_config(ROOT / "params.yaml")


def paper_config() -> Config:
    """The configuration of the paper's scale."""
    return load_config(ROOT / "params.yaml", [read_yaml(ROOT / "workflow/scales/paper.yaml")])


def ct_like(shape: Shape3, seed: int = 0) -> NDArray[np.int16]:
    """Bodies of several densities, with the noise of a scanner everywhere but outside its circle.

    Args:
        shape: voxels (X, Y, Z).
        seed: of bodies and noise.

    Returns:
        Hounsfield units, RAS axes.
    """
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(
        *[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True
    )
    volume = np.full(shape, -1000, np.float32)
    inside = np.broadcast_to((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, shape)
    volume[inside] = 40
    for _ in range(_BALLS):
        (a, b, c), radius = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.05, 0.3)
        ball = (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < radius**2
        volume[ball & inside] = rng.uniform(-800, 900)
    volume += rng.standard_normal(shape, dtype=np.float32) * 12
    volume[np.broadcast_to(x**2 + y**2 > 1, shape)] = -1024
    return np.rint(volume).astype(np.int16)


def in_ras(array: NDArray[Any], spacing: Spacing = (1.0, 1.0, 1.0)) -> Volume:
    """An array as an image whose axes run right, anterior, superior."""
    return Volume(array, np.diag([*spacing, 1.0]))


def table_row(volume: Volume, entry: Entry, split: str = TRAIN) -> dict[str, Any]:
    """Columns of the store's table for a volume that is kept as it is, but for what the store adds.

    The image is checked and hashed on the way, as it is when a data set is taken in.
    """
    row = index_row("bench", entry, volume, check_image(volume, entry.path)) | {"split": split}
    for axis, size, step in zip("xyz", volume.array.shape, volume.spacing, strict=True):
        row |= {f"crop_start_{axis}": 0, f"crop_shape_{axis}": size, f"native_{axis}": size}
        row |= {f"p_spacing_{axis}": step}
    return row


def typical_step(method: AutoregressiveMethod, size: int) -> int:
    """First step that scores half of its tokens, as steps do on average.

    How many tokens are scored is drawn, and what a step costs depends on it.

    Args:
        method: draws the prefixes.
        size: items of a batch.
    """

    def scored(step: int) -> float:
        prefix = method.draw_prefix(size, torch_generator(0, "method", step))
        return 1 - float(prefix.double().mean()) / method.length

    return next(n for n in itertools.count() if abs(scored(n) - 0.5) <= _TYPICAL)
