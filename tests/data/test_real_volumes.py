"""Both stages on real MRI and CT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import trees
from voxseq.data.grid import to_native
from voxseq.data.index import read_index
from voxseq.data.readers import dicom
from voxseq.data.store import VolumeStore

#: Data set → usable images, shape of the first, its orientation.
EXPECTED = {
    "task04_hippocampus": (40, (35, 51, 35), "RAS"),
    "task09_spleen": (2, (164, 166, 26), "RAS"),
    "totalsegmentator": (2, (122, 101, 112), "RAS"),
    "dicom_ct": (1, (512, 512, 20), "LPS"),
    "nodule": (400, (28, 28, 28), ""),
    "brats23": (8, (240, 240, 155), "LPS"),
}
TASKS = {
    "task04_hippocampus": {"type": "segmentation", "labels": 2},
    "task09_spleen": trees.SEGMENTATION,
    "nodule": trees.CLASSIFICATION,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_real_data_sets_are_usable_as_a_whole(name: str, realdata: Path, tmp_path: Path) -> None:
    out = trees.run_download(realdata, tmp_path, name, TASKS.get(name))
    count, shape, orientation = EXPECTED[name]
    index = read_index(out)
    assert trees.set_aside(out) == {}
    assert len(index) == count
    assert tuple(index.loc[0, ["shape_x", "shape_y", "shape_z"]]) == shape
    assert index.loc[0, "orientation"] == orientation


def test_the_second_brain_has_slightly_negative_background(realdata: Path, tmp_path: Path) -> None:
    index = read_index(trees.run_download(realdata, tmp_path, "brats23"))
    assert index.groupby("subject")["minimum"].min().to_numpy()[1] < 0


def test_a_compressed_series_without_uids_is_read_in_hounsfield_units(
    realdata: Path, tmp_path: Path
) -> None:
    trees.run_download(realdata, tmp_path, "dicom_ct")
    store = VolumeStore(trees.run_preprocess(realdata, tmp_path, "dicom_ct"))
    image = store.image(0)[...]
    assert image.dtype == np.int16
    assert image.min() == -1024
    # Most of the body is soft tissue between fat and muscle.
    body = image[150:350, 150:350]
    assert -120 < np.median(body) < 100
    # ITK, which steps in where pydicom has no decoder, finds the same pixels.
    path = min((realdata / "dicom" / "ct_series").iterdir())
    headers = dicom.read_headers(path.parent, path.name)
    ((header, pixels),) = dicom.read_slices(path.parent, headers)
    np.testing.assert_array_equal(dicom.decoded_by_itk(path, header), pixels)


def test_a_spleen_survives_the_way_to_the_prepared_grid_and_back(
    realdata: Path, tmp_path: Path
) -> None:
    trees.run_download(realdata, tmp_path, "task09_spleen", trees.SEGMENTATION)
    data = {"spacing": [2, 2, 6], "window": [-57, 175]}
    store = VolumeStore(trees.run_preprocess(realdata, tmp_path, "task09_spleen", data))
    table = store.table.to_pandas()
    row = table.loc[table["split"] == "test"].iloc[0]
    index = int(row.name)
    truth, back = store.native_label(index) > 0, to_native(store.label(index)[...], row) > 0
    assert truth.shape == tuple(row[f"native_{a}"] for a in "xyz")
    assert 2 * (truth & back).sum() / (truth.sum() + back.sum()) > 0.95


@pytest.mark.slow
def test_the_atria_keep_their_published_split(realdata: Path, tmp_path: Path) -> None:
    out = trees.run_download(realdata, tmp_path, "la", trees.SEGMENTATION)
    index = read_index(out)
    listed = {
        split: set((realdata / "la" / f"{split}.list").read_text().split())
        for split in ("train", "test")
    }
    parts = {split: set(rows["subject"]) for split, rows in index.groupby("split")}
    assert parts["test"] == listed["test"]
    assert parts["train"] | parts["val"] == listed["train"]
    assert {name: len(part) for name, part in parts.items()} == {"train": 31, "val": 3, "test": 10}
    assert trees.set_aside(out) == {}
    assert index["content_hash"].is_unique
