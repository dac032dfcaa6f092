"""Boosted trees voxel by voxel, and images as plain numbers for linear models."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.finetune_store import (
    CLASSIFICATION,
    REGRESSION,
    SEGMENTATION,
    Case,
    contents,
    finish,
    table,
    write_store,
)
from voxseq.base.files import read_json
from voxseq.config.data import IGNORED
from voxseq.config.runs import BaselineRun
from voxseq.data.task_volumes import Volumes
from voxseq.finetune.baselines import plain, voxel_trees
from voxseq.finetune.baselines import run as baselines
from voxseq.finetune.baselines.voxel_trees import LEAVES, TREES, features, fit_voxel_trees

SHAPE = (12, 10, 8)
run_baseline = partial(finish, baselines.execute, model=BaselineRun)


def halves(seed: int, unknown: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Bright cubes on both sides of the volume: class 1 where x is small, background elsewhere.

    With ``unknown`` the two planes in the middle have no known class.
    """
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 0.3, SHAPE).astype(np.float32)
    label = np.zeros(SHAPE, np.uint8)
    for first in (0, 6):
        x, y, z = (int(v) for v in rng.integers(0, 3, 3))
        box = np.s_[first + x : first + x + 3, y : y + 4, z : z + 4]
        image[box] += 0.7
        if not first:
            label[box] = 1
    if unknown:
        label[5:7] = IGNORED
    return image, label


def store_of(folder: Path, *, unknown: bool = False) -> Path:
    cases: list[Case] = []
    for split, count in (("train", 8), ("val", 3), ("test", 4)):
        for number in range(count):
            image, label = halves(len(cases) + 100 * number, unknown)
            cases.append((split, -1, image, label))
    return write_store(folder, cases)


TASK = {**SEGMENTATION, "labels": ["left cube"], "class_weights": None}


def test_place_and_intensity_together_find_the_structure(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store")
    out, again = (
        run_baseline(tmp_path / name, store, TASK, method="voxel_trees") for name in ("a", "b")
    )
    found = [float(r["value"]) for r in table(out / "scores.csv")]
    # Intensity alone takes both cubes: a Dice of 2/3.
    assert min(found) > 0.85
    assert contents(again) == contents(out)
    assert read_json(out / "summary.json")["parameters"] == TREES * LEAVES


def test_voxels_without_a_known_class_are_not_fitted_to(tmp_path: Path) -> None:
    volumes = Volumes(store_of(tmp_path / "store", unknown=True))
    trees = fit_voxel_trees(volumes, volumes.rows("train"), volumes.rows("val"), 1, 0)
    assert trees.model.classes_.tolist() == [0, 1]


def test_a_sample_weighs_as_many_voxels_as_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an eighth of the voxels the share of the class is that of all of them."""
    volumes = Volumes(store_of(tmp_path / "store"))
    train, val = volumes.rows("train"), volumes.rows("val")
    share = np.mean([volumes.label(row) == 1 for row in train])
    monkeypatch.setattr(voxel_trees, "_SAMPLE", 960)
    trees = fit_voxel_trees(volumes, train, val, 1, 0)
    found = np.mean([trees.shares(volumes.image(row)) for row in train])
    assert found == pytest.approx(share, rel=0.35)


def test_features_by_hand() -> None:
    image = np.zeros((2, 4, 3, 5), np.float32)
    image[1] = 7.0
    image[0, 2, 1, 3] = 1.0
    found = features(image).reshape(4, 3, 5, -1)
    assert found.shape[-1] == 2 * 4 + 3
    # Intensity, blurred by 1 and 2 voxels, local variance; then the second channel; then the place.
    np.testing.assert_array_equal(found[..., 0], image[0])
    assert 1 > found[2, 1, 3, 1] > found[2, 1, 3, 2] > 0
    assert found[2, 1, 3, 3] == pytest.approx(found[2, 1, 3, 1] - found[2, 1, 3, 1] ** 2)
    np.testing.assert_allclose(found[..., 4:7], 7.0, rtol=1e-6)
    np.testing.assert_allclose(found[..., 7], 0.0, atol=1e-4)
    np.testing.assert_allclose(found[2, 1, 3, 8:], [2.5 / 4, 0.5, 3.5 / 5])


def test_plain_numbers_of_an_image() -> None:
    image = np.stack(
        [np.arange(20 * 3 * 4, dtype=np.float32).reshape(20, 3, 4), np.ones((20, 3, 4))]
    )
    assert plain.voxels(image).shape == (2 * 16 * 3 * 4,)
    found = plain.histogram(image)
    assert found[[0, plain.QUANTILES - 1]].tolist() == [0, 239]
    assert (found[plain.QUANTILES :] == 1).all()
    shuffled = np.random.default_rng(0).permuted(image, axis=1)
    np.testing.assert_allclose(plain.histogram(shuffled), found)
    assert not np.allclose(plain.voxels(shuffled), plain.voxels(image))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_voxels_see_a_place_that_the_histogram_does_not(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases: list[Case] = []
    for split, count in (("train", 24), ("val", 10), ("test", 12)):
        for number in range(count):
            image, target = rng.uniform(0, 1, (4, 4, 4)), number % 2
            image[2 * target : 2 * target + 2] += 1
            cases.append((split, float(target) if kind == "regression" else target, image, None))
    store = write_store(tmp_path / "store", cases)
    task, model = (
        (CLASSIFICATION, "logistic") if kind == "classification" else (REGRESSION, "ridge")
    )
    found = {}
    for name in ("voxel", "histogram"):
        out = run_baseline(tmp_path / name, store, task, method=f"{name}_{model}")
        scores = {r["metric"]: float(r["value"]) for r in table(out / "scores.csv")}
        found[name] = scores["auc"] if kind == "classification" else scores["r2"]
    assert found["voxel"] > 0.9
    assert found["histogram"] < 0.8
