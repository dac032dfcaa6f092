"""Finding, checking, setting aside and splitting."""

from __future__ import annotations

import errno
import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import trees
from voxseq.base.errors import DataError, ResourceError
from voxseq.base.paths import walk
from voxseq.data import layouts as adapters
from voxseq.data.index import entry_of, read_index
from voxseq.data.readers import nifti
from voxseq.data.store import VolumeStore
from voxseq.data.volume import Volume

NAMES = [f"spleen_{n}" for n in range(10)]
BAD = "spleen_3"


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("which", ["image", "label"])
def test_a_faulty_image_or_label_is_set_aside_with_file_and_reason(
    which: str, tmp_path: Path
) -> None:
    folder = trees.msd(tmp_path / "data", NAMES)
    _truncate(folder / f"{which}sTr" / f"{BAD}.nii.gz")
    out = trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)
    (name, reason), *others = trees.set_aside(out).items()
    assert (name, others) == (f"task09_spleen/{BAD}/image", [])
    assert reason.startswith(f"{which}sTr/{BAD}.nii.gz: damaged, truncated")
    assert str(tmp_path) not in (out / "set_aside.csv").read_text()
    assert sorted(read_index(out)["subject"]) == sorted(set(NAMES) - {BAD})
    assert trees.summary(out)["usable"] == 9


def test_the_run_stops_when_too_few_images_are_left(tmp_path: Path) -> None:
    folder = trees.msd(tmp_path / "data", NAMES)
    for name in NAMES[:3]:
        _truncate(folder / "imagesTr" / f"{name}.nii.gz")
    with pytest.raises(DataError) as caught:
        trees.run_download(
            tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION, min_valid_fraction=0.8
        )
    assert "7 of 10 images" in caught.value.what
    assert "imagesTr/spleen_0.nii.gz" in caught.value.what
    assert "min_valid_fraction" in caught.value.hint
    assert "`voxseq data verify task09_spleen` tells" in caught.value.hint


def test_listed_but_absent_images_are_noted_and_no_fault(tmp_path: Path) -> None:
    folder = trees.msd(tmp_path / "data", NAMES)
    (folder / "imagesTr" / f"{BAD}.nii.gz").unlink()
    trees.write_nifti(folder / "imagesTr" / "extra.nii.gz", trees.image())
    (folder / "imagesTr" / "._spleen_1.nii.gz").write_bytes(b"Mac")
    out = trees.run_download(
        tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION, min_valid_fraction=1.0
    )
    facts = trees.summary(out)
    assert facts["listed_but_absent"] == 1
    assert facts["absent"] == [f"imagesTr/{BAD}.nii.gz"]
    assert facts["set_aside"] == 0
    assert facts["notes"] == [
        "1 files in imagesTr that dataset.json does not list: ['extra.nii.gz']",
        "9 of 41 published images are there",
    ]


def test_a_missing_folder_says_how_to_get_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        trees.run_download(tmp_path, tmp_path, "la", trees.SEGMENTATION)
    assert str(tmp_path / "la") in caught.value.what
    assert "voxseq data show la" in caught.value.hint


def test_la_keeps_the_published_test_list_and_validates_on_training_cases(tmp_path: Path) -> None:
    train, test = [f"TRAIN{n:02d}" for n in range(20)], [f"TEST{n}" for n in range(4)]
    folder = trees.la(tmp_path / "data", train, test)
    shutil.rmtree(folder / "2018LA_Seg_Training Set" / "TRAIN07")
    (folder / "2018LA_Seg_Training Set" / "TRAIN08" / "mri_norm2.h5").unlink()
    out = trees.run_download(tmp_path / "data", tmp_path, "la", trees.SEGMENTATION)
    index = read_index(out)
    parts = {split: set(rows["subject"]) for split, rows in index.groupby("split")}
    assert parts["test"] == set(test)
    assert parts["train"] | parts["val"] == set(train) - {"TRAIN07", "TRAIN08"}
    assert len(parts["val"]) == 2
    facts = trees.summary(out)
    assert facts["absent"] == ["TRAIN07"]
    assert "does not exist" in trees.set_aside(out)["la/TRAIN08/lge"]
    store = trees.run_preprocess(tmp_path / "data", tmp_path, "la")
    # As a pre-training source a task's validation and test images are left out.
    assert set(VolumeStore(store).table.to_pandas()["subject"]) == parts["train"]


def test_medmnist_reverses_the_axes_and_keeps_the_split(tmp_path: Path) -> None:
    folder = trees.nodule(tmp_path / "data", {"train": 6, "val": 3, "test": 4})
    out = trees.run_download(tmp_path / "data", tmp_path, "nodule", trees.CLASSIFICATION)
    index = read_index(out)
    assert index["split"].value_counts().to_dict() == {"train": 6, "test": 4, "val": 3}
    assert tuple(index.loc[0, ["shape_x", "shape_y", "shape_z"]]) == (7, 6, 5)
    volume = adapters.get("medmnist").read_image(folder, entry_of(index.loc[7]))
    with np.load(folder / "nodulemnist3d.npz") as file:
        np.testing.assert_array_equal(volume.array, file["val_images"][1].transpose(2, 1, 0))


def test_the_same_image_never_lies_in_two_parts(tmp_path: Path) -> None:
    folder = trees.nodule(tmp_path / "data", {"train": 6, "val": 3, "test": 4})
    path = folder / "nodulemnist3d.npz"
    arrays = dict(np.load(path))
    arrays["train_images"][2] = arrays["test_images"][1]
    np.savez(path, **arrays)
    out = trees.run_download(tmp_path / "data", tmp_path, "nodule", trees.CLASSIFICATION)
    aside = trees.set_aside(out)
    assert aside == {
        "nodule/train0002/nodule": "same voxels as nodule/test0001/nodule in a later split"
    }
    copies = tmp_path / "data"
    task = trees.msd(copies, NAMES)
    for name in NAMES[1:5]:
        shutil.copy(task / "imagesTr/spleen_0.nii.gz", task / f"imagesTr/{name}.nii.gz")
    out = trees.run_download(copies, tmp_path, "task09_spleen", trees.SEGMENTATION)
    index = read_index(out)
    assert index.groupby("content_hash")["split"].nunique().max() == 1
    assert len(index) == 10


def test_brats_groups_need_all_contrasts(tmp_path: Path) -> None:
    subjects = [f"BraTS-GLI-0000{n}-000" for n in range(4)]
    folder = trees.brats(tmp_path / "data", [*subjects, "BraTS-GLI-00000-001"])
    part = next(folder.iterdir())
    (part / subjects[1] / f"{subjects[1]}-t1c.nii.gz").unlink()
    _truncate(part / subjects[2] / f"{subjects[2]}-t2w.nii.gz")
    trees.write_nifti(part / subjects[3] / f"{subjects[3]}-t2f.nii.gz", trees.image((9, 8, 6)))
    out = trees.run_download(tmp_path / "data", tmp_path, "brats23")
    index = read_index(out)
    # Two time points of one person are two groups of one subject.
    assert index["group"].nunique() == 2
    assert set(index["subject"]) == {"BraTS-GLI-00000"}
    assert index["contrast"].value_counts().to_dict() == dict.fromkeys(
        ("t1n", "t1c", "t2w", "t2f"), 2
    )
    aside = trees.set_aside(out)
    assert len(aside) == 3 + 4 + 4
    assert "t1c of" in aside["brats23/BraTS-GLI-00001/000-t1n"]
    assert "damaged" in aside["brats23/BraTS-GLI-00002/000-t2w"]
    assert "t2w of" in aside["brats23/BraTS-GLI-00002/000-t2f"]
    assert "different shapes" in aside["brats23/BraTS-GLI-00003/000-t1n"]


def test_the_results_are_the_same_bytes_from_run_to_run(tmp_path: Path) -> None:
    trees.msd(tmp_path / "data", NAMES)
    files = {}
    for time in "12":
        out = tmp_path / time
        trees.run_download(tmp_path / "data", out, "task09_spleen", trees.SEGMENTATION)
        trees.run_preprocess(
            tmp_path / "data", out, "task09_spleen", {"window": [-100, 100], "spacing": [2, 2, 2]}
        )
        files[time] = {
            p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()
        }
    assert files["1"] == files["2"]
    assert {p.name for p in files["1"]} > {"index.parquet", "store.parquet", "volumes-000.bin"}


def test_an_image_is_set_aside_when_it_is_refused_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some libraries do not tell a failure of the disk, which may pass, from a damaged file."""
    trees.msd(tmp_path / "data", NAMES)
    real, refused = nifti.read, []

    def read(folder: Path, path: str) -> Volume:
        if BAD in path and not refused:
            refused.append(path)
            raise DataError(f"{path}: damaged")
        return real(folder, path)

    monkeypatch.setattr(nifti, "read", read)
    out = trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)
    assert refused
    assert trees.set_aside(out) == {}


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_file_or_folder_that_cannot_be_read_now_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    folder = trees.msd(tmp_path / "data", NAMES)
    real, failing = io.open, [folder / "imagesTr" / f"{BAD}.nii.gz", folder / "dataset.json"]

    def opened(path: object, *args: Any, **kwargs: Any) -> Any:
        if failing and path == failing[-1]:
            raise OSError(code, os.strerror(code), str(failing.pop()))
        return real(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(io, "open", opened)
    for name in ("dataset.json", BAD):
        with pytest.raises(ResourceError, match=rf"{name}.*: cannot be read"):
            trees.run_download(
                tmp_path / "data", tmp_path / name, "task09_spleen", trees.SEGMENTATION
            )

    def no_list(path: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "scandir", no_list)
    with pytest.raises(ResourceError, match="data: cannot be read"):
        list(walk(tmp_path / "data"))
