"""A fine-tuning that diverged gives an error and no score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.finetune_store import (
    GEOMETRY,
    RECIPE,
    SEGMENTATION,
    TASKS,
    finish,
    make_stores,
)
from voxseq.base.errors import IntegrityError, NotFiniteError, TrainingError
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.finetune import run
from voxseq.finetune.baselines.probe import mean_tokens
from voxseq.finetune.classification import score_split
from voxseq.finetune.segmentation import by_windows, score_cases
from voxseq.models.encoder import build_encoder
from voxseq.models.networks import build_network
from voxseq.models.transfer import ENCODER_FILE, load_encoder, save_encoder


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("stores"))


@pytest.mark.parametrize(
    ("kind", "network", "settings"),
    [
        ("segmentation", "unetr", {}),
        ("segmentation", "unet3d", {"features": [2, 2, 2, 2, 2, 2], "norm": "batch"}),
        ("classification", "vit", {}),
        ("classification", "resnet", {"width": 0.0625}),
        ("regression", "vit", {}),
    ],
)
@pytest.mark.parametrize(("rate", "steps"), [(3e38, 1), (1e30, 2)])
def test_weights_that_the_last_update_spoilt(
    stores: dict[str, Path],
    tmp_path: Path,
    kind: str,
    network: str,
    settings: dict[str, Any],
    rate: float,
    steps: int,
) -> None:
    optimiser = {**RECIPE, "lr": rate, "decoder_lr": rate, "warmup_steps": 0, "clip_norm": None}
    task = {**TASKS[kind], "steps": steps, "validate_every": 1}
    if kind == "segmentation":
        task["roi"] = [32, 32, 32]
    with pytest.raises(TrainingError, match=r"finite|nan|inf") as caught:
        finish(
            *(run.execute, tmp_path, stores[kind], task),
            optimiser={**optimiser, "schedule": "constant"},
            network=network,
            network_settings=settings,
        )
    assert "at step" in str(caught.value)
    assert "checkpoint" in str(caught.value)
    assert not (tmp_path / "out" / "scores.csv").exists()


def spoilt_network(name: str, value: float) -> torch.nn.Module:
    """One whose last layer has weights of a value."""
    network = build_network(name, GEOMETRY, classes=3, features=2, seed=0).eval()
    with torch.no_grad():
        last = network.get_submodule("out.conv.conv" if name == "unetr" else "head")
        last.get_parameter("weight").fill_(value)
    return network


@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_a_case_whose_logits_overflow_is_named(stores: dict[str, Path], value: float) -> None:
    recipe = SegmentationRecipe.model_validate(SEGMENTATION)
    volumes = Volumes(stores["segmentation"])
    predict = by_windows(spoilt_network("unetr", value), recipe)
    with pytest.raises(NotFiniteError, match="logits of d/test0"):
        list(score_cases(predict, volumes, volumes.rows("test"), recipe))


def test_images_whose_logits_or_features_overflow_are_named(stores: dict[str, Path]) -> None:
    volumes = Volumes(stores["classification"])
    rows = volumes.rows("test")
    with pytest.raises(NotFiniteError, match="logits of d/test0"):
        score_split(spoilt_network("vit", float("nan")), volumes, rows, 4)
    encoder = build_encoder(GEOMETRY, 0, pretraining=False)
    with torch.no_grad():
        encoder.norm.bias[0] = float("inf")
    with pytest.raises(NotFiniteError, match="features of d/test0"):
        mean_tokens(encoder, volumes, rows, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_encoder_that_diverged_is_not_loaded(tmp_path: Path, value: float) -> None:
    encoder, other = (build_encoder(GEOMETRY, seed, pretraining=True) for seed in (0, 1))
    with torch.no_grad():
        encoder.blocks[1].mlp.linear1.weight[0, 0] = value
    save_encoder(tmp_path / ENCODER_FILE, encoder, GEOMETRY, {})
    before = {name: weight.clone() for name, weight in other.state_dict().items()}
    with pytest.raises(IntegrityError, match=r"blocks\.1\.mlp\.linear1\.weight is not finite"):
        load_encoder(tmp_path / ENCODER_FILE, other)
    assert all(torch.equal(before[name], weight) for name, weight in other.state_dict().items())
