"""Preparation: geometry there and back, intensities, labels."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.helpers import trees
from voxseq.base.errors import ConfigError
from voxseq.config.data import TaskDataConfig
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.grid import foreground_box
from voxseq.data.prepare import merge_labels
from voxseq.data.prepared import normalise
from voxseq.data.store import VolumeStore
from voxseq.data.task_volumes import Volumes
from voxseq.finetune.batches import CropRows
from voxseq.transforms.augment import Augmentation

WINDOW = {"window": [-900, 900], "foreground_crop": False}


def test_validation_and_test_labels_are_kept_on_their_own_grid(tmp_path: Path) -> None:
    trees.msd(tmp_path / "data", ["a", "b", "c"])
    trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)
    data = {**WINDOW, "resize": [4, 4, 4]}
    store = VolumeStore(trees.run_preprocess(tmp_path / "data", tmp_path, "task09_spleen", data))
    for index, row in store.table.to_pandas().iterrows():
        assert row["has_native_label"] == (row["split"] != "train")
        assert store.label(index).shape == store.image(index).shape == (4, 4, 4)
        if row["has_native_label"]:
            np.testing.assert_array_equal(store.native_label(index), trees.label())


def test_a_label_without_orientation_follows_its_image(tmp_path: Path) -> None:
    folder = trees.msd(tmp_path / "data", ["a", "b", "c"])
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    for name in "abc":
        trees.write_nifti(folder / f"imagesTr/{name}.nii.gz", trees.image(seed=ord(name)), flip)
        bare = nibabel.Nifti1Image(trees.label(), None)
        bare.header.set_sform(None, code=0)
        bare.header.set_qform(None, code=0)
        nibabel.save(bare, folder / f"labelsTr/{name}.nii.gz")
    trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)
    out = trees.run_preprocess(tmp_path / "data", tmp_path, "task09_spleen", WINDOW)
    np.testing.assert_array_equal(VolumeStore(out).label(0)[...], trees.label()[::-1])


def test_sources_keep_values_and_grid(tmp_path: Path) -> None:
    trees.brats(tmp_path / "data", ["BraTS-GLI-00000-000"])
    trees.run_download(tmp_path / "data", tmp_path, "brats23")
    store = VolumeStore(trees.run_preprocess(tmp_path / "data", tmp_path, "brats23"))
    assert store.table.to_pandas()["contrast"].tolist() == ["t1c", "t1n", "t2f", "t2w"]
    np.testing.assert_array_equal(store.image(1)[...], trees.image(seed=0))
    assert store.table.to_pandas().loc[0, "p_spacing_x"] == 1.0


def test_the_foreground_is_what_the_window_shows() -> None:
    image = np.full((8, 8, 8), -1000, np.int16)
    image[2:5, 3:7, 1:8] = 50
    image[0, 0, 0] = -100
    data = TaskDataConfig(window=(-57, 175))
    assert foreground_box([image], data) == ((2, 3, 1), (3, 4, 7))
    margin = TaskDataConfig(window=(-57, 175), crop_margin=2)
    assert foreground_box([image], margin) == ((0, 1, 0), (7, 7, 8))
    other = TaskDataConfig(normalise="zscore")
    assert foreground_box([image], other) == ((0, 0, 0), (5, 7, 8))
    off = TaskDataConfig(window=(-57, 175), foreground_crop=False)
    assert foreground_box([image], off) == ((0, 0, 0), (8, 8, 8))
    nothing = TaskDataConfig(window=(500, 600))
    assert foreground_box([image], nothing) == ((0, 0, 0), (8, 8, 8))


def test_intensities() -> None:
    image = np.array([-100, 0, 100, 300], np.int16).reshape(1, 1, 2, 2)
    window = normalise(image, TaskDataConfig(window=(0, 200)))
    np.testing.assert_allclose(window.ravel(), [0, 0, 0.5, 1])
    scaled = normalise(image, TaskDataConfig(normalise="none", scale=100))
    np.testing.assert_allclose(scaled.ravel(), [-1, 0, 1, 3])
    zscore = normalise(image, TaskDataConfig(normalise="zscore"))
    assert zscore.mean() == pytest.approx(0, abs=1e-6)
    assert zscore.std() == pytest.approx(1, abs=1e-6)
    assert {a.dtype for a in (window, scaled, zscore)} == {np.dtype(np.float32)}


def test_labels_are_merged_and_must_fit_the_task() -> None:
    label = np.array([0, 1, 2], np.uint8)
    assert merge_labels(label, {2: 1}, 1, "x").tolist() == [0, 1, 1]
    assert merge_labels(label, {1: 2, 2: 1}, 2, "x").tolist() == [0, 2, 1]
    with pytest.raises(ConfigError, match="x: label value 2 is left after merge_labels"):
        merge_labels(label, {}, 1, "x")


def test_no_background_centre_lies_in_air(tmp_path: Path) -> None:
    """Published: the centre of a background crop is a voxel above the window's lower end."""
    folder = trees.msd(tmp_path / "data", ["a", "b", "c"])
    for number, name in enumerate("abc"):
        image = np.full((26, 22, 18), -1000, np.int16)
        image[8:18, 7:15, 5:13] = 50 + number
        label = np.zeros(image.shape, np.uint8)
        label[10:14, 9:12, 7:10] = 1
        trees.write_nifti(folder / f"imagesTr/{name}.nii.gz", image)
        trees.write_nifti(folder / f"labelsTr/{name}.nii.gz", label)
    trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)
    data = {"window": [-57, 175], "foreground_crop": False, "spacing": [1.5, 1.5, 1.5]}
    out = trees.run_preprocess(tmp_path / "data", tmp_path, "task09_spleen", data)
    volumes = Volumes(out)
    recipe = SegmentationRecipe(
        type="segmentation", labels=["organ"], roi=(4, 4, 4), steps=1, validate_every=1
    )
    make = CropRows(volumes, volumes.rows("train"), recipe, Augmentation(), seed=0)
    image, label = volumes.image(0)[0], volumes.label(0)
    assert (image == 0).mean() > 0.5
    centres = [tuple(make._centre(0, np.random.default_rng(i))) for i in range(300)]
    background = [centre for centre in centres if label[centre] == 0]
    assert 100 < len(background) < 200
    assert np.mean([image[centre] == 0 for centre in background]) == 0
