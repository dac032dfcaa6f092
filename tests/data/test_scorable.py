"""Cases that are too few for a task are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import trees
from voxseq.base.errors import ConfigError, DataError
from voxseq.config import load_config
from voxseq.config.datasets import DataConfig
from voxseq.config.runs import TaskNeeds
from voxseq.data.scorable import ALL_SPLITS, require_scorable
from voxseq.data.verify.check import Usage, verify
from voxseq.plan import build_plan

SPLITS = ["train", "train", "val", "test"]
#: As the plan asks: the helpers for tests leave the splits alone.
SEGMENTATION = {**trees.SEGMENTATION, "splits": ALL_SPLITS}
CLASSIFICATION = {**trees.CLASSIFICATION, "splits": ALL_SPLITS}
WINDOW = {"window": [-900, 900], "foreground_crop": False}


@pytest.mark.parametrize(
    ("kind", "classes", "wanted", "reason"),
    [
        ("segmentation", [[0], [0], [0, 1], [0, 1]], (), "no case of the train split has a fore"),
        ("segmentation", [[0, 1], [0], [0], [0, 1]], (), "no case of the val split has a fore"),
        ("segmentation", [[0, 1], [0, 1], [0, 2], [0, 2]], (1, 2), "train split has class 2"),
        ("classification", [[0], [0], [0, 1], [0, 1]], (0, 1), r"train split have .* \[0\]"),
        ("classification", [[0], [1], [0, 1], [1]], (0, 1), r"test split have the classes \[1\]"),
        (
            "classification",
            [[0], [1], [0, 1], [0, 1]],
            (0, 1, 2),
            r"train split .* \[0, 1\], expected \[0, 1, 2\]",
        ),
        ("classification", [[0, 1], [2], [0, 1], [1]], (0, 1, 2), r"test split .* one class"),
        ("regression", [[1.5], [1.5], [1, 2], [1, 2]], (), "all cases of the train split .* 1.5"),
        ("regression", [[1], [2], [1, 2], [3]], (), "number 3: R² is undefined"),
    ],
)
def test_a_lack_is_named(kind: str, classes: list[list[int]], wanted: object, reason: str) -> None:
    with pytest.raises(DataError, match=rf"organ: .*\(train 2, val 1, test 1\).*{reason}"):
        require_scorable("organ", kind, SPLITS, classes, wanted)


def test_enough_is_accepted() -> None:
    require_scorable("organ", "segmentation", SPLITS, [[0, 1], [0, 2], [1], [0, 1]], (1, 2))
    require_scorable("nodule", "classification", [*SPLITS] * 2, [[0]] * 4 + [[1]] * 4, (0, 1))
    # A class of several that validation and test lack has no AUC there, the others have.
    few = [[0, 1], [2], [0, 2], [1, 2]]
    require_scorable("grade", "classification", SPLITS, few, (0, 1, 2))
    require_scorable("age", "regression", SPLITS, [[1], [2], [1, 2], [3, 4]])


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_cases_stop_the_download_and_are_named(count: int, tmp_path: Path) -> None:
    root = tmp_path / "data"
    trees.msd(root, list("ab")[:count])
    with pytest.raises(DataError, match="the val split has no case"):
        trees.run_download(root, tmp_path, "task09_spleen", SEGMENTATION)
    task = TaskNeeds.model_validate(SEGMENTATION)
    usage = Usage.of(["task09_spleen"], DataConfig(), {"task09_spleen": task}, [])
    found = verify(["task09_spleen"], root, usage).findings
    assert any("the val split has no case" in f.reason for f in found)
    assert all(f.severity == "warning" for f in found)
    # As a source they are enough.
    trees.run_download(root, tmp_path / "source", "task09_spleen")


def test_a_training_set_of_one_class_stops_the_download(tmp_path: Path) -> None:
    folder = trees.nodule(tmp_path / "data", {"train": 4, "val": 4, "test": 4})
    path = folder / "nodulemnist3d.npz"
    arrays = {name: array.copy() for name, array in np.load(path).items()}
    arrays["train_labels"][:] = 0
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"train split have the classes \[0\].*nothing to learn"):
        trees.run_download(tmp_path / "data", tmp_path, "nodule", CLASSIFICATION)


def test_training_labels_without_foreground_stop_the_download(tmp_path: Path) -> None:
    folder = trees.msd(tmp_path / "data", list("abc"))
    for path in (folder / "labelsTr").iterdir():
        trees.write_nifti(path, np.zeros_like(trees.label()))
    with pytest.raises(DataError, match="no case of the train split has a foreground voxel"):
        trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", SEGMENTATION)


def test_a_class_that_merging_leaves_without_a_voxel_stops_the_preparation(tmp_path: Path) -> None:
    trees.msd(tmp_path / "data", list("abc"), "Task07_Pancreas")
    two = {**SEGMENTATION, "labels": 2}
    trees.run_download(tmp_path / "data", tmp_path, "task07_pancreas", two)
    with pytest.raises(DataError, match=r"task07_pancreas: its 3 cases .* has class 2"):
        trees.run_preprocess(tmp_path / "data", tmp_path, "task07_pancreas", WINDOW, two)


def test_the_plan_asks_for_all_splits(root: Path) -> None:
    plan = build_plan(load_config(root / "params.yaml"))
    for run in plan.runs.values():
        if run.stage in ("download", "preprocess") and run.config.task:
            assert run.config.task.splits == ALL_SPLITS, run.id


@pytest.mark.parametrize(
    ("phantoms", "reason"),
    [
        (
            {"segmentation_cases": 2},
            r"segmentation_cases: 2 give finetune\.tasks\.\w+ 0 validation cases; expected 1",
        ),
        (
            {"classification_cases": [160, 1, 120]},
            r"classification_cases: .* 1 validation cases; expected 2",
        ),
    ],
)
def test_too_few_phantoms_are_refused_with_the_configuration(
    phantoms: dict[str, object], reason: str, root: Path
) -> None:
    overlay = {"data": {"phantoms": phantoms}}
    with pytest.raises(ConfigError, match=reason):
        load_config(root / "params.yaml", [overlay])
    # Real data are counted when they are examined.
    load_config(root / "params.yaml", [{"data": {"root": "data", "phantoms": phantoms}}])
