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


SPLEEN, NODULE = "msd/Task09_Spleen", "nodule/nodulemnist3d.npz"
CASE = "la/2018LA_Seg_Training Set/" + "A" * 20 + "/mri_norm2.h5"
#: Data set, how it is made, its task, and the file that is replaced.
FILES: list[tuple[str, Callable[[Path], Any], Any, str]] = [
    ("task09_spleen", lambda r: trees.msd(r, list("abcd")), None, f"{SPLEEN}/dataset.json"),
    ("la", lambda r: trees.la(r, ["A" * 20], ["B" * 20]), None, "la/train.list"),
    ("ricord", _ricord, None, "ricord/RICORD_val.txt"),
    ("deeplesion", trees.lesions, None, "deeplesion/DL_info.csv"),
    ("nodule", lambda r: trees.nodule(r, {"train": 2, "val": 2, "test": 2}), None, NODULE),
]
IMAGES: list[tuple[str, Callable[[Path], Any], Any, str]] = [
    ("task09_spleen", FILES[0][1], None, f"{SPLEEN}/imagesTr/a.nii.gz"),
    ("task09_spleen", FILES[0][1], trees.SEGMENTATION, f"{SPLEEN}/labelsTr/a.nii.gz"),
    ("la", lambda r: trees.la(r, ["A" * 20, "C" * 20], ["B" * 20]), None, CASE),
    ("deeplesion", trees.lesions, None, "deeplesion/Images_png/000001_01_01/004.png"),
]


@pytest.mark.parametrize("put", [_pipe, _device], ids=["pipe", "device"])
@pytest.mark.parametrize("case", FILES, ids=lambda c: Path(c[3]).name)
def test_a_list_of_a_data_set_is_a_file(
    case: tuple[str, Callable[[Path], Any], Any, str], put: Any, tmp_path: Path
) -> None:
    dataset, make, task, name = case
    make(tmp_path / "data")
    path = tmp_path / "data" / name
    path.unlink()
    put(path)
    with pytest.raises(DataError, match=rf"{path.name}.*it is a (pipe|device)"):
        trees.run_download(tmp_path / "data", tmp_path, dataset, task)


@pytest.mark.parametrize("put", [_pipe, _device, Path.mkdir], ids=["pipe", "device", "folder"])
@pytest.mark.parametrize("case", IMAGES, ids=lambda c: Path(c[3]).parent.name)
def test_an_image_that_is_no_file_is_set_aside(
    case: tuple[str, Callable[[Path], Any], Any, str], put: Any, tmp_path: Path
) -> None:
    dataset, make, task, name = case
    make(tmp_path / "data")
    path = tmp_path / "data" / name
    path.unlink()
    put(path)
    try:
        trees.run_download(tmp_path / "data", tmp_path, dataset, task)
    except DataError as error:
        assert dataset == "deeplesion", error
    aside = trees.set_aside(tmp_path / "download" / dataset)
    assert any("it is a " in reason and path.name in reason for reason in aside.values())


def test_pipes_are_not_listed(tmp_path: Path) -> None:
    _pipe(tmp_path / "image.nii.gz")
    _device(tmp_path / "slice.dcm")
    (tmp_path / "gone.nii.gz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "good.nii.gz").touch()
    assert list(files(tmp_path)) == ["gone.nii.gz", "good.nii.gz"]
