"""Copies of an image within a data set: altered ones share a part, different persons do not."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.helpers import trees
from voxseq.config.datasets import DataConfig
from voxseq.config.runs import TaskNeeds
from voxseq.data import grid
from voxseq.data.index import read_index
from voxseq.data.verify.check import Usage, verify

Alter = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
SHAPE = (40, 44, 24)
SPACING = np.diag([0.9, 0.9, 3.0, 1.0])
#: A task's folder → its name in the catalogue.
TASKS = {"Task09_Spleen": "task09_spleen", "Task03_Liver": "task03_liver"}


def trunk(seed: int) -> np.ndarray:
    """Organs of one person, in HU, in an outline that everybody shares."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    inside = (x / 0.9) ** 2 + (y / 0.8) ** 2 + (z / 3) ** 2 < 1
    own = grid.linear(rng.normal(0, 150, (10, 11, 6)).astype(np.float32), SHAPE)
    voxels = np.where(inside, 40 + own, -1000) + rng.normal(0, 5, SHAPE)
    return np.rint(voxels).astype(np.int16)


def _turned(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine = np.diag([-0.9, 1, 3.0, 1.0])
    affine[:3, :3] = [[0, -0.9, 0], [0.9, 0, 0], [0, 0, 3]]
    return np.ascontiguousarray(a[::-1].transpose(1, 0, 2)), affine


#: What was done to the copy → voxels and affine.
ALTERED: dict[str, Alter] = {
    "float": lambda a: (a.astype(np.float32) + np.float32(0.25), SPACING),
    "stored values": lambda a: ((a + 1024).astype(np.uint16), SPACING),
    "8 bits": lambda a: (np.rint(np.clip((a + 1000) / 8, 0, 255)).astype(np.uint8), SPACING),
    "turned": _turned,
    "window": lambda a: (np.clip(a, -175, 250), SPACING),
    "resampled": lambda a: (
        np.rint(grid.linear(a.astype(np.float32), (48, 53, 24))).astype(np.int16),
        np.diag([0.75, 0.9 * 44 / 53, 3.0, 1.0]),
    ),
    "cut": lambda a: (a[1:, 1:-1, 1:].copy(), SPACING),
}


def write_task(root: Path, task: str, images: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    folder = root / "msd" / task
    items = []
    for name, (array, affine) in images.items():
        classes = np.zeros(array.shape, np.uint8)
        classes[10:20, 10:20, 5:10] = 1
        trees.write_nifti(folder / "imagesTr" / f"{name}.nii.gz", array, affine)
        trees.write_nifti(folder / "labelsTr" / f"{name}.nii.gz", classes, affine)
        items.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    (folder / "dataset.json").write_text(json.dumps({"training": items}))


def parts(out: Path) -> dict[str, str]:
    with (out / "splits.csv").open(newline="") as file:
        return {row["subject"]: row["split"] for row in csv.DictReader(file)}


def warnings(root: Path, name: str, task: dict[str, object]) -> list[str]:
    usage = Usage.of([name], DataConfig(), {name: TaskNeeds.model_validate(task)})
    report = verify([name], root, usage)
    return [finding.reason for finding in report.findings if "same" in finding.reason]


@pytest.mark.kind("altered copy of an image within a task")
@pytest.mark.parametrize("task", TASKS)
def test_altered_copies_share_a_part_and_are_named(task: str, tmp_path: Path) -> None:
    root, images = tmp_path / "data", {}
    for number, alter in enumerate(ALTERED.values()):
        original = trunk(number)
        images[f"case_{number}"] = (original, SPACING)
        images[f"case_{number + 50}"] = alter(original)
    write_task(root, task, images)
    needs = trees.SEGMENTATION if task == "Task09_Spleen" else {**trees.SEGMENTATION, "labels": 2}
    found = parts(trees.run_download(root, tmp_path, TASKS[task], needs))
    pairs = [(found[f"case_{n}"], found[f"case_{n + 50}"]) for n in range(len(ALTERED))]
    assert all(one == other for one, other in pairs), dict(zip(ALTERED, pairs, strict=True))
    assert len(set(found.values())) == 3
    said = warnings(root, TASKS[task], needs)
    for number in range(len(ALTERED)):
        assert sum(f"same picture as {TASKS[task]}/case_{number}/" in text for text in said) == 1


def _write_atria(root: Path, train: list[np.ndarray], test: list[np.ndarray]) -> None:
    folder = root / "la"
    for part, arrays in (("train", train), ("test", test)):
        names = [f"{part}{number}" for number in range(len(arrays))]
        for name, array in zip(names, arrays, strict=True):
            path = folder / "2018LA_Seg_Training Set" / name / "mri_norm2.h5"
            path.parent.mkdir(parents=True)
            with h5py.File(path, "w") as file:
                file["image"] = (array - array.mean(dtype=np.float32)) / array.std()
                file["label"] = (array > 0).astype(np.uint8)
        (folder / f"{part}.list").write_text("".join(f"{name}\n" for name in names))


@pytest.mark.kind("altered copy of a test image in the published training list")
def test_a_training_copy_of_a_test_image_is_set_aside(tmp_path: Path) -> None:
    root = tmp_path / "data"
    secret = trunk(1).astype(np.float32)
    window = np.clip(secret, -300, 300)
    _write_atria(root, [trunk(2), window, trunk(3), trunk(4)], [trunk(5), secret])
    out = trees.run_download(root, tmp_path, "la", trees.SEGMENTATION)
    assert list(trees.set_aside(out)) == ["la/train1/lge"]
    assert "same picture as la/test1/lge in a later split" in trees.set_aside(out)["la/train1/lge"]
    index = read_index(out).set_index("subject")
    assert index.loc["test1", "split"] == "test", "published parts stay"


@pytest.mark.kind("different persons whose images look alike")
def test_different_persons_in_one_outline_are_not_joined(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_task(root, "Task09_Spleen", {f"case_{n}": (trunk(n), SPACING) for n in range(8)})
    out = trees.run_download(root, tmp_path, "task09_spleen", trees.SEGMENTATION)
    thumbnails = np.stack(read_index(out)["thumbnail"].to_list())
    assert np.median(np.corrcoef(thumbnails)) > 0.95, "else these would be told apart by that"
    assert not any("same image" in note for note in trees.summary(out)["notes"])
    assert warnings(root, "task09_spleen", trees.SEGMENTATION) == []
