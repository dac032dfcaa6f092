from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.finetune_store import (
    CLASSIFICATION,
    ENCODER,
    SEGMENTATION,
    classification_store,
    context,
    segmentation_store,
)
from voxseq.base.errors import ConfigError, DataError, IntegrityError
from voxseq.base.files import read_json
from voxseq.config.model import EncoderConfig
from voxseq.data.task_volumes import Volumes
from voxseq.finetune import run
from voxseq.finetune.classification import ClassificationTraining
from voxseq.finetune.recipe import choose_splits
from voxseq.finetune.segmentation import SegmentationTraining, score_cases
from voxseq.models.encoder import build_encoder
from voxseq.models.transfer import ENCODER_FILE, save_encoder

TASKS = {"segmentation": SEGMENTATION, "classification": CLASSIFICATION}
TRAININGS = {"segmentation": SegmentationTraining, "classification": ClassificationTraining}
kinds = pytest.mark.parametrize("kind", ["segmentation", "classification"])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("stores")
    return {
        "segmentation": segmentation_store(root / "segmentation"),
        "classification": classification_store(root / "classification"),
    }


def finish(root: Path, store: Path, task: dict[str, Any], **changes: Any) -> Path:
    """Do one run and return its results."""
    given = context(root, store, task, **changes)
    run.execute(given)
    return given.out


def contents(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir()}


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def straight(
    stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, bytes]]:
    """Results of one undisturbed run of each kind."""
    root = tmp_path_factory.mktemp("straight")
    return {
        kind: contents(finish(root / kind, stores[kind], TASKS[kind])) for kind in sorted(TASKS)
    }


def test_segmentation_writes_its_files(stores: dict[str, Path], tmp_path: Path) -> None:
    out = finish(tmp_path, stores["segmentation"], SEGMENTATION)
    assert {p.name for p in out.iterdir()} == {
        "metrics.csv",
        "scores.csv",
        "validation.csv",
        "example.npz",
        "worst.npz",
        "summary.json",
    }
    scores = table(out / "scores.csv")
    assert [(r["case"], r["label"], r["metric"]) for r in scores] == [
        (f"d/test{n}", label, "dice") for n in range(3) for label in ("organ", "tumour")
    ]
    summary = read_json(out / "summary.json")
    assert (summary["n_train"], summary["n_val"], summary["n_test"]) == (6, 3, 3)
    assert set(read_json(out.parent / "state/cost.json")) == {"seconds", "peak_memory_mb"}
    with np.load(out / "example.npz", allow_pickle=False) as example:
        truth = Volumes(stores["segmentation"]).label(9)
        index = int((truth > 0).sum(axis=(0, 1)).argmax())
        np.testing.assert_array_equal(example["truth"], truth[..., index])
        image = Volumes(stores["segmentation"]).image(9)
        np.testing.assert_array_equal(example["image"], image[..., index])
        assert example["image"].dtype == np.float32
        assert example["prediction"].dtype == np.uint8
        assert example["prediction"].shape == truth.shape[:2]


def test_classification_writes_its_files(stores: dict[str, Path], tmp_path: Path) -> None:
    out = finish(tmp_path, stores["classification"], CLASSIFICATION)
    assert {p.name for p in out.iterdir()} == {
        "metrics.csv",
        "scores.csv",
        "validation.csv",
        "predictions.csv",
        "worst.npz",
        "summary.json",
    }
    scores = {r["metric"]: float(r["value"]) for r in table(out / "scores.csv")}
    predictions = table(out / "predictions.csv")
    assert [r["case"] for r in predictions] == [f"d/test{n}" for n in range(6)]
    right = [(float(r["probability"]) > 0.5) == (r["target"] == "1") for r in predictions]
    assert scores["accuracy"] == pytest.approx(np.mean(right))
    assert set(scores) == {"accuracy", "auc"}


def test_worst_case_of_a_segmentation_is_the_lowest_mean(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    out = finish(tmp_path, stores["segmentation"], SEGMENTATION)
    by_case: dict[str, list[float]] = {}
    for r in table(out / "scores.csv"):
        by_case.setdefault(r["case"], []).append(float(r["value"]))
    means = {case: float(np.nanmean(values)) for case, values in by_case.items()}
    lowest = min(means, key=lambda case: means[case])
    with np.load(out / "worst.npz", allow_pickle=False) as worst:
        assert str(worst["case"]) == lowest
        assert float(worst["score"]) == pytest.approx(means[lowest])
        volumes = Volumes(stores["segmentation"])
        row = next(r for r in volumes.rows("test") if volumes.name(r) == lowest)
        truth = volumes.label(row)
        index = int((truth > 0).sum(axis=(0, 1)).argmax())
        np.testing.assert_array_equal(worst["truth"], truth[..., index])
        np.testing.assert_array_equal(worst["image"], volumes.image(row)[..., index])
        assert worst["prediction"].shape == worst["truth"].shape
        assert worst["prediction"].dtype == worst["truth"].dtype == np.uint8


def test_worst_case_of_a_classification_is_the_least_probable_truth(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    out = finish(tmp_path, stores["classification"], CLASSIFICATION)
    given = {
        r["case"]: float(r["probability"]) if r["target"] == "1" else 1 - float(r["probability"])
        for r in table(out / "predictions.csv")
    }
    lowest = min(given, key=lambda case: given[case])
    with np.load(out / "worst.npz", allow_pickle=False) as worst:
        assert str(worst["case"]) == lowest
        assert float(worst["score"]) == pytest.approx(given[lowest])
        assert worst["image"].shape == (8, 8)
        assert worst["truth"].shape == worst["prediction"].shape == ()
        wrong = given[lowest] < 0.5
        assert (int(worst["truth"]) != int(worst["prediction"])) == wrong


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
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
    recipe = given.config.recipe
    network = run._network(given)
    volumes = Volumes(stores["segmentation"])
    trainable = run._trainable(network, recipe, volumes, [0])
    for mode in (True, False, True):
        trainable.train(mode)
        assert network.training is mode
        assert network.get_submodule("decoder2").training is mode
        assert not network.get_submodule("encoder").training
        assert not network.get_submodule("encoder.blocks.0").training
    encoded = network.get_submodule("encoder")(torch.zeros(1, 1, 8, 8, 8))
    assert not encoded.tokens.requires_grad
    assert not any(state.requires_grad for state in encoded.hidden)


def test_network_without_encoder_cannot_be_frozen(stores: dict[str, Path], tmp_path: Path) -> None:
    given = context(
        tmp_path, stores["classification"], CLASSIFICATION, network="resnet", trained="decoder"
    )
    with pytest.raises(ConfigError, match="ResNet18 has no encoder"):
        run.execute(given)


@pytest.mark.parametrize(
    ("kind", "network", "settings"),
    [
        ("segmentation", "unet3d", {"features": [4, 4, 8, 8, 8, 4], "norm": "batch"}),
        ("classification", "resnet", {"stem": "small", "width": 0.0625}),
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
    straight = contents(finish(tmp_path / "a", stores[kind], task, **changes))

    def power_cut(self: torch.nn.Module, step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TRAININGS[kind], "after_step", power_cut)
        with pytest.raises(KeyboardInterrupt):
            finish(tmp_path / "b", stores[kind], task, **changes)
    assert (tmp_path / "b" / "state" / "checkpoint.pt").exists()
    assert contents(finish(tmp_path / "b", stores[kind], task, **changes)) == straight


def test_summary_agrees_with_the_validation_scores(
    straight: dict[str, dict[str, bytes]], stores: dict[str, Path], tmp_path: Path
) -> None:
    out = finish(tmp_path, stores["segmentation"], SEGMENTATION)
    rows = table(out / "validation.csv")
    means = [
        np.mean([float(r["value"]) for r in rows if r["label"] == label])
        for label in ("organ", "tumour")
    ]
    summary = read_json(out / "summary.json")
    assert summary["validation_score"] == pytest.approx(np.mean(means))
    curve = [
        (int(r["step"]), float(r["value"]))
        for r in table(out / "metrics.csv")
        if (r["split"], r["name"]) == ("val", "dice")
    ]
    best = max(value for _, value in curve)
    assert summary["selected_step"] == next(step for step, value in curve if value == best)


@kinds
def test_same_run_same_bytes(
    kind: str, straight: dict[str, dict[str, bytes]], stores: dict[str, Path], tmp_path: Path
) -> None:
    # Zip archives have time stamps of two seconds' resolution.
    time.sleep(2.1 if kind == "segmentation" else 0)
    torch.manual_seed(99)
    assert contents(finish(tmp_path, stores[kind], TASKS[kind])) == straight[kind]


@kinds
def test_workers_do_not_change_a_bit(
    kind: str, straight: dict[str, dict[str, bytes]], stores: dict[str, Path], tmp_path: Path
) -> None:
    out = finish(tmp_path, stores[kind], TASKS[kind], workers=2)
    assert contents(out) == straight[kind]


@pytest.mark.parametrize("case", [(kind, step) for kind in sorted(TASKS) for step in (3, 4)])
def test_resumed_run_is_the_straight_run(
    case: tuple[str, int],
    straight: dict[str, dict[str, bytes]],
    stores: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, crash = case

    def power_cut(self: torch.nn.Module, step: int) -> None:
        if step == crash:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TRAININGS[kind], "after_step", power_cut)
        with pytest.raises(KeyboardInterrupt):
            finish(tmp_path, stores[kind], TASKS[kind])
    assert (tmp_path / "state" / "checkpoint.pt").exists()
    assert contents(finish(tmp_path, stores[kind], TASKS[kind])) == straight[kind]


def test_test_labels_do_not_touch_the_selection(
    straight: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    store = classification_store(tmp_path / "store", flip_test=True)
    found = contents(finish(tmp_path, store, CLASSIFICATION))
    expected = straight["classification"]
    for name in ("metrics.csv", "validation.csv", "summary.json"):
        assert found[name] == expected[name]
    auc = [
        next(r for r in f["scores.csv"].decode().split() if "auc" in r) for f in (found, expected)
    ]
    values = [float(line.rsplit(",", 1)[1]) for line in auc]
    assert values[0] == pytest.approx(1 - values[1])


def test_test_images_are_segmented_once_and_after_training(
    stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = Volumes._read

    def spy(self: Volumes, kind: str, row: int) -> Any:
        read.append(self.name(row))
        return original(self, kind, row)

    def fitted(*args: Any, **kwargs: Any) -> Any:
        result = run_fit(*args, **kwargs)
        assert not any("test" in name for name in read)
        read.append("fitted")
        return result

    segmented: list[int] = []

    def counted(predict: Any, volumes: Volumes, rows: Any, recipe: Any) -> Any:
        for case in score_cases(predict, volumes, rows, recipe):
            segmented.append(case.row)
            yield case

    run_fit = run.fit
    monkeypatch.setattr(Volumes, "_read", spy)
    monkeypatch.setattr(run, "fit", fitted)
    monkeypatch.setattr(run.segmentation, "score_cases", counted)
    monkeypatch.setattr(run.results, "score_cases", counted)
    finish(tmp_path, stores["segmentation"], SEGMENTATION)
    assert "fitted" in read
    volumes = Volumes(stores["segmentation"])
    for row in volumes.rows("test"):
        assert segmented.count(row) == 1


def test_native_grid_without_resampling_scores_the_same(
    straight: dict[str, dict[str, bytes]], stores: dict[str, Path], tmp_path: Path
) -> None:
    task = {**SEGMENTATION, "score_grid": "native"}
    found = contents(finish(tmp_path, stores["segmentation"], task))
    assert found == straight["segmentation"]


def test_share_of_the_labels(stores: dict[str, Path], tmp_path: Path) -> None:
    out = finish(tmp_path, stores["classification"], CLASSIFICATION, ratio=0.1)
    # One of ten would be one class only.
    assert read_json(out / "summary.json")["n_train"] == 2


def test_pretrained_encoder_is_where_training_starts(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    config = EncoderConfig.model_validate(ENCODER)
    encoder = build_encoder(config, 77, pretraining=True)
    save_encoder(tmp_path / "pre" / ENCODER_FILE, encoder, config, {})
    for kind, task in TASKS.items():
        given = context(tmp_path / kind, stores[kind], task, pretrained="pretrain/ours")
        given.inputs["pretrain/ours"] = tmp_path / "pre"  # type: ignore[index]
        network = run._network(given)
        scratch = run._network(context(tmp_path / kind, stores[kind], task))
        for key, value in network.state_dict().items():
            if key.startswith("encoder."):
                assert torch.equal(value, encoder.state_dict()[key.removeprefix("encoder.")])
            else:
                assert torch.equal(value, scratch.state_dict()[key])


def test_encoder_of_another_geometry_is_refused(stores: dict[str, Path], tmp_path: Path) -> None:
    config = EncoderConfig.model_validate({**ENCODER, "depth": 1})
    encoder = build_encoder(config, 0, pretraining=True)
    save_encoder(tmp_path / "pre" / ENCODER_FILE, encoder, config, {})
    given = context(tmp_path, stores["classification"], CLASSIFICATION, pretrained="pretrain/ours")
    given.inputs["pretrain/ours"] = tmp_path / "pre"  # type: ignore[index]
    with pytest.raises(IntegrityError, match="depth: file 1, network 2"):
        run.execute(given)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_split_of_one_class_is_refused_before_training(split: str, tmp_path: Path) -> None:
    store = classification_store(tmp_path / "store", one_class=split)
    reason = "nothing to learn" if split == "train" else "AUC is undefined"
    with pytest.raises(DataError, match=rf"{split} split .* \[0\].*{reason}"):
        finish(tmp_path, store, CLASSIFICATION)
    assert not (tmp_path / "out" / "metrics.csv").exists()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_empty_split_is_refused(split: str, tmp_path: Path) -> None:
    splits = {name: 2 for name in ("train", "val", "test") if name != split}
    store = segmentation_store(tmp_path / "store", splits)
    with pytest.raises(DataError, match=f"the {split} split has no case"):
        finish(tmp_path, store, SEGMENTATION)


def _halves(folder: Path, splits: Sequence[str], empty: Sequence[int]) -> Path:
    """Volumes of two organs, some of them without any."""
    from tests.helpers.finetune_store import row
    from voxseq.config.data import StoreConfig
    from voxseq.data.store import StoreWriter

    folder.mkdir()
    writer = StoreWriter(folder, StoreConfig())
    for key, split in enumerate(splits):
        label = np.zeros((8, 8, 8), np.uint8)
        if key not in empty:
            label[:4], label[4:] = 1, 2
        writer.add(key, label.astype(np.float32), label, row(f"d/{key}", split, -1, (8, 8, 8)))
    writer.close()
    return folder


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_split_without_foreground_is_refused(split: str, tmp_path: Path) -> None:
    splits = ["train", "val", "test"]
    store = _halves(tmp_path / "store", splits, [splits.index(split)])
    with pytest.raises(DataError, match=f"no case of the {split} split has a foreground voxel"):
        finish(tmp_path, store, SEGMENTATION)


def test_a_share_of_the_cases_without_foreground_is_refused(tmp_path: Path) -> None:
    store = Volumes(_halves(tmp_path / "store", [*["train"] * 10, "val", "test"], range(5, 10)))
    config = context(tmp_path, store.folder, SEGMENTATION).config
    assert len(choose_splits(store, config).train) == 10
    refused = 0
    for seed in range(10):
        try:
            choose_splits(store, config.model_copy(update={"ratio": 0.1, "seed": seed}))
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
