"""Pipes, devices, folders and endless files in place of a file end in an error, not in a wait."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import trees
from voxseq.base.errors import ConfigError, DataError
from voxseq.base.files import read_text
from voxseq.base.paths import files
from voxseq.plan.data import read_subjects


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _endless(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


SPECIAL = {"pipe": _pipe, "device": _device, "folder": Path.mkdir, "1048576|MB": _endless}


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_list_of_subjects_is_a_file_of_bounded_size(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "subjects.txt"
    SPECIAL[kind](path)
    with pytest.raises(ConfigError, match=rf"sequences\.exclude\.la: .*subjects\.txt.*({kind})"):
        read_subjects("la", str(path))


def test_a_list_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes("\ufeffcase\n".encode())
    assert read_text(tmp_path / "list") == "case\n"


def _ricord(root: Path) -> None:
    (root / "ricord").mkdir(parents=True)
    for split in ("train", "val", "test"):
        (root / f"ricord/RICORD_{split}.txt").write_text("")


SPLEEN = "msd/Task09_Spleen"
CASE = "la/2018LA_Seg_Training Set/" + "A" * 20 + "/mri_norm2.h5"
#: How a data set is made, by its name.
MADE: dict[str, Callable[[Path], Any]] = {
    "task09_spleen": lambda root: trees.msd(root, list("abcd")),
    "la": lambda root: trees.la(root, ["A" * 20, "C" * 20], ["B" * 20]),
    "ricord": _ricord,
    "deeplesion": trees.lesions,
    "nodule": lambda root: trees.nodule(root, {"train": 2, "val": 2, "test": 2}),
}
LISTS = [
    ("task09_spleen", f"{SPLEEN}/dataset.json"),
    ("la", "la/train.list"),
    ("ricord", "ricord/RICORD_val.txt"),
    ("deeplesion", "deeplesion/DL_info.csv"),
    ("nodule", "nodule/nodulemnist3d.npz"),
]
IMAGES = [
    ("task09_spleen", f"{SPLEEN}/imagesTr/a.nii.gz"),
    ("task09_spleen", f"{SPLEEN}/labelsTr/a.nii.gz"),
    ("la", CASE),
    ("deeplesion", "deeplesion/Images_png/000001_01_01/004.png"),
]
KINDS = {"pipe": _pipe, "device": _device, "folder": Path.mkdir}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dataset", "name"), [*LISTS, *IMAGES], ids=str)
def test_what_is_no_file_is_not_opened(dataset: str, name: str, kind: str, tmp_path: Path) -> None:
    """A list of a data set is refused; an image is set aside."""
    MADE[dataset](tmp_path / "data")
    path = tmp_path / "data" / name
    path.unlink()
    KINDS[kind](path)
    task = trees.SEGMENTATION if "labelsTr" in name else None
    try:
        trees.run_download(tmp_path / "data", tmp_path, dataset, task)
    except DataError as error:
        assert (dataset, name) in LISTS or dataset == "deeplesion", error
        if (dataset, name) in LISTS:
            assert path.name in str(error)
            assert f"it is a {kind}" in str(error) or kind == "folder"
            return
    assert (dataset, name) in IMAGES
    aside = trees.set_aside(tmp_path / "download" / dataset)
    assert any("it is a " in reason and path.name in reason for reason in aside.values())


def test_pipes_are_not_listed(tmp_path: Path) -> None:
    _pipe(tmp_path / "image.nii.gz")
    _device(tmp_path / "slice.dcm")
    (tmp_path / "gone.nii.gz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "good.nii.gz").touch()
    assert list(files(tmp_path)) == ["gone.nii.gz", "good.nii.gz"]
