"""Preparation: geometry there and back, intensities, labels."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.helpers import trees
from voxseq.base.errors import ConfigError
from voxseq.config.data import TaskDataConfig
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data import grid as resample
from voxseq.data.native import to_native
from voxseq.data.prepare import merge_labels, normalise
from voxseq.data.regrid import foreground_box
from voxseq.data.store import VolumeStore
from voxseq.data.task_volumes import Volumes
from voxseq.data.volume import Volume
from voxseq.finetune.batches import CropBatches
from voxseq.transforms.augment import Augmentation

shapes = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=60, deadline=None)
@given(shapes, shapes)
def test_interpolation_agrees_with_torch(
    old: tuple[int, int, int], new: tuple[int, int, int]
) -> None:
    array = np.random.default_rng(0).normal(size=old).astype(np.float32)
    given_array = torch.from_numpy(array)[None, None]
    expected = functional.interpolate(given_array, new, mode="trilinear", align_corners=False)
    np.testing.assert_allclose(resample.linear(array, new), expected[0, 0].numpy(), atol=1e-5)
    expected = functional.interpolate(given_array, new, mode="nearest-exact")
    np.testing.assert_array_equal(resample.nearest(array, new), expected[0, 0].numpy())


def test_a_constant_image_stays_constant_and_half_the_voxels_are_means() -> None:
    np.testing.assert_array_equal(
        resample.linear(np.full((5, 6, 7), 0.1, np.float32), (9, 4, 11)), np.float32(0.1)
    )
    array = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    means = array.reshape(2, 2, 2, 2, 2, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(resample.linear(array, (2, 2, 2)), means)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL", "ARI", "LSA"])
def test_any_orientation_becomes_ras(codes: str) -> None:
    ras = trees.image((4, 5, 6))
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    change = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
    )
    stored = nibabel.orientations.apply_orientation(ras, change)
    volume = Volume(stored, affine @ nibabel.orientations.inv_ornt_aff(change, ras.shape))
    array, spacing = resample.to_ras(volume)
    np.testing.assert_array_equal(array, ras)
    assert spacing == pytest.approx((1, 2, 3))
    unoriented = Volume(stored, volume.affine, oriented=False)
    np.testing.assert_array_equal(resample.to_ras(unoriented)[0], stored)


def _box_label(shape: tuple[int, int, int]) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[6:20, 5:17, 4:12] = 1
    label[10:16, 8:14, 6:10] = 2
    return label


_SIGNED_PERMUTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in ((1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1))
]


@pytest.mark.parametrize(("order", "signs"), _SIGNED_PERMUTATIONS[::3])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.9, 3.0)])
@pytest.mark.parametrize("data", [{"spacing": [1.4, 1.2, 2.0]}, {"resize": [16, 16, 16]}, {}])
def test_a_label_comes_back_within_a_voxel(
    order: tuple[int, ...],
    signs: tuple[int, ...],
    spacing: tuple[float, ...],
    data: dict[str, Any],
    tmp_path: Path,
) -> None:
    label = _box_label((26, 22, 18))
    image = np.where(label > 0, 100, -500).astype(np.int16)
    image[3:22, 3:19, 2:15] = np.maximum(image[3:22, 3:19, 2:15], 0)
    affine = np.zeros((4, 4))
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * spacing[axis]
    affine[:, 3] = [5, -3, 8, 1]
    folder = trees.msd(tmp_path / "data", ["a", "b", "c"], "Task07_Pancreas")
    for name in "abc":
        image[0, 0, 0] = -600 - ord(name)
        trees.write_nifti(folder / f"imagesTr/{name}.nii.gz", image, affine)
        trees.write_nifti(folder / f"labelsTr/{name}.nii.gz", label, affine)
    task = {"type": "segmentation", "labels": 2}
    trees.run_download(tmp_path / "data", tmp_path, "task07_pancreas", task)
    data = {"window": [-100, 200], "crop_margin": 1, **data}
    out = trees.run_preprocess(tmp_path / "data", tmp_path, "task07_pancreas", data, task)
    store = VolumeStore(out)
    for index in range(3):
        row = store.table.loc[index]
        assert row["has_native_label"] == (row["split"] != "train")
        prepared = store.label(index)[...]
        assert prepared.shape == tuple(row[f"p_{a}"] for a in "xyz") == store.image(index).shape
        back = to_native(prepared, row)
        expected, _ = resample.to_ras(Volume(label, affine))
        if row["has_native_label"]:
            np.testing.assert_array_equal(store.native_label(index), expected)
        for number in (1, 2):
            _assert_within_a_voxel(back == number, expected == number, row)
        onehot = np.stack([prepared == n for n in range(3)]).astype(np.float32)
        probabilities = to_native(onehot, row)
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
        _assert_within_a_voxel(probabilities.argmax(axis=0) == 1, expected == 1, row)


def _assert_within_a_voxel(found: np.ndarray, expected: np.ndarray, row: Any) -> None:
    """Both boxes end at the same places, up to one voxel of the coarser grid."""
    for axis, name in enumerate("xyz"):
        others = tuple(a for a in range(3) if a != axis)
        step = row[f"crop_shape_{name}"] / row[f"p_{name}"]
        one, two = (np.flatnonzero(m.any(axis=others)) for m in (found, expected))
        assert abs(one[0] - two[0]) <= max(step, 1)
        assert abs(one[-1] - two[-1]) <= max(step, 1)


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
    data = {"window": [-900, 900], "foreground_crop": False}
    out = trees.run_preprocess(tmp_path / "data", tmp_path, "task09_spleen", data)
    np.testing.assert_array_equal(VolumeStore(out).label(0)[...], trees.label()[::-1])


def test_sources_keep_values_and_grid(tmp_path: Path) -> None:
    trees.brats(tmp_path / "data", ["BraTS-GLI-00000-000"])
    trees.run_download(tmp_path / "data", tmp_path, "brats23")
    store = VolumeStore(trees.run_preprocess(tmp_path / "data", tmp_path, "brats23"))
    assert store.table["contrast"].tolist() == ["t1c", "t1n", "t2f", "t2w"]
    np.testing.assert_array_equal(store.image(1)[...], trees.image(seed=0))
    assert store.table.loc[0, "p_spacing_x"] == 1.0


def test_the_foreground_is_what_the_window_shows() -> None:
    image = np.full((8, 8, 8), -1000, np.int16)
    image[2:5, 3:7, 1:8] = 50
    image[0, 0, 0] = -100
    data = TaskDataConfig(window=(-57, 175))
    assert foreground_box(image, data) == ((2, 3, 1), (3, 4, 7))
    margin = TaskDataConfig(window=(-57, 175), crop_margin=2)
    assert foreground_box(image, margin) == ((0, 1, 0), (7, 7, 8))
    other = TaskDataConfig(normalise="zscore")
    assert foreground_box(image, other) == ((0, 0, 0), (5, 7, 8))
    off = TaskDataConfig(window=(-57, 175), foreground_crop=False)
    assert foreground_box(image, off) == ((0, 0, 0), (8, 8, 8))
    nothing = TaskDataConfig(window=(500, 600))
    assert foreground_box(image, nothing) == ((0, 0, 0), (8, 8, 8))


def test_intensities() -> None:
    image = np.array([-100, 0, 100, 300], np.int16).reshape(1, 2, 2)
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
    make = CropBatches(volumes, volumes.rows("train"), recipe, Augmentation(), seed=0)
    image, label = volumes.image(0), volumes.label(0)
    assert (image == 0).mean() > 0.5
    centres = [tuple(make._centre(0, np.random.default_rng(i))) for i in range(300)]
    background = [centre for centre in centres if label[centre] == 0]
    assert 100 < len(background) < 200
    assert np.mean([image[centre] == 0 for centre in background]) == 0
