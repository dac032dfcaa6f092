"""Trivial baselines and linear probes against values worked out by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from tests.helpers.finetune_store import (
    CLASSIFICATION,
    ENCODER,
    GEOMETRY,
    SEGMENTATION,
    TASKS,
    Case,
    classification_store,
    contents,
    context,
    finish,
    make_stores,
    pretrained,
    table,
    write_store,
)
from voxseq.base.errors import ConfigError, DataError
from voxseq.base.files import read_json
from voxseq.config.finetune import ClassificationRecipe
from voxseq.config.runs import BaselineRun, ProbeRun
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.dice import dice_per_class
from voxseq.finetune.baselines import intensity, logistic, probe
from voxseq.finetune.baselines import run as baselines
from voxseq.finetune.baselines.mean_shape import common_grid, fit_mean_shape
from voxseq.finetune.baselines.thresholds import THRESHOLDS
from voxseq.finetune.recipe import Splits
from voxseq.models.encoder import build_encoder

FILES = {"scores.csv", "validation.csv", "worst.npz", "summary.json"}
SPLITS = {"train": 21, "val": 8, "test": 9}
RECIPE = ClassificationRecipe.model_validate(CLASSIFICATION)
run_baseline = partial(finish, baselines.execute, model=BaselineRun)
run_probe = partial(finish, probe.execute, model=ProbeRun)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("baselines"), images=SPLITS)


@pytest.fixture(scope="module")
def images(stores: dict[str, Path]) -> Volumes:
    return Volumes(stores["classification"])


@pytest.fixture(scope="module")
def volumes(stores: dict[str, Path]) -> Volumes:
    return Volumes(stores["segmentation"])


def scores(out: Path) -> dict[str, float]:
    return {r["metric"]: float(r["value"]) for r in table(out / "scores.csv")}


def test_majority_class(images: Volumes, tmp_path: Path) -> None:
    """Eleven of 21 training cases and five of nine test cases are of class 0."""
    out = run_baseline(tmp_path, images.folder, CLASSIFICATION, method="majority")
    assert {p.name for p in out.iterdir()} == {*FILES, "predictions.csv"}
    assert scores(out) == {"auc": 0.5, "accuracy": pytest.approx(5 / 9)}
    given = {float(r["probability"]) for r in table(out / "predictions.csv")}
    assert list(given) == [pytest.approx(10 / 21)]


def test_intensities_tell_bright_from_dark(images: Volumes, tmp_path: Path) -> None:
    out, again = (
        run_baseline(tmp_path / n, images.folder, CLASSIFICATION, method="intensity_logistic")
        for n in "ab"
    )
    assert {p.name for p in out.iterdir()} == {*FILES, "predictions.csv"}
    assert scores(out)["auc"] > 0.9
    assert read_json(out / "summary.json")["parameters"] == len(intensity.NAMES) + 1
    assert contents(again) == contents(out)


def test_numbers_of_an_image_by_hand() -> None:
    image = np.zeros((8, 8, 8), np.float32)
    image[3:6, 3:6, 3:6] = 1.0
    image[0, 0, :5] = 1.0
    found = dict(zip(intensity.NAMES, intensity.describe(image), strict=True))
    assert found["mean"] == pytest.approx(32 / 512)
    assert found["sd"] == pytest.approx(np.sqrt(32 / 512 * (1 - 32 / 512)))
    assert (found["p5"], found["p50"], found["p95"]) == (0, 0, 1)
    # The central box of two voxels a side lies within the bright cube.
    assert found["centre"] == 1.0
    assert found["log_volume"] == pytest.approx(np.log(28 / 512))
    # A constant image has no bright component.
    constant = intensity.describe(np.full((4, 4, 4), 0.5))
    assert np.isfinite(constant).all()
    assert constant[-1] == pytest.approx(np.log(1 / 64))


def test_otsu_separates_two_groups() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 4000), rng.normal(10, 1, 1000)])
    assert 3 < intensity.otsu_threshold(values) < 7
    # Plain search over all thresholds between two values.
    ordered = np.sort(rng.permutation(values)[:200])
    counts = np.arange(1, 200).tolist()
    gaps = [n * (200 - n) * (ordered[:n].mean() - ordered[n:].mean()) ** 2 for n in counts]
    best = int(np.argmax(gaps))
    found = intensity.otsu_threshold(ordered)
    assert ordered[best] - 0.1 <= found <= ordered[best + 1] + 0.1


def test_the_component_is_that_nearest_to_the_centre() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[0:2] = True
    mask[5, 4, 4] = mask[6, 4, 4] = True
    assert intensity.central_component(mask).sum() == 2


@pytest.mark.parametrize("grid", ["stored", "native"])
def test_mean_shape_by_hand(grid: str, tmp_path: Path) -> None:
    """A slab fills the first half of x in three of four training volumes of two sizes.

    The mean is 3/4 there; the second test case has half of that slab.
    """
    cases: list[Case] = []
    sides = [("train", 8, 2), ("train", 8, 2), ("train", 16, 2), ("train", 8, 0)]
    for split, side, part in [*sides, ("val", 12, 2), ("test", 8, 2), ("test", 16, 4)]:
        label = np.zeros((side, side, side), np.uint8)
        label[: side // part if part else 0] = 1
        cases.append((split, -1, label, label))
    task = {**SEGMENTATION, "labels": ["slab"], "class_weights": None, "score_grid": grid}
    store = write_store(tmp_path / "store", cases)
    out = run_baseline(tmp_path, store, task, method="mean_shape")
    assert {p.name for p in out.iterdir()} == {*FILES, "example.npz"}
    found = [float(r["value"]) for r in table(out / "scores.csv")]
    assert found == [1.0, pytest.approx(2 / 3)]
    assert read_json(out / "summary.json")["validation_score"] == 1.0
    with np.load(out / "worst.npz") as worst:
        assert str(worst["case"]) == "d/test1"
        assert float(worst["score"]) == pytest.approx(2 / 3)
        np.testing.assert_array_equal(worst["prediction"][:8], 1)
        np.testing.assert_array_equal(worst["prediction"][8:], 0)
        assert worst["volumes"][1] / worst["volumes"][0] == pytest.approx(2)
        assert worst["hd95"] > 0


def test_mean_shape_takes_the_best_thresholds(volumes: Volumes) -> None:
    train, val = volumes.rows("train"), volumes.rows("val")
    shape = fit_mean_shape(volumes, train, val, 1)
    labels = np.stack([volumes.label(r) == 1 for r in train]).mean(0)
    np.testing.assert_allclose(shape.shares[0], labels, atol=1e-6)
    truths = [(volumes.label(r) == 1).astype(int) for r in val]
    dice = [
        np.mean([dice_per_class((labels > t).astype(int), truth, 1) for truth in truths])
        for t in THRESHOLDS
    ]
    best = [t for t, value in zip(THRESHOLDS, dice, strict=True) if value == max(dice)]
    assert shape.thresholds == (best[len(best) // 2],)


def test_mean_shape_predicts_the_class_farthest_above_its_threshold(volumes: Volumes) -> None:
    shape = fit_mean_shape(volumes, volumes.rows("train"), volumes.rows("val"), 2)
    found = shape(volumes.image(volumes.rows("test")[0])).argmax(dim=0).numpy()
    ratios = shape.shares / np.array(shape.thresholds, np.float32).reshape(-1, 1, 1, 1)
    expected = np.where(ratios.max(0) > 1, ratios.argmax(0) + 1, 0)
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) <= {0, 1, 2}
    assert common_grid([(10, 20, 200), (14, 21, 300)]) == (12, 20, 96)


def test_share_of_the_labels(volumes: Volumes, tmp_path: Path) -> None:
    out = run_baseline(tmp_path, volumes.folder, SEGMENTATION, method="mean_shape", ratio=0.5)
    assert read_json(out / "summary.json")["n_train"] == 3


@pytest.mark.parametrize(
    ("method", "kind", "known"),
    [
        ("mean_shape", "classification", "majority, intensity_logistic, histogram_logistic"),
        ("majority", "segmentation", "mean_shape"),
        ("oracle", "segmentation", "mean_shape"),
    ],
)
def test_unknown_baseline_and_that_of_another_type_are_refused(
    method: str, kind: str, known: str, stores: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"toy is a {kind}.* '{method}'") as caught:
        run_baseline(tmp_path, stores[kind], TASKS[kind], method=method)
    assert known in str(caught.value.hint)


# Linear probes


def test_files_of_a_probe(images: Volumes, tmp_path: Path) -> None:
    out = run_probe(tmp_path / "a", images.folder, CLASSIFICATION)
    assert {p.name for p in out.iterdir()} == {*FILES, "predictions.csv"}
    summary = read_json(out / "summary.json")
    assert {split: summary[f"n_{split}"] for split in SPLITS} == SPLITS
    assert summary["selected_by"] == "auc"
    assert summary["penalty"] in logistic.PENALTIES
    encoder = build_encoder(GEOMETRY, 0, pretraining=False)
    size = sum(p.numel() for p in encoder.parameters())
    assert summary["parameters"] == size + ENCODER["width"] + 1
    assert contents(run_probe(tmp_path / "b", images.folder, CLASSIFICATION)) == contents(out)


def test_features_are_the_mean_token_of_the_unchanged_image(images: Volumes) -> None:
    encoder = build_encoder(GEOMETRY, 3, pretraining=False)
    rows = images.rows("test")
    found = probe.mean_tokens(encoder, images, rows, 5)
    for row, features in zip(rows, found, strict=True):
        with torch.no_grad():
            tokens = encoder(torch.tensor(images.image(row))[None]).tokens
        np.testing.assert_allclose(features, tokens[0].mean(0).numpy(), atol=1e-6)


def test_the_encoder_decides_the_scores(images: Volumes, tmp_path: Path) -> None:
    pretrained(tmp_path / "a/pre", 7, pretraining=False)
    # The same weights without a file: the random encoder of that seed.
    loaded, random, other = (
        contents(run_probe(tmp_path / name, images.folder, CLASSIFICATION, **changes))
        for name, changes in (
            ("a", {"pretrained": "pretrain/ours"}),
            ("b", {"seed": 7}),
            ("c", {"seed": 8}),
        )
    )
    assert loaded["predictions.csv"] == random["predictions.csv"] != other["predictions.csv"]


def test_brightness_is_found(tmp_path: Path) -> None:
    store = classification_store(tmp_path / "store", {"train": 80, "val": 30, "test": 60})
    assert scores(run_probe(tmp_path / "a", store, CLASSIFICATION))["auc"] > 0.8


def test_test_labels_do_not_touch_the_choice(images: Volumes, tmp_path: Path) -> None:
    flipped = classification_store(tmp_path / "store", SPLITS, flip_test=True)
    a, b = (
        contents(run_probe(tmp_path / folder.name, folder, CLASSIFICATION))
        for folder in (images.folder, flipped)
    )
    assert a["summary.json"] == b["summary.json"]
    assert a["validation.csv"] == b["validation.csv"]
    assert a["scores.csv"] != b["scores.csv"]


def regress(
    out: Path, volumes: Volumes, features: dict[str, np.ndarray], recipe: ClassificationRecipe
) -> float:
    """Regress on features of the whole splits; returns the penalty."""
    splits = Splits(*(volumes.rows(split) for split in SPLITS))
    return logistic.fit_logistic(out, features, recipe, volumes, splits)["penalty"]


def test_regression_is_the_best_of_the_grid_on_validation(images: Volumes, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = {split: rng.normal(3, 7, (len(images.rows(split)), 3)) for split in SPLITS}
    targets = {s: np.array([images.target(r) for r in images.rows(s)]) for s in SPLITS}
    mean, sd = features["train"].mean(0), features["train"].std(0)
    aucs = []
    for penalty in logistic.PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=5000)
        model.fit((features["train"] - mean) / sd, targets["train"])
        probability = model.predict_proba((features["val"] - mean) / sd)[:, 1]
        ones, zeros = (probability[targets["val"] == c] for c in (1, 0))
        pairs = ones[:, None] - zeros[None]
        aucs.append(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    found = regress(tmp_path, images, features, RECIPE)
    assert found == logistic.PENALTIES[int(np.argmax(aucs))]
    validation = {r["metric"]: float(r["value"]) for r in table(tmp_path / "validation.csv")}
    assert validation["auc"] == pytest.approx(max(aucs))


def test_of_equal_scores_the_stronger_penalty_is_taken(images: Volumes, tmp_path: Path) -> None:
    features = {
        split: np.array([[float(images.target(row))] for row in images.rows(split)])
        for split in SPLITS
    }
    assert regress(tmp_path, images, features, RECIPE) == min(logistic.PENALTIES)
    assert scores(tmp_path)["auc"] == 1.0


@pytest.mark.parametrize(("is_balanced", "chance"), [(False, 0.75), (True, 0.5)])
def test_balanced_classes_weigh_the_same(is_balanced: bool, chance: float, tmp_path: Path) -> None:
    """With six cases to two and no signal, balance moves all probabilities to a half."""
    image = np.zeros((4, 4, 4))
    counts = {"train": [1] * 6 + [0] * 2, "val": [0, 1], "test": [0, 1]}
    cases: list[Case] = [(s, target, image, None) for s, each in counts.items() for target in each]
    volumes = Volumes(write_store(tmp_path / "store", cases))
    features = {split: np.zeros((len(each), 2)) for split, each in counts.items()}
    recipe = RECIPE.model_copy(update={"class_balanced_loss": is_balanced})
    regress(tmp_path, volumes, features, recipe)
    found = [float(r["probability"]) for r in table(tmp_path / "predictions.csv")]
    np.testing.assert_allclose(found, chance, atol=1e-3)


def test_training_cases_of_one_class_are_refused(tmp_path: Path) -> None:
    store = classification_store(tmp_path / "store", one_class="train")
    with pytest.raises(DataError, match=r"train split have the classes \[0\]"):
        run_probe(tmp_path / "a", store, CLASSIFICATION)


def test_a_probe_of_a_segmentation_cannot_be_configured(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="recipe"):
        context(tmp_path, tmp_path, SEGMENTATION, model=ProbeRun)
