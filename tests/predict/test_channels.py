"""Images of several channels: one file each, or along a fourth axis; and chosen ones of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.helpers.calling import Call
from tests.helpers.trained import AFFINE, SHAPE, write
from tests.models.test_bundle import card
from voxseq.base.errors import DataError
from voxseq.models.bundle import network_of, save_model
from voxseq.predict.inputs import find_cases
from voxseq.predict.model import TrainedModel
from voxseq.predict.results import Segmentation

NAMES = ("t1", "t2", "flair")


def model(folder: Path, *channels: str) -> Path:
    given = card("unetr").model_copy(update={"inputs": NAMES, "channels": channels})
    save_model(folder, network_of(given), given)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Channels of one image, in files of their own."""
    rng = np.random.default_rng(0)
    for number in range(3):
        array = rng.normal(size=SHAPE).astype(np.float32)
        write(tmp_path / f"images/a_{number:04}.nii.gz", array)
    return tmp_path / "images"


def labels(model: TrainedModel, image: Any) -> np.ndarray:
    found = model.predict(image)
    assert isinstance(found, Segmentation)
    return found.labels


def test_files_and_a_fourth_axis_are_the_same(images: Path, tmp_path: Path, call: Call) -> None:
    place = model(tmp_path / "model", *NAMES)
    files = sorted(images.iterdir())
    loaded = TrainedModel.load(place)
    expected = labels(loaded, files)
    together = np.stack([np.asarray(nibabel.load(path).dataobj) for path in files], axis=3)
    nibabel.save(nibabel.Nifti1Image(together, AFFINE), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(labels(loaded, tmp_path / "a.nii.gz"), expected)
    np.testing.assert_array_equal(labels(loaded, nibabel.load(tmp_path / "a.nii.gz")), expected)
    call("predict", place, images, "-o", tmp_path / "out")
    np.testing.assert_array_equal(nibabel.load(tmp_path / "out/a.nii.gz").dataobj, expected)
    assert not np.array_equal(labels(loaded, files[::-1]), expected)


def test_chosen_channels_are_taken_from_all(images: Path, tmp_path: Path) -> None:
    loaded = TrainedModel.load(model(tmp_path / "model", "flair", "t1"))
    first, second, third = sorted(images.iterdir())
    expected = labels(loaded, [third, first])
    np.testing.assert_array_equal(labels(loaded, [first, second, third]), expected)
    with pytest.raises(DataError, match=r"takes 2 channels \(flair, t1\), .*has 1 channel"):
        loaded.predict(first)
    single = TrainedModel.load(model(tmp_path / "single", "t2"))
    assert labels(single, second).shape == SHAPE


def test_a_model_of_one_channel_says_how_to_choose_one(images: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "model", network_of(card("unetr")), card("unetr"))
    loaded = TrainedModel.load(tmp_path / "model")
    parts = [np.asarray(nibabel.load(path).dataobj) for path in sorted(images.iterdir())]
    several = tmp_path / "several.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.stack(parts, axis=3), AFFINE), several)
    with pytest.raises(DataError, match=r"one channel, but the image has 3 channels") as raised:
        loaded.predict(several)
    # What it advises works.
    assert ".slicer[..., 0].to_filename(" in raised.value.hint
    nibabel.load(several).slicer[..., 0].to_filename(tmp_path / "channel.nii.gz")
    expected = labels(loaded, images / "a_0000.nii.gz")
    np.testing.assert_array_equal(labels(loaded, tmp_path / "channel.nii.gz"), expected)


def test_channels_of_other_grids_are_named(images: Path, tmp_path: Path, call: Call) -> None:
    shutil.copytree(images, tmp_path / "bad")
    nibabel.save(
        nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(5, 5, 5)), AFFINE),
        tmp_path / "bad/a_0001.nii.gz",
    )
    place = model(tmp_path / "model", *NAMES)
    said = call("predict", place, tmp_path / "bad", "-o", tmp_path / "out", status=1)
    assert "not predicted: a: channel 1: its shape 5 x 5 x 5" in said.err
    (images / "a_0001.nii.gz").unlink()
    (case,) = find_cases([images], (3,))
    assert case.problem == "a: channels 0000, 0002 are there, expected 0000 to 0002"
