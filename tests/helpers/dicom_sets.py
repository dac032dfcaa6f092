"""Small DICOM data sets whose right volumes are known, and what the layouts make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from tests.helpers import trees
from voxseq import catalogue
from voxseq.base.errors import DataError
from voxseq.data import layouts
from voxseq.data.readers.dicom_volume import read_volume
from voxseq.data.volume import Entry, Volume

#: HU (columns, rows, slices); written from the top down, so that the last slice lies lowest.
HU = trees.image((8, 7, 12), seed=5).astype(np.int32)
STORED = HU + 1024
READ = HU[:, :, ::-1]
#: Folder of one series in each layout with one folder for each image.
FOLDERS = {"dicom_ct": "dicom/s", "rsna2022_csfd": "rsna2022_csfd/train_images/s",
           "rsna2020_ped": "rsna2020_ped/train/p/s"}  # fmt: skip
Change = Callable[[Dataset, int], object]


class Seen(NamedTuple):
    """Volumes, and what is said of the set: reasons of what is set aside, remarks."""

    volumes: list[Volume]
    aside: str
    said: str


def seen(root: Path, name: str = "dicom_ct") -> Seen:
    """What a scan and a reading of every image make of a data set."""
    dataset = catalogue.get(name)
    layout, folder = layouts.get(dataset.layout), root / dataset.folder
    found = layout.scan(folder, dataset)
    aside, volumes = [reason for _, reason in found.rejected], []
    remarks = [*found.remarks]
    for entry in found.entries:
        try:
            volumes.append(layout.read_image(folder, entry))
        except DataError as error:
            aside.append(error.what)
        else:
            remarks += volumes[-1].remarks
    said = "\n".join(f"{remark.path}: {remark.reason}" for remark in remarks)
    return Seen(volumes, "\n".join(aside), said)


def arrays(found: Seen, *expected: np.ndarray) -> None:
    """The volumes are exactly these."""
    assert not found.aside
    assert len(found.volumes) == len(expected)
    for volume, array in zip(found.volumes, expected, strict=True):
        np.testing.assert_array_equal(volume.array, array)


def write(folder: Path, array: np.ndarray = STORED, prefix: str = "", **tags: Any) -> Path:
    """Write a series into a folder that may hold others."""
    place = folder.with_name(folder.name + "-new")
    trees.dicom_series(place, array, **tags)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(place.iterdir()):
        path.rename(folder / f"{prefix}{path.name}")
    place.rmdir()
    return folder


def in_layout(root: Path, name: str, array: np.ndarray = STORED, **tags: Any) -> Path:
    """The folder of one series in the layout ``name``."""
    if name != "ricord":
        return write(root / FOLDERS[name], array, **tags)
    trees.ricord(root, [("train", 1, array, "1A-1-2", tags)])
    return root / "ricord/any/place0"


def read_series(folder: Path, place: str, **how: Any) -> Volume:
    """Read all files of a folder as one series."""
    names = tuple(sorted(path.name for path in (folder / place).iterdir()))
    return read_volume(folder, Entry("patient", "series", place, files=names), **how)
