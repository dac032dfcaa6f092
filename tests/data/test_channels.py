"""Images of several channels, from files of their own or along a fourth axis."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import trees
from voxseq import catalogue
from voxseq.base.errors import DataError
from voxseq.data import layouts
from voxseq.data.channels import read_channels, require_one_grid
from voxseq.data.store import VolumeStore
from voxseq.data.task_volumes import Volumes
from voxseq.data.volume import Array, Entry, Volume

NAMES = ("t1", "t2")
SPLEEN = "task09_spleen"
DATA = {"normalise": "zscore", "foreground_crop": False}


def _image(seed: int) -> Array:
    """Two channels (X, Y, Z, C)."""
    return np.stack([trees.image(seed=seed), 2 * trees.image(seed=seed + 50)], axis=-1)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task of the Decathlon whose images have a fourth axis, and are said to have it."""
    row = catalogue.get(SPLEEN)
    several = dataclasses.replace(row, role="both", options={"channels": list(NAMES)})
    monkeypatch.setitem(catalogue.CATALOGUE, SPLEEN, several)
    folder = trees.msd(tmp_path / "data", ["a", "b", "c"])
    for number, name in enumerate("abc"):
        trees.write_nifti(folder / f"imagesTr/{name}.nii.gz", _image(number))
    return tmp_path / "data"


def _prepared(root: Path, data: dict[str, Any] | None = None, **changes: Any) -> Path:
    out = root.parent / "out"
    trees.run_download(root, out, SPLEEN, trees.SEGMENTATION)
    return trees.run_preprocess(root, out, SPLEEN, data, **changes)


def test_files_of_their_own_are_read_as_those_of_a_fourth_axis(tmp_path: Path) -> None:
    image = _image(0)
    trees.write_nifti(tmp_path / "both.nii.gz", image)
    for number in range(2):
        trees.write_nifti(tmp_path / f"{number}.nii.gz", image[..., number])
    paths = ("0.nii.gz", "1.nii.gz")
    entries = Entry("a", "i", "both.nii.gz"), Entry("a", "i", paths[0], channels=paths)
    for entry in entries:
        for chosen in (None, (1,), (1, 0)):
            found = list(read_channels(layouts.get("msd"), tmp_path, entry, NAMES, chosen))
            assert len(found) == len(chosen or NAMES)
            for number, volume in zip(chosen or (0, 1), found, strict=True):
                np.testing.assert_array_equal(volume.array, image[..., number])


@pytest.mark.parametrize(
    ("channels", "names", "said"),
    [
        (("0.nii.gz", "1.nii.gz"), ("a", "b", "c"), "2 files, .*3 channels: a, b, c"),
        ((), ("a", "b", "c"), r"both.nii.gz: .*2 volumes.*, shape \(9, 8, 7, 2\), .*3 channels"),
        ((), ("",), r"2 volumes along .*names one channel\n  next: .*options.channels.*--channels"),
        (("0.nii.gz", "both.nii.gz"), NAMES, "both.nii.gz: .*2 volumes along .*one channel"),
    ],
)
def test_another_number_of_channels_is_refused(
    channels: tuple[str, ...], names: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    trees.write_nifti(tmp_path / "both.nii.gz", _image(0))
    trees.write_nifti(tmp_path / "0.nii.gz", trees.image())
    entry = Entry("a", "i", "both.nii.gz", channels=channels)
    with pytest.raises(DataError, match=said):
        list(read_channels(layouts.get("msd"), tmp_path, entry, names))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"array": trees.image((9, 8, 6))}, "x: its shape 9 x 8 x 6 .* first channel, 9 x 8 x 7"),
        ({"affine": np.diag([1.0, 1.0, 2.0, 1.0])}, "x: its grid .* up to 6 mm apart"),
        ({"oriented": False}, "x: .* as it states no orientation"),
    ],
)
def test_channels_of_different_grids_are_refused(changes: dict[str, Any], said: str) -> None:
    first = Volume(trees.image(), np.eye(4))
    require_one_grid(first, first, "x")
    with pytest.raises(DataError, match=said):
        require_one_grid(first, dataclasses.replace(first, **changes), "x")


def test_a_task_uses_all_channels_or_those_that_are_chosen(root: Path) -> None:
    volumes = Volumes(_prepared(root, DATA))
    assert volumes.image_channels == 2
    assert (volumes.image(0).shape, volumes.label(0).shape) == ((2, 9, 8, 7), (9, 8, 7))
    for number, values in enumerate(volumes.image(0)):
        stored = _image(0)[..., number]
        np.testing.assert_allclose(values, (stored - stored.mean()) / stored.std(), atol=1e-4)
    for chosen in (1, "t2"):
        out = root.parent / f"out{chosen}"
        trees.run_download(root, out, SPLEEN, trees.SEGMENTATION)
        one = Volumes(trees.run_preprocess(root, out, SPLEEN, {**DATA, "channels": [chosen]}))
        assert one.image_channels == 1
        np.testing.assert_array_equal(one.image(0)[0], volumes.image(0)[1])


def test_each_channel_has_its_window(root: Path) -> None:
    data = {"window": [[-900, 900], [0, 100]], "foreground_crop": False}
    image = Volumes(_prepared(root, data)).image(0)
    stored = _image(0).astype(np.float32)
    expected = [(stored[..., 0] + 900) / 1800, np.clip(stored[..., 1] / 100, 0, 1)]
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_a_source_has_a_volume_for_each_channel(root: Path) -> None:
    store = VolumeStore(_prepared(root))
    table = store.table.to_pandas()
    training = sorted(set(table["volume_id"]))
    assert table["channel"].tolist() == [*NAMES] * len(training)
    assert table["contrast"].tolist() == table["channel"].tolist()
    assert table["group"].tolist() == table["volume_id"].tolist()
    assert len(set(table["content_hash"])) == len(table) == 2 * len(training)
    number = "abc".index(table["subject"].iloc[0])
    for channel in range(2):
        np.testing.assert_array_equal(store.image(channel), _image(number)[..., channel])
    chosen = trees.run_preprocess(root, root.parent / "out", SPLEEN, channels=["t2"], role="one")
    assert VolumeStore(chosen).table.to_pandas()["channel"].tolist() == ["t2"] * len(training)


def test_a_channel_that_cannot_be_used_sets_the_image_aside(root: Path) -> None:
    blank = _image(9)
    blank[..., 1] = 7
    trees.write_nifti(root / "msd/Task09_Spleen/imagesTr/d.nii.gz", blank)
    trees.write_nifti(root / "msd/Task09_Spleen/labelsTr/d.nii.gz", trees.label())
    path = root / "msd/Task09_Spleen/dataset.json"
    more = '{"image": "./imagesTr/d.nii.gz", "label": "./labelsTr/d.nii.gz"}]}'
    path.write_text(path.read_text().removesuffix("]}") + f", {more}")
    found = trees.run_download(root, root.parent / "out", SPLEEN, trees.SEGMENTATION)
    ((name, reason),) = trees.set_aside(found).items()
    assert name == f"{SPLEEN}/d/image"
    assert reason == "imagesTr/d.nii.gz: channel t2: every voxel has the value 7"


def test_a_changed_channel_is_noticed(root: Path) -> None:
    trees.run_download(root, root.parent / "out", SPLEEN, trees.SEGMENTATION)
    for number, name in enumerate("abc"):
        image = _image(number)
        image[0, 0, 0, 1] += 1
        trees.write_nifti(root / f"msd/Task09_Spleen/imagesTr/{name}.nii.gz", image)
    with pytest.raises(DataError, match=r"changed since the download stage .* other voxels"):
        trees.run_preprocess(root, root.parent / "out", SPLEEN, DATA)
    trees.run_preprocess(root, root.parent / "out", SPLEEN, {**DATA, "channels": [0]}, role="one")
