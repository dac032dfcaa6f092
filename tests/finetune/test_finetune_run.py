"""A fine-tuning: its files, its starting point, its refusals, and that it is the same again."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.finetune_store import (
    CLASSIFICATION,
    SEGMENTATION,
    TASKS,
    classification_store,
    contents,
    context,
    make_stores,
    pretrained,
    segmentation_store,
    table,
    write_store,
)
from tests.helpers.finetune_store import finish as finish_run
from voxseq.base.errors import ConfigError, DataError, IntegrityError
from voxseq.base.files import read_json
from voxseq.config.execution import DeviceConfig
from voxseq.data.task_volumes import Volumes
from voxseq.finetune import run, segmentation
from voxseq.finetune.kinds import KINDS
from voxseq.finetune.recipe import choose_splits
from voxseq.finetune.segmentation import SegmentationTraining, score_cases

FILES = {"metrics.csv", "scores.csv", "validation.csv", "worst.npz", "summary.json"}
kinds = pytest.mark.parametrize("kind", TASKS)
finish = partial(finish_run, run.execute)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def outs(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Results of one undisturbed run of each kind."""
    root = tmp_path_factory.mktemp("straight")
    return {kind: finish(root / kind, stores[kind], TASKS[kind]) for kind in TASKS}


def test_files_of_a_segmentation(stores: dict[str, Path], outs: dict[str, Path]) -> None:
    out, volumes = outs["segmentation"], Volumes(stores["segmentation"])
    assert {p.name for p in out.iterdir()} == {*FILES, "example.npz"}
    scores = table(out / "scores.csv")
    assert [(r["case"], r["label"], r["metric"]) for r in scores] == [
        (f"d/test{n}", label, "dice") for n in range(3) for label in ("organ", "tumour")
    ]
    by_case: dict[str, list[float]] = {}
    for r in scores:
        by_case.setdefault(r["case"], []).append(float(r["value"]))
    means = {case: float(np.nanmean(values)) for case, values in by_case.items()}
    lowest = min(means, key=lambda case: means[case])
    for name, case in (("example.npz", "d/test0"), ("worst.npz", lowest)):
        row = next(r for r in volumes.rows("test") if volumes.name(r) == case)
        truth = volumes.label(row)
        index = int((truth > 0).sum(axis=(0, 1)).argmax())
        with np.load(out / name, allow_pickle=False) as slices:
            numbers = slices["numbers"]
            assert numbers[slices["main"]] == index
            np.testing.assert_array_equal(slices["truth"], truth[..., numbers])
            np.testing.assert_array_equal(slices["image"], volumes.image(row)[0][..., numbers])
            assert slices["image"].dtype == np.float32
            assert slices["prediction"].dtype == slices["truth"].dtype == np.uint8
            assert slices["prediction"].shape == (*truth.shape[:2], len(numbers))
            assert str(slices["case"]) == case
            if name == "worst.npz":
                assert float(slices["score"]) == pytest.approx(means[lowest])
                assert slices["hd95"].shape == (2,)
                voxel = np.prod(volumes.spacing(row)) / 1000
                counts = [(truth == number).sum() for number in (1, 2)]
                np.testing.assert_allclose(slices["volumes"][0], voxel * np.array(counts))
            else:
                assert len(numbers) == 1


def test_files_of_a_classification(outs: dict[str, Path]) -> None:
    out = outs["classification"]
    assert {p.name for p in out.iterdir()} == {*FILES, "predictions.csv"}
    scores = {r["metric"]: float(r["value"]) for r in table(out / "scores.csv")}
    predictions = table(out / "predictions.csv")
    assert [r["case"] for r in predictions] == [f"d/test{n}" for n in range(6)]
    right = [(float(r["probability"]) > 0.5) == (r["target"] == "1") for r in predictions]
    assert scores["accuracy"] == pytest.approx(np.mean(right))
    assert set(scores) == {"accuracy", "auc"}
    # The worst case is the one whose true class is the least probable.
    given = {
        r["case"]: float(r["probability"]) if r["target"] == "1" else 1 - float(r["probability"])
        for r in predictions
    }
    lowest = min(given, key=lambda case: given[case])
    with np.load(out / "worst.npz", allow_pickle=False) as worst:
        assert str(worst["case"]) == lowest
        assert float(worst["score"]) == pytest.approx(given[lowest])
        numbers = worst["numbers"].tolist()
        assert (numbers[0], numbers[worst["main"]], numbers[-1]) == (0, 4, 7)
        assert worst["image"].shape == (8, 8, len(numbers))
        assert worst["truth"].shape == worst["prediction"].shape == ()
        assert (int(worst["truth"]) != int(worst["prediction"])) == (given[lowest] < 0.5)


def test_summary_agrees_with_the_validation_scores(outs: dict[str, Path]) -> None:
    out = outs["segmentation"]
    summary = read_json(out / "summary.json")
    assert (summary["n_train"], summary["n_val"], summary["n_test"]) == (6, 3, 3)
    speed = {"samples_per_second", "waiting_for_data"}
    assert set(read_json(out.parent / "state/cost.json")) == {"seconds", "peak_memory_mb"} | speed
    rows = table(out / "validation.csv")
    means = [
        np.mean([float(r["value"]) for r in rows if r["label"] == label])
        for label in ("organ", "tumour")
    ]
    assert summary["validation_score"] == pytest.approx(np.mean(means))
    curve = [
        (int(r["step"]), float(r["value"]))
        for r in table(out / "metrics.csv")
        if (r["split"], r["name"]) == ("val", "dice")
    ]
    best = max(value for _, value in curve)
    assert summary["selected_step"] == next(step for step, value in curve if value == best)


@kinds
def test_frozen_encoder_stays_and_the_rest_learns(
    kind: str, stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, Any] = {}
    build = run._network

    def remembered(*args: Any) -> Any:
        network = build(*args)
        kept.update(network=network, before={k: v.clone() for k, v in network.state_dict().items()})
        return network

    monkeypatch.setattr(run, "_network", remembered)
    finish(tmp_path, stores[kind], TASKS[kind], trained="decoder")
    after = kept["network"].state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, kept["before"][key])}
    assert changed
    assert not any(key.startswith("encoder.") for key in changed)
    assert not any(p.requires_grad for p in kept["network"].encoder.parameters())


def test_frozen_encoder_is_in_evaluation_mode_and_records_no_gradient(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    given = context(tmp_path, stores["segmentation"], SEGMENTATION, trained="decoder")
    network = run._network(given)
    volumes = Volumes(stores["segmentation"])
    trainable = SegmentationTraining(network, given.config.recipe, volumes, [0])
    for mode in (True, False, True):
        trainable.train(mode)
        assert network.training is mode
        assert network.get_submodule("decoder2").training is mode
        assert not network.get_submodule("encoder").training
        assert not network.get_submodule("encoder.blocks.0").training
    encoded = network.get_submodule("encoder")(torch.zeros(1, 1, 8, 8, 8), taps=[0])
    assert len(encoded.hidden) == 1
    assert not encoded.tokens.requires_grad
    assert not any(state.requires_grad for state in encoded.hidden)


@kinds
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_validation_and_scoring_compute_in_the_precision_of_the_training(
    kind: str,
    precision: str,
    stores: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[bool, set[bool]] = {True: set(), False: set()}
    build = run._network

    def watched(*args: Any) -> Any:
        network = build(*args)
        network.register_forward_pre_hook(
            lambda module, given: seen[module.training].add(torch.is_autocast_enabled("cpu"))
        )
        return network

    monkeypatch.setattr(run, "_network", watched)
    finish(tmp_path, stores[kind], TASKS[kind], precision=precision)
    is_mixed = precision == "bf16-mixed"
    assert seen == {True: {is_mixed}, False: {is_mixed}}


def test_network_without_encoder_cannot_be_frozen(stores: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ResNet18 has no encoder"):
        finish(
            *(tmp_path, stores["classification"], CLASSIFICATION),
            network="resnet",
            trained="decoder",
        )


def interrupted(
    patch: pytest.MonkeyPatch, kind: str, crash: int, root: Path, store: Path, *args: Any, **kw: Any
) -> Path:
    """A run whose power is cut after a step, and which is resumed."""

    def power_cut(self: torch.nn.Module, step: int) -> None:
        if step == crash:
            raise KeyboardInterrupt

    with patch.context() as during:
        during.setattr(KINDS[kind].training, "after_step", power_cut)
        with pytest.raises(KeyboardInterrupt):
            finish(root, store, *args, **kw)
    assert (root / "state" / "checkpoint.pt").exists()
    return finish(root, store, *args, **kw)


@pytest.mark.parametrize(
    ("kind", "network", "settings"),
    [
        ("segmentation", "unet3d", {"features": [4, 4, 8, 8, 8, 4], "norm": "batch"}),
        ("classification", "resnet", {"stem": "small", "width": 0.0625}),
        ("regression", "resnet", {"stem": "small", "width": 0.0625}),
    ],
)
def test_networks_of_their_own_train_and_resume(
    kind: str,
    network: str,
    settings: dict[str, Any],
    stores: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Batch norm has state beside its weights, which a resumed run must find again."""
    task = {**TASKS[kind], "steps": 4, **({"roi": [16, 16, 16]} if kind[0] == "s" else {})}
    changes = {"network": network, "network_settings": settings}
    straight = finish(tmp_path / "a", stores[kind], task, **changes)
    resumed = interrupted(monkeypatch, kind, 2, tmp_path / "b", stores[kind], task, **changes)
    assert contents(resumed) == contents(straight)


@pytest.mark.parametrize("crash", [3, 4])
@kinds
def test_resumed_run_is_the_straight_run(
    kind: str,
    crash: int,
    outs: dict[str, Path],
    stores: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resumed = interrupted(monkeypatch, kind, crash, tmp_path, stores[kind], TASKS[kind])
    assert contents(resumed) == contents(outs[kind])


@pytest.mark.parametrize("workers", [0, 2])
@kinds
def test_same_run_same_bytes(
    kind: str, workers: int, outs: dict[str, Path], stores: dict[str, Path], tmp_path: Path
) -> None:
    """With worker processes too, and when the generators have another state."""
    # Zip archives have time stamps of two seconds' resolution.
    time.sleep(2.1 if kind == "segmentation" and not workers else 0)
    torch.manual_seed(99)
    again = finish(tmp_path, stores[kind], TASKS[kind], workers=workers)
    assert contents(again) == contents(outs[kind])


def test_volumes_on_a_local_disk_give_the_same_bytes(
    outs: dict[str, Path], stores: dict[str, Path], tmp_path: Path
) -> None:
    given = context(tmp_path, stores["classification"], TASKS["classification"])
    run.execute(replace(given, device=DeviceConfig(staging=str(tmp_path / "fast"))))
    assert contents(given.out) == contents(outs["classification"])
    assert [*(tmp_path / "fast").rglob("volumes-000.bin")]


def test_test_labels_do_not_touch_the_selection(outs: dict[str, Path], tmp_path: Path) -> None:
    store = classification_store(tmp_path / "store", flip_test=True)
    found = finish(tmp_path, store, CLASSIFICATION)
    expected = outs["classification"]
    for name in ("metrics.csv", "validation.csv", "summary.json"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()
    areas = [
        float(next(r["value"] for r in table(out / "scores.csv") if r["metric"] == "auc"))
        for out in (found, expected)
    ]
    assert areas[0] == pytest.approx(1 - areas[1])


def test_test_images_are_segmented_once_and_after_training(
    stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    segmented: list[int] = []
    original, run_fit = Volumes._read, run.fit

    def spy(self: Volumes, kind: str, row: int, *box: Any) -> Any:
        read.append(self.name(row))
        return original(self, kind, row, *box)

    def fitted(*args: Any, **kwargs: Any) -> Any:
        result = run_fit(*args, **kwargs)
        assert not any("test" in name for name in read)
        read.append("fitted")
        return result

    def counted(predict: Any, volumes: Volumes, rows: Any, recipe: Any, **options: Any) -> Any:
        for case in score_cases(predict, volumes, rows, recipe, **options):
            segmented.append(case.row)
            yield case

    monkeypatch.setattr(Volumes, "_read", spy)
    monkeypatch.setattr(run, "fit", fitted)
    monkeypatch.setattr(segmentation, "score_cases", counted)
    finish(tmp_path, stores["segmentation"], SEGMENTATION)
    assert "fitted" in read
    assert all(segmented.count(r) == 1 for r in Volumes(stores["segmentation"]).rows("test"))


def test_native_grid_without_resampling_scores_the_same(
    outs: dict[str, Path], stores: dict[str, Path], tmp_path: Path
) -> None:
    out = finish(tmp_path, stores["segmentation"], {**SEGMENTATION, "score_grid": "native"})
    assert contents(out) == contents(outs["segmentation"])


def test_share_of_the_labels(stores: dict[str, Path], tmp_path: Path) -> None:
    out = finish(tmp_path, stores["classification"], CLASSIFICATION, ratio=0.1)
    # One of ten would be one class only.
    assert read_json(out / "summary.json")["n_train"] == 2


@kinds
def test_pretrained_encoder_is_where_training_starts(
    kind: str, stores: dict[str, Path], tmp_path: Path
) -> None:
    encoder = pretrained(tmp_path / "pre", 77)
    given = context(tmp_path, stores[kind], TASKS[kind], pretrained="pretrain/ours")
    scratch = run._network(context(tmp_path, stores[kind], TASKS[kind]))
    for key, value in run._network(given).state_dict().items():
        if key.startswith("encoder."):
            assert torch.equal(value, encoder.state_dict()[key.removeprefix("encoder.")])
        else:
            assert torch.equal(value, scratch.state_dict()[key])


def test_encoder_of_another_geometry_is_refused(stores: dict[str, Path], tmp_path: Path) -> None:
    pretrained(tmp_path / "pre", depth=1)
    with pytest.raises(IntegrityError, match="depth: file 1, network 2"):
        finish(*(tmp_path, stores["classification"], CLASSIFICATION), pretrained="pretrain/ours")


def _halves(folder: Path, full: dict[str, int], empty: dict[str, int]) -> Path:
    """Volumes of two organs, and others without any."""
    label = np.ones((8, 8, 8), np.uint8)
    label[4:] = 2
    cases = [(s, -1, part, part) for s, n in full.items() for part in [label] * n]
    cases += [(s, -1, part, part) for s, n in empty.items() for part in [0 * label] * n]
    return write_store(folder, cases)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("lack", ["cases", "foreground", "classes"])
def test_split_that_cannot_be_used_is_refused_before_training(
    split: str, lack: str, tmp_path: Path
) -> None:
    others = {name: 2 for name in ("train", "val", "test") if name != split}
    folder, task = tmp_path / "store", SEGMENTATION
    match lack:
        case "cases":
            store = segmentation_store(folder, others)
            message = f"the {split} split has no case"
        case "foreground":
            store = _halves(folder, others, {split: 1})
            message = f"no case of the {split} split has a foreground voxel"
        case _:
            store, task = classification_store(folder, one_class=split), CLASSIFICATION
            reason = "nothing to learn" if split == "train" else "AUC is undefined"
            message = rf"{split} split .* \[0\].*{reason}"
    with pytest.raises(DataError, match=message):
        finish(tmp_path, store, task)
    assert not (tmp_path / "out" / "metrics.csv").exists()


def test_a_share_of_the_cases_without_foreground_is_refused(tmp_path: Path) -> None:
    folder = _halves(tmp_path / "store", {"train": 5, "val": 1, "test": 1}, {"train": 5})
    volumes = Volumes(folder)
    config = context(tmp_path, folder, SEGMENTATION).config
    assert len(choose_splits(volumes, config).train) == 10
    refused = 0
    for seed in range(10):
        try:
            choose_splits(volumes, config.model_copy(update={"ratio": 0.1, "seed": seed}))
        except DataError as error:
            assert "a share of 0.1 of the training cases" in error.what
            refused += 1
    assert 0 < refused < 10


@kinds
def test_mixed_precision_runs(kind: str, stores: dict[str, Path], tmp_path: Path) -> None:
    out = finish(tmp_path, stores[kind], TASKS[kind], precision="bf16-mixed")
    losses = [float(r["value"]) for r in table(out / "metrics.csv") if r["name"] == "loss"]
    assert np.isfinite(losses).all()


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    """Both networks solve a task that is easy: brightness."""
    store = segmentation_store(tmp_path / "seg", {"train": 8, "val": 3, "test": 3})
    task = {**SEGMENTATION, "steps": 120, "validate_every": 40, "decoder_features": 8}
    rows = table(finish(tmp_path / "a", store, task) / "scores.csv")
    assert np.mean([float(r["value"]) for r in rows]) > 0.7
    store = classification_store(tmp_path / "cls", {"train": 60, "val": 20, "test": 40})
    task = {**CLASSIFICATION, "steps": 150, "validate_every": 25}
    rows = table(finish(tmp_path / "b", store, task) / "scores.csv")
    assert float(rows[0]["value"]) > 0.9
