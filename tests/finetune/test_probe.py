"""The linear probe: features of a frozen encoder and a logistic regression."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tests.helpers.finetune_store import (
    CLASSIFICATION,
    ENCODER,
    SEGMENTATION,
    classification_store,
    context,
    segmentation_store,
)
from voxseq.base.errors import ConfigError, DataError
from voxseq.base.files import read_json
from voxseq.config.finetune import ClassificationRecipe
from voxseq.config.model import EncoderConfig
from voxseq.data.task_volumes import Volumes
from voxseq.finetune.baselines import logistic, probe
from voxseq.finetune.recipe import Splits
from voxseq.models.encoder import build_encoder
from voxseq.models.transfer import ENCODER_FILE, save_encoder

SPLITS = {"train": 24, "val": 12, "test": 12}
RECIPE = ClassificationRecipe.model_validate(CLASSIFICATION)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classification_store(tmp_path_factory.mktemp("probe") / "store", SPLITS)


def finish(root: Path, store: Path, **changes: Any) -> Path:
    given = context(root, store, CLASSIFICATION, **changes)
    if changes.get("pretrained"):
        given.inputs[changes["pretrained"]] = root.parent / "pre"  # type: ignore[index]
    probe.execute(given)
    return given.out


def contents(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir()}


def test_it_writes_the_files_of_a_run(store: Path, tmp_path: Path) -> None:
    out = finish(tmp_path / "a", store)
    names = {"scores.csv", "validation.csv", "predictions.csv", "worst.npz", "summary.json"}
    assert {p.name for p in out.iterdir()} == names
    summary = read_json(out / "summary.json")
    assert (summary["n_train"], summary["n_val"], summary["n_test"]) == (24, 12, 12)
    assert summary["selected_by"] == "auc"
    assert summary["penalty"] in logistic.PENALTIES
    encoder = build_encoder(EncoderConfig.model_validate(ENCODER), 0, pretraining=False)
    size = sum(p.numel() for p in encoder.parameters())
    assert summary["parameters"] == size + ENCODER["width"] + 1
    assert contents(finish(tmp_path / "b", store)) == contents(out)


def test_features_are_the_mean_token_of_the_unchanged_image(store: Path) -> None:
    encoder = build_encoder(EncoderConfig.model_validate(ENCODER), 3, pretraining=False)
    volumes = Volumes(store)
    rows = volumes.rows("test")
    found = probe.mean_tokens(encoder, volumes, rows, 5)
    for row, features in zip(rows, found, strict=True):
        with torch.no_grad():
            tokens = encoder(torch.tensor(volumes.image(row))[None, None]).tokens
        np.testing.assert_allclose(features, tokens[0].mean(0).numpy(), atol=1e-6)


def test_the_encoder_decides_the_scores(store: Path, tmp_path: Path) -> None:
    config = EncoderConfig.model_validate(ENCODER)
    save_encoder(
        tmp_path / "pre" / ENCODER_FILE, build_encoder(config, 7, pretraining=False), config, {}
    )
    pretrained = contents(finish(tmp_path / "a", store, pretrained="pretrain/x"))
    # The same weights without a file: the random encoder of that seed.
    as_random = contents(finish(tmp_path / "b", store, seed=7))
    other = contents(finish(tmp_path / "c", store, seed=8))
    assert pretrained["predictions.csv"] == as_random["predictions.csv"]
    assert pretrained["predictions.csv"] != other["predictions.csv"]


def test_brightness_is_found(tmp_path: Path) -> None:
    store = classification_store(tmp_path / "store", {"train": 80, "val": 30, "test": 60})
    with (finish(tmp_path / "a", store) / "scores.csv").open() as handle:
        scores = {r["metric"]: float(r["value"]) for r in csv.DictReader(handle)}
    assert scores["auc"] > 0.8


def test_test_labels_do_not_touch_the_choice(store: Path, tmp_path: Path) -> None:
    flipped = classification_store(tmp_path / "store", SPLITS, flip_test=True)
    a, b = contents(finish(tmp_path / "a", store)), contents(finish(tmp_path / "b", flipped))
    assert a["summary.json"] == b["summary.json"]
    assert a["validation.csv"] == b["validation.csv"]
    assert a["scores.csv"] != b["scores.csv"]


def splits_of(volumes: Volumes) -> Splits:
    return Splits(*(volumes.rows(split) for split in ("train", "val", "test")))


def random_features(splits: Splits, width: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    names = ("train", "val", "test")
    return {name: rng.normal(3, 7, (len(getattr(splits, name)), width)) for name in names}


def test_regression_is_the_best_of_the_grid_on_validation(store: Path) -> None:
    volumes = Volumes(store)
    splits = splits_of(volumes)
    features = random_features(splits)
    found = logistic.regress(features, RECIPE, volumes, splits)
    train = features["train"]
    mean, sd = train.mean(0), train.std(0)
    target = [volumes.target(row) for row in splits.train]
    aucs = []
    for penalty in logistic.PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=5000).fit((train - mean) / sd, target)
        probability = model.predict_proba((features["val"] - mean) / sd)[:, 1]
        truth = np.array([volumes.target(row) for row in splits.val])
        pairs = probability[truth == 1][:, None] - probability[truth == 0][None]
        aucs.append(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    assert found.penalty == logistic.PENALTIES[int(np.argmax(aucs))]
    assert found.validation.scores["auc"] == pytest.approx(max(aucs))


def test_of_equal_scores_the_stronger_penalty_is_taken(store: Path) -> None:
    volumes = Volumes(store)
    splits = splits_of(volumes)
    features = {
        name: np.array([[float(volumes.target(row))] for row in getattr(splits, name)])
        for name in ("train", "val", "test")
    }
    found = logistic.regress(features, RECIPE, volumes, splits)
    assert found.validation.scores["auc"] == 1.0
    assert found.penalty == min(logistic.PENALTIES)


def test_balanced_classes_weigh_the_same(tmp_path: Path) -> None:
    """With nine cases to three and no signal, balance moves all probabilities to a half."""
    store = classification_store(tmp_path / "store", {"train": 12, "val": 4, "test": 4})
    volumes = Volumes(store)
    every = splits_of(volumes)
    positive = [row for row in every.train if volumes.target(row) == 1]
    negative = [row for row in every.train if volumes.target(row) == 0]
    splits = Splits((*positive, *negative[:2]), every.val, every.test)
    features = {k: np.zeros((len(getattr(splits, k)), 2)) for k in ("train", "val", "test")}
    plain = logistic.regress(features, RECIPE, volumes, splits)
    balanced = RECIPE.model_copy(update={"class_balanced_loss": True})
    even = logistic.regress(features, balanced, volumes, splits)
    np.testing.assert_allclose(plain.test.probability, 0.75, atol=1e-3)
    np.testing.assert_allclose(even.test.probability, 0.5, atol=1e-3)


def test_training_cases_of_one_class_are_refused(tmp_path: Path) -> None:
    store = classification_store(tmp_path / "store", one_class="train")
    with pytest.raises(DataError, match=r"train split have the classes \[0\]"):
        finish(tmp_path / "a", store)


def test_a_segmentation_is_refused(tmp_path: Path) -> None:
    given = context(tmp_path, segmentation_store(tmp_path / "store"), SEGMENTATION)
    with pytest.raises(ConfigError, match="toy is a segmentation, a linear probe needs"):
        probe.execute(given)
