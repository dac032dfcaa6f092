"""Trivial baselines against values worked out by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.finetune_store import (
    CLASSIFICATION,
    SEGMENTATION,
    classification_store,
    context,
    row,
    segmentation_store,
)
from voxseq.base.errors import ConfigError
from voxseq.base.files import read_json
from voxseq.config.data import StoreConfig
from voxseq.config.runs import BaselineRun
from voxseq.data.store import StoreWriter
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.dice import dice_per_class
from voxseq.finetune.baselines import intensity
from voxseq.finetune.baselines import run as baselines
from voxseq.finetune.baselines.mean_shape import THRESHOLDS, common_grid, fit_mean_shape

FILES = {"scores.csv", "validation.csv", "worst.npz", "summary.json"}


def finish(root: Path, store: Path, task: dict[str, Any], baseline: str, **changes: Any) -> Path:
    """Do one run, whose configuration has nothing of an encoder."""
    given = context(root, store, task)
    own = {"task": "toy", "recipe": task, "method": baseline, "seed": 0, "ratio": 1.0, "threads": 1}
    config = BaselineRun.model_validate({**own, **changes})
    baselines.execute(replace(given, config=config))
    return given.out


def scores(out: Path) -> dict[str, float]:
    with (out / "scores.csv").open() as handle:
        return {r["metric"]: float(r["value"]) for r in csv.DictReader(handle)}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": 21, "val": 8, "test": 9}
    return classification_store(tmp_path_factory.mktemp("baselines") / "images", splits)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmentation_store(tmp_path_factory.mktemp("baselines") / "volumes")


def test_majority_class(images: Path, tmp_path: Path) -> None:
    """Eleven of 21 training cases and five of nine test cases are of class 0."""
    out = finish(tmp_path, images, CLASSIFICATION, "majority")
    assert {p.name for p in out.iterdir()} == {*FILES, "predictions.csv"}
    assert scores(out)["auc"] == 0.5
    assert scores(out)["accuracy"] == pytest.approx(5 / 9)
    with (out / "predictions.csv").open() as handle:
        given = {float(r["probability"]) for r in csv.DictReader(handle)}
    assert list(given) == [pytest.approx(10 / 21)]


def test_intensities_tell_bright_from_dark(images: Path, tmp_path: Path) -> None:
    out = finish(tmp_path / "a", images, CLASSIFICATION, "intensity_logistic")
    assert {p.name for p in out.iterdir()} == {*FILES, "predictions.csv"}
    assert scores(out)["auc"] > 0.9
    summary = read_json(out / "summary.json")
    assert summary["parameters"] == len(intensity.NAMES) + 1
    again = finish(tmp_path / "b", images, CLASSIFICATION, "intensity_logistic")
    for name in FILES:
        assert (again / name).read_bytes() == (out / name).read_bytes()


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


def test_otsu_separates_two_groups() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 4000), rng.normal(10, 1, 1000)])
    threshold = intensity.otsu_threshold(values)
    assert 3 < threshold < 7
    # Plain search over all thresholds between two values.
    ordered = np.sort(rng.permutation(values)[:200])
    counts = np.arange(1, 200)
    gaps = [n * (200 - n) * (ordered[:n].mean() - ordered[n:].mean()) ** 2 for n in counts.tolist()]
    best = int(np.argmax(gaps))
    found = intensity.otsu_threshold(ordered)
    assert ordered[best] - 0.1 <= found <= ordered[best + 1] + 0.1


def test_a_constant_image_has_no_bright_component() -> None:
    found = intensity.describe(np.full((4, 4, 4), 0.5))
    assert np.isfinite(found).all()
    assert found[-1] == pytest.approx(np.log(1 / 64))


def test_the_component_is_that_nearest_to_the_centre() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[0:2] = True
    mask[5, 4, 4] = mask[6, 4, 4] = True
    assert intensity.central_component(mask).sum() == 2


def box_store(folder: Path) -> Path:
    """Four training volumes of two sizes: a slab fills the first half of x in three of them."""
    folder.mkdir()
    writer = StoreWriter(folder, StoreConfig(chunk_shape=(4, 4, 4)))
    cases = [("train", 8, 1)] * 2 + [("train", 16, 1), ("train", 8, 0)]
    cases += [("val", 12, 1), ("test", 8, 1), ("test", 16, 2)]
    for key, (split, side, kind) in enumerate(cases):
        label = np.zeros((side, side, side), np.uint8)
        if kind:
            label[: side // (2 * kind)] = 1
        columns = row(f"d/{key}", split, -1, (side, side, side))
        writer.add(key, label.astype(np.float32), label, columns, np.pad(label, 1))
    writer.close()
    return folder


@pytest.mark.parametrize("grid", ["stored", "native"])
def test_mean_shape_by_hand(grid: str, tmp_path: Path) -> None:
    """The mean is 3/4 in the first half; the second test case has half of that slab."""
    task = {**SEGMENTATION, "labels": ["slab"], "class_weights": None, "score_grid": grid}
    out = finish(tmp_path / "a", box_store(tmp_path / "store"), task, "mean_shape")
    assert {p.name for p in out.iterdir()} == {*FILES, "example.npz"}
    with (out / "scores.csv").open() as handle:
        found = [float(r["value"]) for r in csv.DictReader(handle)]
    assert found == [1.0, pytest.approx(2 / 3)]
    summary = read_json(out / "summary.json")
    assert summary["validation_score"] == 1.0
    with np.load(out / "worst.npz") as worst:
        assert str(worst["case"]) == "d/6"
        assert float(worst["score"]) == pytest.approx(2 / 3)
        np.testing.assert_array_equal(worst["prediction"][:8], 1)
        np.testing.assert_array_equal(worst["prediction"][8:], 0)


def test_mean_shape_takes_the_best_thresholds(volumes: Path) -> None:
    store = Volumes(volumes)
    train, val = store.rows("train"), store.rows("val")
    shape = fit_mean_shape(store, train, val, 1)
    labels = np.stack([store.label(r) == 1 for r in train]).mean(0)
    np.testing.assert_allclose(shape.shares[0], labels, atol=1e-6)
    dice = [
        np.mean(
            [
                dice_per_class((labels > t).astype(int), (store.label(r) == 1).astype(int), 1)
                for r in val
            ]
        )
        for t in THRESHOLDS
    ]
    best = [t for t, value in zip(THRESHOLDS, dice, strict=True) if value == max(dice)]
    assert shape.thresholds == (best[len(best) // 2],)


def test_mean_shape_predicts_the_class_farthest_above_its_threshold(volumes: Path) -> None:
    store = Volumes(volumes)
    shape = fit_mean_shape(store, store.rows("train"), store.rows("val"), 2)
    image = store.image(store.rows("test")[0])
    found = shape(image).argmax(dim=0).numpy()
    ratios = shape.shares / np.array(shape.thresholds, np.float32).reshape(-1, 1, 1, 1)
    expected = np.where(ratios.max(0) > 1, ratios.argmax(0) + 1, 0)
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) <= {0, 1, 2}


def test_common_grid() -> None:
    assert common_grid([(10, 20, 200), (14, 21, 300)]) == (12, 20, 96)


def test_share_of_the_labels(volumes: Path, tmp_path: Path) -> None:
    out = finish(tmp_path, volumes, SEGMENTATION, "mean_shape", ratio=0.5)
    assert read_json(out / "summary.json")["n_train"] == 3


@pytest.mark.parametrize(
    ("baseline", "kind", "message"),
    [
        ("mean_shape", "classification", "toy is a classification, a mean shape needs"),
        ("majority", "segmentation", "toy is a segmentation, the majority class needs"),
        ("intensity_logistic", "segmentation", "a regression on intensities needs"),
        ("oracle", "segmentation", "unknown baseline 'oracle'"),
    ],
)
def test_baseline_of_another_type_is_refused(
    baseline: str, kind: str, message: str, images: Path, volumes: Path, tmp_path: Path
) -> None:
    store, task = (images, CLASSIFICATION) if kind[0] == "c" else (volumes, SEGMENTATION)
    with pytest.raises(ConfigError, match=message):
        finish(tmp_path, store, task, baseline)
