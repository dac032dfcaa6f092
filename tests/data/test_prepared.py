"""An image prepared by itself, as prediction does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import trees
from voxseq.base.errors import DataError
from voxseq.config.data import TaskDataConfig
from voxseq.data import grid
from voxseq.data.prepared import NothingShownError, prepare_image
from voxseq.data.readers import nifti
from voxseq.data.store import VolumeStore
from voxseq.data.volume import Volume


def test_an_image_alone_is_prepared_as_in_the_store(tmp_path: Path) -> None:
    folder = trees.msd(tmp_path / "data", ["a", "b", "c"])
    flip = np.diag([-1.0, 1.0, 2.0, 1.0])
    for name in "abc":
        trees.write_nifti(folder / f"imagesTr/{name}.nii.gz", trees.image(seed=ord(name)), flip)
        trees.write_nifti(folder / f"labelsTr/{name}.nii.gz", trees.label(), flip)
    trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)
    data = {"window": [-900, 900], "foreground_crop": False, "spacing": [1.5, 1.5, 1.5]}
    store = VolumeStore(trees.run_preprocess(tmp_path / "data", tmp_path, "task09_spleen", data))
    for index, row in store.table.to_pandas().iterrows():
        volume = nifti.read(folder, row["path"])
        made = prepare_image([volume], TaskDataConfig.model_validate(data))
        np.testing.assert_array_equal(made.image[0], store.image(int(index)))
        for name, value in made.columns.items():
            np.testing.assert_array_equal(row[name], value)
        guess = store.label(int(index))
        classes, affine = grid.to_file_grid(guess, made.columns)
        np.testing.assert_array_equal(classes, grid.to_file_grid(guess, dict(row))[0])
        np.testing.assert_array_equal(affine, flip)


def _volume(values: np.ndarray, affine: np.ndarray | None = None) -> Volume:
    return Volume(values, np.eye(4) if affine is None else affine)


def test_channels_must_lie_on_one_grid() -> None:
    image = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    data = TaskDataConfig(normalise="zscore")
    with pytest.raises(
        DataError, match="channel 1: its shape 4 x 4 x 3 is not that of the first channel"
    ):
        prepare_image([_volume(image), _volume(image[..., :3])], data)
    moved = np.eye(4)
    moved[0, 3] = 3.0
    with pytest.raises(DataError, match="channel 1: its grid is not that of the first channel"):
        prepare_image([_volume(image), _volume(image, moved)], data)


def test_the_foreground_is_that_of_any_channel_and_each_is_normalised_by_itself() -> None:
    one, other = (np.zeros((8, 8, 8), np.int16) for _ in range(2))
    one[1:3, 4, 4], other[5:7, 2, 6] = (10, 30), (100, 500)
    zscore = prepare_image([_volume(one), _volume(other)], TaskDataConfig(normalise="zscore"))
    assert zscore.image.shape == (2, 6, 3, 3)
    np.testing.assert_allclose(zscore.image.mean(axis=(1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(zscore.image.std(axis=(1, 2, 3)), 1, atol=1e-5)


def test_an_image_none_of_whose_channels_shows_anything_is_refused() -> None:
    blank, image = np.zeros((4, 4, 4), np.int16), np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    data = TaskDataConfig(normalise="zscore")
    prepare_image([_volume(blank), _volume(image)], data)
    with pytest.raises(NothingShownError, match="every voxel has one value"):
        prepare_image([_volume(blank), _volume(blank)], data)
