"""A user's own data sets: tiny folders of each layout, and what is read from them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

from tests.helpers import trees
from voxseq.catalogue import DataSet
from voxseq.config.datasets import DataConfig
from voxseq.config.runs import SplitSettings, TaskNeeds
from voxseq.config.sets import own_for
from voxseq.data import layouts
from voxseq.data.examine import Examination, examine
from voxseq.data.volume import Scan

NAME = "mine"
LABELS = {"background": 0, "kidney": 1}


def own(
    folder: Path, layout: str, task: Any = None, labels: Sequence[str] = (), **facts: Any
) -> DataSet:
    """An own data set as a study takes it; ``facts`` beside folder and layout."""
    written = {"folder": str(folder), "layout": layout, "modality": "CT", **facts}
    config = DataConfig.model_validate({"sets": {NAME: written}})
    return own_for(config.dataset(NAME), task, tuple(labels))


def scanned(dataset: DataSet) -> Scan:
    """What its layout lists, divided by its list."""
    folder = Path(dataset.folder)
    return layouts.listed(dataset, folder)


def examined(dataset: DataSet, labels: int = 1) -> Examination:
    """The images after every check."""
    task = dataset.task and TaskNeeds.model_validate({"type": dataset.task, "labels": labels})
    split = SplitSettings.of(DataConfig())
    return examine(dataset, Path(dataset.folder), task or None, split)


def write_image(path: Path, array: np.ndarray) -> None:
    """Write voxels (X, Y, Z) in the format of the path's ending."""
    if path.name.endswith((".nii", ".nii.gz")):
        trees.write_nifti(path, array)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0))), path)


def nnunet(
    folder: Path,
    cases: Sequence[str] = ("a", "b", "c", "d"),
    channels: Sequence[str] = ("CT",),
    ending: str = ".nii.gz",
    **facts: Any,
) -> Path:
    """nnU-Net's raw layout, version 2; ``facts`` replace those of its dataset.json."""
    for number, case in enumerate(cases):
        for channel in range(len(channels)):
            voxels = trees.image(seed=10 * number + channel)
            write_image(folder / f"imagesTr/{case}_{channel:04d}{ending}", voxels)
        write_image(folder / f"labelsTr/{case}{ending}", trees.label())
    content = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": LABELS,
        "numTraining": len(cases),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(content | facts))
    return folder


def tree(folder: Path, paths: Sequence[str]) -> Path:
    """Files at the paths: segmentations where these say so, else images."""
    for number, path in enumerate(paths):
        is_label = "seg" in path or "label" in path
        write_image(folder / path, trees.label() if is_label else trees.image(seed=number))
    return folder


def table(folder: Path, header: Sequence[str], rows: Sequence[Sequence[str]], **how: Any) -> Path:
    """``cases.csv`` with the rows, and every image that its first column names."""
    for number, row in enumerate(rows):
        if row[0] and not (folder / row[0]).exists():
            write_image(folder / row[0], trees.image(seed=number))
    encoding = how.pop("encoding", "utf-8")
    with (folder / "cases.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file, **how).writerows([header, *rows])
    return folder


def medmnist(folder: Path, sizes: Mapping[str, int], classes: int = 4, side: int = 9) -> Path:
    """``own.npz`` with so many images of each part, of all classes in turn."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, size in sizes.items():
        arrays[f"{part}_images"] = rng.integers(0, 255, (size, side, side, side), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(size) % classes).astype(np.uint8)[:, None]
    np.savez(folder / "own.npz", **arrays)
    return folder
