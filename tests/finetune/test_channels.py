"""Tasks whose images have several channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.finetune_store import (
    CLASSIFICATION,
    SEGMENTATION,
    contents,
    context,
    finish,
    pretrained,
    segmentation_case,
    table,
    write_store,
)
from voxseq.base.files import read_json
from voxseq.config.runs import BaselineRun, ProbeRun
from voxseq.data.task_volumes import Volumes
from voxseq.finetune import run
from voxseq.finetune.baselines import probe
from voxseq.finetune.baselines import run as baselines

CHANNELS = 2


def _segmentation(folder: Path, per_split: dict[str, int]) -> Path:
    """Noise, and behind it what is to be found."""
    rng, cases = np.random.default_rng(0), []
    for split, count in per_split.items():
        for _ in range(count):
            image, label = segmentation_case(rng)
            noise = rng.uniform(0, 1, image.shape)
            cases.append((split, -1, np.stack([noise, image]), label))
    return write_store(folder, cases)


def _classification(folder: Path, per_split: dict[str, int], channels: int = CHANNELS) -> Path:
    """The last channel is dark or bright, the others are noise."""
    rng, cases = np.random.default_rng(0), []
    for split, count in per_split.items():
        for number in range(count):
            image = rng.normal(0.0, 0.5, (CHANNELS, 8, 8, 8))
            image[-1] += number % 2
            cases.append((split, number % 2, image[:channels], None))
    return write_store(folder, cases)


def _finish(*args: Any, **changes: Any) -> Path:
    return finish(run.execute, *args, channels=CHANNELS, **changes)


@pytest.mark.parametrize("network", ["unetr", "unet3d"])
def test_files_of_a_segmentation_of_two_channels(network: str, tmp_path: Path) -> None:
    store = _segmentation(tmp_path / "store", {"train": 3, "val": 1, "test": 2})
    task, settings = SEGMENTATION, None
    if network == "unet3d":
        task = {**task, "roi": [16, 16, 16]}
        settings = {"features": [4, 4, 4, 4, 4, 4], "norm": "batch"}
    changes: dict[str, Any] = {"network": network, "network_settings": settings}
    out = _finish(tmp_path / "a", store, task, **changes)
    assert len(table(out / "scores.csv")) >= 4
    volumes = Volumes(store)
    with np.load(out / "example.npz", allow_pickle=False) as shown:
        first = volumes.rows("test")[0]
        index = int((volumes.label(first) > 0).sum(axis=(0, 1)).argmax())
        np.testing.assert_array_equal(shown["image"], volumes.image(first)[0][..., [index]])
    again = _finish(tmp_path / "b", store, task, **changes)
    assert contents(again) == contents(out)


@pytest.mark.parametrize(("network", "settings"), [("vit", None), ("resnet", {"width": 0.0625})])
def test_classifiers_of_two_channels_train(
    network: str, settings: dict[str, Any] | None, tmp_path: Path
) -> None:
    store = _classification(tmp_path / "store", {"train": 8, "val": 4, "test": 4})
    changes: dict[str, Any] = {"network": network, "network_settings": settings}
    out = _finish(tmp_path, store, CLASSIFICATION, **changes)
    losses = [float(r["value"]) for r in table(out / "metrics.csv") if r["name"] == "loss"]
    assert np.isfinite(losses).all()


def test_an_encoder_of_one_channel_is_where_training_of_two_starts(tmp_path: Path) -> None:
    encoder = pretrained(tmp_path / "pre", 77)
    store = _classification(tmp_path / "store", {"train": 2, "val": 2, "test": 2})
    given = context(tmp_path, store, CLASSIFICATION, pretrained="pretrain/ours", channels=CHANNELS)
    started = run._network(given).get_submodule("encoder")
    kernel = started.state_dict()["patch_embedding.weight"]
    assert kernel.shape[1] == CHANNELS
    torch.testing.assert_close(kernel.sum(dim=1), encoder.patch_embedding.weight[:, 0].detach())


def test_baselines_and_probes_see_every_channel(tmp_path: Path) -> None:
    store = _classification(tmp_path / "store", {"train": 20, "val": 10, "test": 20})
    one = _classification(tmp_path / "one", {"train": 20, "val": 10, "test": 20}, channels=1)
    scores = {}
    for name, folder in (("both", store), ("first", one)):
        out = finish(
            *(baselines.execute, tmp_path / name, folder, CLASSIFICATION),
            **{"model": BaselineRun, "method": "intensity_logistic"},
        )
        scores[name] = float(table(out / "scores.csv")[0]["value"])
    assert scores["both"] > 0.95
    assert scores["first"] < 0.8
    pretrained(tmp_path / "probe" / "pre", 3)
    out = finish(
        *(probe.execute, tmp_path / "probe", store, CLASSIFICATION),
        **{"model": ProbeRun, "pretrained": "pretrain/ours", "channels": CHANNELS},
    )
    assert 0 <= read_json(out / "summary.json")["validation_score"] <= 1


@pytest.mark.slow
def test_it_learns_what_only_the_second_channel_shows(tmp_path: Path) -> None:
    store = _segmentation(tmp_path / "seg", {"train": 8, "val": 3, "test": 3})
    task = {**SEGMENTATION, "steps": 120, "validate_every": 40, "decoder_features": 8}
    rows = table(_finish(tmp_path / "a", store, task) / "scores.csv")
    assert np.mean([float(r["value"]) for r in rows if r["metric"] == "dice"]) > 0.6
    store = _classification(tmp_path / "cls", {"train": 40, "val": 20, "test": 40})
    task = {**CLASSIFICATION, "steps": 100, "validate_every": 25}
    rows = table(_finish(tmp_path / "b", store, task) / "scores.csv")
    assert float(rows[0]["value"]) > 0.9
