"""Training crops for segmentation, against MONAI's."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import CacheDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    RandCropByLabelClassesd,
    RandCropByPosNegLabeld,
    ScaleIntensityRanged,
)
from numpy.typing import NDArray

from benchmarks.flops import prepare
from benchmarks.harness import ROUNDS, Row, alternate, faster, peaks, smaller
from benchmarks.material import ct_like, in_ras, table_row
from voxseq.config.data import StoreConfig, TaskDataConfig
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.prepared import normalise
from voxseq.data.store import StoreWriter
from voxseq.data.task_volumes import Volumes
from voxseq.data.volume import Entry
from voxseq.finetune.batches import CropRows
from voxseq.training.batches import stepwise
from voxseq.transforms.augment import build_augmentation

VOLUMES = 40
SHAPE = (256, 256, 128)
ROI = (96, 96, 96)
#: Crops of a volume, and volumes of a batch.
CROPS, BATCH = 4, 4
WINDOW = (-57.0, 175.0)
#: Volumes that differ; the others are these, shifted.
_DIFFERENT = 4


def run() -> Iterator[Row]:
    """All rows of this module."""
    prepare()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cases(folder)
        samplings = ("RandCropByPosNegLabeld", "RandCropByLabelClassesd")
        yield _memory(folder, samplings[0])
        for sampling in samplings:
            yield _samples(folder, sampling)


def write_cases(folder: Path) -> None:
    """The cases as NIfTI files for MONAI, and as a store for us."""
    writer = StoreWriter(folder / "store", StoreConfig(chunk_shape=(64, 64, 64)))
    writer.folder.mkdir()
    data = TaskDataConfig(window=WINDOW, foreground_crop=False)
    images = [ct_like(SHAPE, number) for number in range(_DIFFERENT)]
    for number in range(VOLUMES):
        image = np.roll(images[number % _DIFFERENT], 3 * number, axis=0)
        label = _label(number)
        for kind, array in (("image", image), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"{kind}{number}.nii")
        row = table_row(in_ras(image), Entry(f"case{number:02}", "0", "", modality="CT"))
        writer.add(number, normalise(image[None], data)[0], label, row)
    writer.close()


def _label(number: int) -> NDArray[np.uint8]:
    label = np.zeros(SHAPE, np.uint8)
    label[90:150, 60 + number : 120 + number, 40:90] = 1
    return label


def _memory(folder: Path, sampling: str) -> Row:
    def ours() -> None:
        batches = Batches(folder / "store")
        for _ in range(VOLUMES // BATCH):
            batches()

    def other() -> None:
        cached = Cached(folder, sampling)
        for number in range(VOLUMES):
            cached(number)

    sizes = peaks({"ours": ours, "other": other})
    note = f"{VOLUMES} volumes of 256×256×128, one epoch of {CROPS} crops of 96³ a volume"
    return smaller("memory of segmentation crops", "CacheDataset", sizes, 1 / 5, "MiB", note)


def _samples(folder: Path, sampling: str) -> Row:
    batches, cached = Batches(folder / "store"), Cached(folder, sampling)
    for _ in range(VOLUMES // BATCH):
        batches()
    numbers = itertools.cycle(range(VOLUMES))

    def other() -> None:
        for _ in range(BATCH):
            cached(next(numbers))

    seconds = alternate({"ours": batches, "other": other}, 2 * ROUNDS)
    note = "the same volumes, page cache warm, no augmentation"
    against = f"CacheDataset, {sampling}"
    return faster("segmentation crops", against, seconds, 5.0, note, BATCH * CROPS)


class Batches:
    """Our batches from a store: four volumes, four crops of each."""

    def __init__(self, folder: Path) -> None:
        recipe = SegmentationRecipe(
            labels=("organ",),
            roi=ROI,
            crops_per_volume=CROPS,
            volumes_per_batch=BATCH,
            augmentation="none",
            steps=1,
            validate_every=1,
        )
        volumes = Volumes(folder)
        augmentation = build_augmentation("none", ROI)
        rows = CropRows(volumes, volumes.rows("train"), recipe, augmentation, 0)
        self._batches = stepwise(rows, 0, sys.maxsize)

    def __call__(self) -> None:
        """Make the batch of the next step."""
        next(self._batches)


class Cached:
    """MONAI's way: everything decoded in memory, crops by a random transform."""

    def __init__(self, folder: Path, sampling: str) -> None:
        keys = ["image", "label"]
        crops: dict[str, Any] = {
            "RandCropByPosNegLabeld": lambda: RandCropByPosNegLabeld(
                keys, "label", ROI, pos=1, neg=1, num_samples=CROPS
            ),
            "RandCropByLabelClassesd": lambda: RandCropByLabelClassesd(
                keys, "label", ROI, ratios=[1, 1], num_classes=2, num_samples=CROPS
            ),
        }
        scale = ScaleIntensityRanged("image", *WINDOW, 0.0, 1.0, clip=True)
        chain = Compose([LoadImaged(keys), EnsureChannelFirstd(keys), scale, crops[sampling]()])
        chain.set_random_state(0)
        files = [
            {key: str(folder / f"{key}{number}.nii") for key in keys} for number in range(VOLUMES)
        ]
        self._data = CacheDataset(files, chain, num_workers=1, progress=False)

    def __call__(self, number: int) -> None:
        """Make the crops of a volume."""
        self._data[number]
