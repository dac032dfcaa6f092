"""The types of task: what every row of the registry keeps to, and that each one learns."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from tests.helpers.finetune_store import (
    CLASSIFICATION,
    REGRESSION,
    TASKS,
    context,
    finish,
    grades_store,
    make_stores,
    regression_store,
    segmentation_store,
    table,
    write_store,
)
from tests.helpers.finetune_store import SEGMENTATION as CROPS
from voxseq.base.errors import DataError
from voxseq.base.files import read_json
from voxseq.config.data import IGNORED
from voxseq.config.finetune import RegressionRecipe, Task
from voxseq.config.registry import ENCODER_NETWORKS, METHODS
from voxseq.config.report_run import METRICS
from voxseq.config.runs import BaselineRun, ProbeRun
from voxseq.config.task_types import PROBED, TaskType
from voxseq.data.targets import TARGETS
from voxseq.data.task_volumes import Volumes
from voxseq.finetune import run
from voxseq.finetune.baselines import probe
from voxseq.finetune.baselines import run as baselines
from voxseq.finetune.kinds import KINDS
from voxseq.finetune.recipe import choose_splits
from voxseq.finetune.regression import Standard
from voxseq.models.networks import NETWORKS
from voxseq.plan.beyond import BASELINES

TYPES = get_args(TaskType)
types = pytest.mark.parametrize("kind", TYPES)
LABELS = ["none", "mild", "moderate", "severe"]
GRADES = {**CLASSIFICATION, "labels": LABELS}
train = partial(finish, run.execute)
run_probe = partial(finish, probe.execute, model=ProbeRun)
run_baseline = partial(finish, baselines.execute, model=BaselineRun)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def ages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"train": 60, "val": 20, "test": 30}
    return regression_store(tmp_path_factory.mktemp("ages") / "store", sizes)


@pytest.fixture(scope="module")
def grades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"train": 64, "val": 24, "test": 32}
    return grades_store(tmp_path_factory.mktemp("grades") / "store", sizes)


def whole(out: Path, label: str = "") -> dict[str, float]:
    """Scores of the test split."""
    rows = table(out / "scores.csv")
    return {r["metric"]: float(r["value"]) for r in rows if (r["case"], r["label"]) == ("", label)}


# Every row


def test_every_registry_has_every_type() -> None:
    models = get_args(get_args(Task)[0])
    assert {model.model_fields["type"].default for model in models} == {*TYPES}
    for registry in (KINDS, TARGETS, METRICS, ENCODER_NETWORKS, BASELINES, baselines.BASELINES):
        assert {*registry} == {*TYPES}
    assert {*probe.LINEAR} == PROBED
    assert {kind: {*names} for kind, names in BASELINES.items()} == {
        kind: {*names} for kind, names in baselines.BASELINES.items()
    }
    for method in METHODS.values():
        assert {*method.networks} <= {*TYPES}
        assert {*method.networks.values()} <= {*NETWORKS}


@types
def test_a_run_writes_its_scores_and_selects_by_the_best(
    kind: str, stores: dict[str, Path], tmp_path: Path
) -> None:
    out = train(tmp_path, stores[kind], TASKS[kind])
    written = {(r["metric"]) for r in table(out / "scores.csv")}
    # Scores of surfaces are those that a recipe asks for.
    assert written == {*METRICS[kind]} - {"surface_dice", "hd95"}
    names = ["case", "subject", "label", "metric", "value"]
    assert list(table(out / "validation.csv")[0]) == names
    lines = table(out / "scores.csv")
    if kind in PROBED:
        lines = predictions = table(out / "predictions.csv")
        assert list(predictions[0])[:3] == ["case", "subject", "target"]
        assert len(predictions) == read_json(out / "summary.json")["n_test"]
    given = context(tmp_path / "b", stores[kind], TASKS[kind]).config
    volumes = Volumes(stores[kind])
    subjects = dict(
        zip(*(volumes.table[name].to_pylist() for name in ("volume_id", "subject")), strict=True)
    )
    assert all(line["subject"] == subjects[line["case"]] for line in lines)
    splits = choose_splits(volumes, given)
    trainable = KINDS[kind].training.of(torch.nn.Linear(1, 1), given.recipe, volumes, splits)
    summary = read_json(out / "summary.json")
    assert summary["selected_by"] == trainable.select
    values = [
        float(r["value"])
        for r in table(out / "metrics.csv")
        if (r["split"], r["name"]) == ("val", trainable.select)
    ]
    best = min(values) if trainable.mode == "min" else max(values)
    assert summary["validation_score"] == pytest.approx(best)
    assert {*trainable.facts()} <= {*summary}


@types
@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_batches_have_the_shape_of_the_network(
    kind: str, ratio: float, stores: dict[str, Path], tmp_path: Path
) -> None:
    given = context(tmp_path, stores[kind], TASKS[kind], ratio=ratio)
    recipe, volumes = given.config.recipe, Volumes(stores[kind])
    splits = choose_splits(volumes, given.config)
    batch = KINDS[kind].rows(recipe, volumes, splits.train, 0)(0)
    network = run._network(given)
    trainable = KINDS[kind].training.of(network, recipe, volumes, splits)
    assert network(batch["image"]).shape[:2] == (len(batch["ids"]), recipe.outputs)
    trainable(batch, 0)["loss"].backward()
    assert {*batch["ids"].tolist()} <= {*splits.train}


@types
def test_baselines_of_a_type_write_what_its_runs_write(
    kind: str, stores: dict[str, Path], tmp_path: Path
) -> None:
    expected = {p.name for p in train(tmp_path / "run", stores[kind], TASKS[kind]).iterdir()}
    for name in BASELINES[kind]:
        out = run_baseline(tmp_path / name, stores[kind], TASKS[kind], method=name)
        assert {p.name for p in out.iterdir()} == expected - {"metrics.csv"}
    if kind in PROBED:
        out = run_probe(tmp_path / "probe", stores[kind], TASKS[kind])
        assert {p.name for p in out.iterdir()} == expected - {"metrics.csv"}


# Regression


@pytest.mark.slow
@pytest.mark.parametrize("select_by", ["mae", "r2"])
def test_a_regression_learns(select_by: str, ages: Path, tmp_path: Path) -> None:
    task = {**REGRESSION, "steps": 60, "validate_every": 15, "select_by": select_by}
    task |= {"batch_size": 8, "augmentation": "none"}
    out = train(tmp_path / "a", ages, task, network="resnet", network_settings={"width": 0.0625})
    found = whole(out)
    assert found["r2"] > 0.5
    assert found["correlation"] > 0.8
    assert (
        found["mae"]
        < 0.7 * whole(run_baseline(tmp_path / "b", ages, task, method="mean_value"))["mae"]
    )
    assert read_json(out / "summary.json")["selected_by"] == select_by
    predictions = table(out / "predictions.csv")
    errors = [abs(float(r["target"]) - float(r["value"])) for r in predictions]
    assert found["mae"] == pytest.approx(np.mean(errors))
    with np.load(out / "worst.npz") as worst:
        place = int(np.argmax(errors))
        assert str(worst["case"]) == predictions[place]["case"]
        assert float(worst["score"]) == pytest.approx(errors[place])
        assert float(worst["truth"]) == pytest.approx(float(predictions[place]["target"]))
        assert worst["truth"].dtype == worst["prediction"].dtype == np.float64


def test_linear_models_find_the_number(ages: Path, tmp_path: Path) -> None:
    found = whole(run_baseline(tmp_path / "a", ages, REGRESSION, method="intensity_ridge"))
    assert found["r2"] > 0.9
    out = run_baseline(tmp_path / "b", ages, REGRESSION, method="mean_value")
    assert whole(out)["r2"] <= 1e-9
    assert np.isnan(whole(out)["correlation"])
    probed = read_json(run_probe(tmp_path / "c", ages, REGRESSION) / "summary.json")
    assert probed["selected_by"] == "mae"


def test_the_target_is_standardised_by_the_training_cases_alone(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    volumes = Volumes(stores["regression"])
    recipe = RegressionRecipe.model_validate(REGRESSION)
    train_rows = volumes.rows("train")
    values = np.array([volumes.value(row) for row in train_rows])
    standard = Standard.of(volumes, train_rows)
    assert (standard.mean, standard.sd) == pytest.approx((values.mean(), values.std()))
    batch = KINDS["regression"].rows(recipe, volumes, train_rows, 0)(0)
    restored = standard.restored(batch["target"][:, None])
    assert restored == pytest.approx([volumes.value(int(row)) for row in batch["ids"]], rel=1e-6)
    summary = read_json(train(tmp_path, volumes.folder, REGRESSION) / "summary.json")
    assert summary["target_mean"] == pytest.approx(values.mean())
    assert summary["target_sd"] == pytest.approx(values.std())


@pytest.mark.parametrize("seed", range(4))
def test_a_small_share_of_a_regression_spans_its_range(
    seed: int, ages: Path, tmp_path: Path
) -> None:
    volumes = Volumes(ages)
    given = context(tmp_path, ages, REGRESSION, ratio=0.1, seed=seed).config
    chosen = [volumes.value(row) for row in choose_splits(volumes, given).train]
    edges = np.quantile([volumes.value(row) for row in volumes.rows("train")], [0.25, 0.5, 0.75])
    assert len(chosen) == 6
    assert {*np.searchsorted(edges, chosen).tolist()} == {0, 1, 2, 3}


def test_numbers_that_are_all_one_are_refused(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(8, 8, 8))
    cases = [(split, 3.0, image, None) for split in ("train", "train", "val", "test")]
    store = write_store(tmp_path / "store", cases)
    with pytest.raises(DataError, match="all cases of the train split have the number 3"):
        train(tmp_path, store, REGRESSION)


# Several classes


@pytest.mark.slow
def test_four_classes_learn(grades: Path, tmp_path: Path) -> None:
    task = {**GRADES, "steps": 60, "validate_every": 15, "augmentation": "none", "batch_size": 8}
    out = train(tmp_path, grades, task, network="resnet", network_settings={"width": 0.0625})
    assert whole(out)["accuracy"] > 0.7
    assert whole(out)["auc"] > 0.9
    per_class = [whole(out, label)["auc"] for label in LABELS]
    assert whole(out)["auc"] == pytest.approx(np.mean(per_class))
    predictions = table(out / "predictions.csv")
    columns = [f"probability_{label}" for label in LABELS]
    assert list(predictions[0]) == ["case", "subject", "target", *columns]
    chances = np.array([[float(r[name]) for name in columns] for r in predictions])
    target = np.array([int(r["target"]) for r in predictions])
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-6)
    assert whole(out)["accuracy"] == pytest.approx(np.mean(chances.argmax(1) == target))
    with np.load(out / "worst.npz") as worst:
        given = chances[np.arange(len(target)), target]
        assert str(worst["case"]) == predictions[int(given.argmin())]["case"]
        assert int(worst["prediction"]) == chances[int(given.argmin())].argmax()


@pytest.mark.parametrize("balanced", [False, True])
def test_linear_models_tell_four_classes(balanced: bool, grades: Path, tmp_path: Path) -> None:
    task = {**GRADES, "class_balanced_loss": balanced}
    found = run_baseline(tmp_path / "a", grades, task, method="intensity_logistic")
    assert whole(found)["accuracy"] > 0.9
    majority = run_baseline(tmp_path / "b", grades, task, method="majority")
    assert whole(majority) == {"auc": 0.5, "accuracy": 0.25}
    probed = run_probe(tmp_path / "c", grades, task)
    assert {r["label"] for r in table(probed / "scores.csv")} == {"", *LABELS}


def test_a_class_that_only_training_has_is_left_out_of_the_mean(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    held = {"train": [0, 1, 2, 3], "val": [0, 1, 2], "test": [0, 1, 3]}
    cases = [
        (split, grade, rng.normal(grade, 0.5, (8, 8, 8)), None)
        for split, each in held.items()
        for grade in each * 2
    ]
    out = train(tmp_path, write_store(tmp_path / "store", cases), GRADES)
    areas = {label: whole(out, label)["auc"] for label in LABELS}
    assert np.isnan(areas["moderate"])
    assert whole(out)["auc"] == pytest.approx(np.nanmean(list(areas.values())))


# Scores of surfaces, and voxels without a known class


def test_surfaces_are_scored_on_the_native_grid(stores: dict[str, Path], tmp_path: Path) -> None:
    plain = train(tmp_path / "a", stores["segmentation"], CROPS)
    task = {**CROPS, "surface": True, "surface_tolerance": [1.0, 2.0]}
    out = train(tmp_path / "b", stores["segmentation"], task)
    rows = table(out / "scores.csv")
    assert {r["metric"] for r in rows} == {"dice", "surface_dice", "hd95"}
    # Dice and the training are those of a run without these scores.
    assert [r for r in rows if r["metric"] == "dice"] == table(plain / "scores.csv")
    assert (out / "metrics.csv").read_bytes() == (plain / "metrics.csv").read_bytes()
    missed = {r["label"]: 0 for r in rows}
    by_key = {(r["case"], r["label"], r["metric"]): float(r["value"]) for r in rows}
    for (case, label, metric), value in by_key.items():
        if metric == "surface_dice":
            assert 0 <= value <= 1
            missed[label] += value == 0 and np.isnan(by_key[case, label, "hd95"])
    assert read_json(out / "summary.json")["missed"] == missed


def ignoring(folder: Path) -> Path:
    """Volumes whose lower half along x has no known class, with an image that would mislead."""
    rng = np.random.default_rng(0)
    cases: list[Any] = []
    for split, count in {"train": 6, "val": 2, "test": 2}.items():
        for _ in range(count):
            label = np.zeros((16, 8, 8), np.uint8)
            label[9:14, 2:6, 2:6] = 1
            image = rng.uniform(0, 0.2, label.shape) + label
            image[:8] = rng.uniform(0, 2, (8, 8, 8))
            label[:8] = IGNORED
            cases.append((split, -1, image, label))
    return write_store(folder, cases)


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ignoring(tmp_path_factory.mktemp("unknown") / "store")


IGNORING = {
    **CROPS,
    "labels": ["organ"],
    "class_weights": None,
    "ignore_label": 2,
    "augmentation": "none",
    "surface": True,
}


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_what_is_ignored_changes_neither_loss_nor_gradient(
    weights: list[float] | None,
) -> None:
    from voxseq.finetune.segmentation import DiceCrossEntropy

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 2, 4, 4, 4), generator=generator, requires_grad=True)
    label = torch.randint(0, 2, (2, 1, 4, 4, 4), generator=generator).to(torch.uint8)
    loss = DiceCrossEntropy(weights, has_ignored=True)
    # Where all is known, it is the loss without ignored voxels.
    plain = [float(term.detach()) for term in DiceCrossEntropy(weights)(logits, label)]
    assert [float(t.detach()) for t in loss(logits, label)] == pytest.approx(plain, rel=1e-5)
    label[:, :, :2] = IGNORED
    terms = loss(logits, label)
    (gradient,) = torch.autograd.grad(sum(terms), logits)
    assert not gradient[:, :, :2].any()
    assert gradient[:, :, 2:].any()
    # The same as of the known part alone.
    part = DiceCrossEntropy(weights)(logits[:, :, 2:], label[:, :, 2:])
    assert [float(t) for t in terms] == pytest.approx([float(t) for t in part], rel=1e-5)
    dice, entropy = loss(logits, torch.full_like(label, IGNORED))
    assert float(entropy) == 0
    assert np.isfinite(float(dice))


def test_no_crop_is_centred_where_the_class_is_unknown(unknown: Path) -> None:
    volumes = Volumes(unknown)
    recipe = context(unknown.parent / "run", unknown, IGNORING).config.recipe
    rows = KINDS["segmentation"].rows(recipe, volumes, volumes.rows("train"), 0)
    rng = np.random.default_rng(0)
    centres = [rows._centre(0, rng) for _ in range(200)]
    assert min(centre[0] for centre in centres) >= 8


@pytest.mark.parametrize("augmentation", ["msd", "la"])
def test_augmentation_mixes_no_class_with_the_unknown(augmentation: str, unknown: Path) -> None:
    task = {**IGNORING, "augmentation": augmentation}
    recipe = context(unknown.parent / augmentation, unknown, task).config.recipe
    volumes = Volumes(unknown)
    rows = KINDS["segmentation"].rows(recipe, volumes, volumes.rows("train"), 0)
    seen = torch.cat([rows(step)["label"].flatten() for step in range(10)]).unique()
    assert seen.tolist() == [0, 1, IGNORED]


@pytest.mark.slow
def test_ignored_voxels_are_not_scored(unknown: Path, tmp_path: Path) -> None:
    task = {**IGNORING, "steps": 80, "validate_every": 20, "decoder_features": 8}
    out = train(tmp_path, unknown, task)
    scores = [float(r["value"]) for r in table(out / "scores.csv") if r["metric"] == "dice"]
    assert min(scores) > 0.8
    with np.load(out / "example.npz") as example:
        assert example["truth"].max() == 1
    mean = run_baseline(tmp_path / "mean", unknown, task, method="mean_shape")
    assert {float(r["value"]) for r in table(mean / "scores.csv")} <= {0.0, 1.0}


@pytest.mark.slow
def test_segmentation_learns_surfaces(tmp_path: Path) -> None:
    store = segmentation_store(tmp_path / "store", {"train": 8, "val": 3, "test": 3})
    task = {**CROPS, "steps": 120, "validate_every": 40, "decoder_features": 8, "surface": True}
    rows = table(train(tmp_path, store, task) / "scores.csv")
    means = {
        metric: np.nanmean([float(r["value"]) for r in rows if r["metric"] == metric])
        for metric in ("surface_dice", "hd95")
    }
    assert means["surface_dice"] > 0.7
    assert means["hd95"] < 5
