"""Finding, checking, setting aside and splitting."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.helpers import trees
from voxseq import catalogue
from voxseq.base.errors import ConfigError, DataError, ResourceError
from voxseq.base.paths import walk
from voxseq.data.index import read_index
from voxseq.data.readers import nifti
from voxseq.data.volume import Volume

NAMES = [f"spleen_{n}" for n in range(10)]
BAD = "spleen_3"
BAD_ID = f"task09_spleen/{BAD}/image"


def _affine(kind: str) -> np.ndarray:
    affine = np.eye(4)
    if kind == "singular":
        affine[2, 2] = 0
    elif kind == "dependent":
        affine[:3, 1] = affine[:3, 0]
    else:
        affine[0, 3] = np.nan
    return affine


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flip_a_bit_of_the_data(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    packed = bytearray(gzip.compress(bytes(content)))
    packed[-6] ^= 1  # the checksum no longer fits, every voxel can still be read
    path.write_bytes(packed)


def _with_nan(path: Path) -> None:
    array = trees.image().astype(np.float32)
    array[1, 2, 3] = np.nan
    trees.write_nifti(path, array)


def _with_infinity(path: Path) -> None:
    array = trees.image().astype(np.float32)
    array[0, 0, 0] = -np.inf
    trees.write_nifti(path, array)


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "empty file": (lambda p: p.write_bytes(b""), "image", "damaged, truncated"),
    "text": (lambda p: p.write_text("not an image"), "image", "damaged, truncated"),
    "truncated": (_truncate, "image", "damaged, truncated"),
    "checksum": (_flip_a_bit_of_the_data, "image", "CRC check failed"),
    "nan": (_with_nan, "image", "1 of 504 voxels are NaN or infinite"),
    "infinity": (_with_infinity, "image", "1 of 504 voxels are NaN or infinite"),
    "constant": (
        lambda p: trees.write_nifti(p, np.full((9, 8, 7), 5, np.int16)),
        "image",
        "every voxel has the value 5",
    ),
    "four axes": (
        lambda p: trees.write_nifti(p, trees.image((9, 8, 7, 2))),
        "image",
        "the image has 4 axes",
    ),
    "two axes": (
        lambda p: trees.write_nifti(p, trees.image((9, 8))),
        "image",
        "the image has 2 axes",
    ),
    "no voxels": (
        lambda p: trees.write_nifti(p, np.zeros((0, 8, 7), np.int16)),
        "image",
        "no voxels",
    ),
    "complex numbers": (
        lambda p: trees.write_nifti(p, trees.image().astype(np.complex64)),
        "image",
        "expected real numbers",
    ),
    "singular affine": (
        lambda p: trees.write_nifti(p, trees.image(), _affine("singular")),
        "image",
        "affine is singular",
    ),
    "dependent axes": (
        lambda p: trees.write_nifti(p, trees.image(), _affine("dependent")),
        "image",
        "affine is singular",
    ),
    "affine with nan": (
        lambda p: trees.write_nifti(p, trees.image(), _affine("nan")),
        "image",
        "affine holds NaN",
    ),
    "label missing": (lambda p: p.unlink(), "label", "does not exist"),
    "label truncated": (_truncate, "label", "damaged, truncated"),
    "label shape": (
        lambda p: trees.write_nifti(p, trees.label((9, 8, 8))),
        "label",
        "the label's shape (9, 8, 8) is not that of its image, (9, 8, 7)",
    ),
    "label grid": (
        lambda p: trees.write_nifti(p, trees.label(), np.diag([1.0, 1.0, -1.0, 1.0])),
        "label",
        "the label's grid is not that of its image",
    ),
    "label value": (
        lambda p: trees.write_nifti(p, trees.label() * 7),
        "label",
        "unknown label values 7, expected 0, 1",
    ),
    "label fractions": (
        lambda p: trees.write_nifti(p, trees.label().astype(np.float32) / 2),
        "label",
        "not whole numbers",
    ),
    "label negative": (
        lambda p: trees.write_nifti(p, -trees.label().astype(np.int16)),
        "label",
        "unknown label values",
    ),
    "label nan": (
        lambda p: trees.write_nifti(p, np.full((9, 8, 7), np.nan, np.float32)),
        "label",
        "unknown label values",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_image_or_label_is_set_aside_with_file_and_reason(
    fault: str, tmp_path: Path
) -> None:
    spoil, which, reason = FAULTS[fault]
    folder = trees.msd(tmp_path / "data", NAMES)
    path = folder / f"{which}sTr" / f"{BAD}.nii.gz"
    spoil(path)
    out = trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)
    aside = trees.set_aside(out)
    assert list(aside) == [BAD_ID]
    assert aside[BAD_ID].startswith(f"{which}sTr/{BAD}.nii.gz: ")
    assert reason in aside[BAD_ID]
    assert str(tmp_path) not in (out / "set_aside.csv").read_text()
    index = read_index(out)
    assert sorted(index["subject"]) == sorted(set(NAMES) - {BAD})
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


def test_names_with_spaces_quotes_and_shell_characters_pass_through(tmp_path: Path) -> None:
    names = ["a b", "it's", 'say "so"', "$(touch x)", "; rm -rf y", "ünï", "%2F", "*", "-n", "`id`"]
    trees.msd(tmp_path / "data", names)
    out = trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)
    assert trees.set_aside(out) == {}
    assert sorted(read_index(out)["subject"]) == sorted(names)
    data = {"window": [-900, 900], "foreground_crop": False}
    store = trees.run_preprocess(tmp_path / "data", tmp_path, "task09_spleen", data)
    assert sorted(p.name for p in (store / "images").iterdir())[0] == "000000.b2nd"


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


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"training": 3}', '{"training": [{"image": 1}]}', '{"training": ["a"]}', "{"],
)
def test_a_damaged_dataset_json_is_named(content: str, tmp_path: Path) -> None:
    folder = trees.msd(tmp_path / "data", NAMES[:3])
    (folder / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=r"dataset\.json"):
        trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)


def test_paths_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    folder = trees.msd(tmp_path / "data", NAMES[:3])
    item = {"image": "../../secret.nii.gz", "label": "x.nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({"training": [item]}))
    with pytest.raises(DataError, match="leads out of the data set's folder"):
        trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)


def test_a_missing_folder_says_how_to_get_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        trees.run_download(tmp_path, tmp_path, "la", trees.SEGMENTATION)
    assert str(tmp_path / "la") in caught.value.what
    assert "voxseq data show la" in caught.value.hint


def test_an_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get("Totalsegmentater")
    assert caught.value.hint == "did you mean 'totalsegmentator'?"


def test_every_row_of_the_catalogue_has_an_adapter_and_its_own_folder() -> None:
    from voxseq.data import layouts as adapters

    folders = [row.folder for row in catalogue.CATALOGUE.values()]
    assert len(set(folders)) == len(folders)
    for name, row in catalogue.CATALOGUE.items():
        assert row.name == name
        assert row.access
        assert callable(adapters.get(row.layout).scan)


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
    from voxseq.data.store import VolumeStore

    # As a pre-training source a task's validation and test images are left out.
    assert set(VolumeStore(store).table["subject"]) == parts["train"]


def test_la_faults(tmp_path: Path) -> None:
    train, test = [f"TRAIN{n:02d}" for n in range(10)], ["TEST0"]
    folder = trees.la(tmp_path / "data", train, test)
    paths = [folder / "2018LA_Seg_Training Set" / c / "mri_norm2.h5" for c in train]
    _truncate(paths[0])
    paths[1].write_bytes(b"")
    with h5py.File(paths[2], "a") as file:
        del file["label"]
    with h5py.File(paths[3], "a") as file:
        file["image"][0, 0, 0] = np.nan
    with h5py.File(paths[4], "a") as file:
        del file["label"]
        file["label"] = trees.label((9, 8, 6))
    with h5py.File(paths[5], "a") as file:
        file["label"][...] = 255 * trees.label()
    aside = trees.set_aside(
        trees.run_download(tmp_path / "data", tmp_path, "la", trees.SEGMENTATION)
    )
    reasons = [aside[f"la/{case}/lge"] for case in train[:6]]
    expected = ["h5 file", "h5 file", 'no array "label"', "NaN", "label's shape", "values 255"]
    assert all(part in reason for part, reason in zip(expected, reasons, strict=True))
    assert len(aside) == 6


def test_a_case_on_both_lists_of_la_is_refused(tmp_path: Path) -> None:
    folder = trees.la(tmp_path / "data", ["A", "B"], ["C"])
    (folder / "test.list").write_text("C\nA\n")
    with pytest.raises(DataError, match="A more than once"):
        trees.run_download(tmp_path / "data", tmp_path, "la", trees.SEGMENTATION)


def test_medmnist_reverses_the_axes_and_keeps_the_split(tmp_path: Path) -> None:
    folder = trees.nodule(tmp_path / "data", {"train": 6, "val": 3, "test": 4})
    out = trees.run_download(tmp_path / "data", tmp_path, "nodule", trees.CLASSIFICATION)
    index = read_index(out)
    assert index["split"].value_counts().to_dict() == {"train": 6, "test": 4, "val": 3}
    assert tuple(index.loc[0, ["shape_x", "shape_y", "shape_z"]]) == (7, 6, 5)
    from voxseq.data import layouts as adapters
    from voxseq.data.index import entry_of

    volume = adapters.get("medmnist").read_image(folder, entry_of(index.loc[7]))
    with np.load(folder / "nodulemnist3d.npz") as file:
        np.testing.assert_array_equal(volume.array, file["val_images"][1].transpose(2, 1, 0))


def test_a_pickled_npz_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "unpickled"
    folder = trees.nodule(tmp_path / "data", {"train": 2, "val": 1, "test": 1})

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
            return (Path.touch, (marker,))

    path = folder / "nodulemnist3d.npz"
    arrays = dict(np.load(path))
    arrays["train_labels"] = np.array([[Trap()], [Trap()]], dtype=object)
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"nodulemnist3d\.npz"):
        trees.run_download(tmp_path / "data", tmp_path, "nodule", trees.CLASSIFICATION)
    arrays["train_labels"] = np.zeros((2, 1), np.uint8)
    arrays["train_images"] = np.array([Trap(), Trap()], dtype=object)
    np.savez(path, **arrays)
    out = trees.run_download(tmp_path / "data", tmp_path / "2", "nodule", trees.CLASSIFICATION)
    assert sorted(trees.set_aside(out)) == ["nodule/train0000/nodule", "nodule/train0001/nodule"]
    assert not marker.exists()


@pytest.mark.parametrize("keep", [0, 100, 600])
def test_a_truncated_npz_is_named(keep: int, tmp_path: Path) -> None:
    folder = trees.nodule(tmp_path / "data", {"train": 6, "val": 3, "test": 4})
    path = folder / "nodulemnist3d.npz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"nodulemnist3d\.npz: damaged, truncated or no npz file"):
        trees.run_download(tmp_path / "data", tmp_path, "nodule", trees.CLASSIFICATION)


def test_classes_that_the_task_does_not_have_are_set_aside(tmp_path: Path) -> None:
    folder = trees.nodule(tmp_path / "data", {"train": 6, "val": 3, "test": 4})
    path = folder / "nodulemnist3d.npz"
    arrays = dict(np.load(path))
    arrays["val_labels"][1] = 2
    np.savez(path, **arrays)
    out = trees.run_download(tmp_path / "data", tmp_path, "nodule", trees.CLASSIFICATION)
    assert trees.set_aside(out) == {
        "nodule/val0001/nodule": "nodulemnist3d.npz: class 2, expected [0, 1]"
    }


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
    assert len(files["1"]) > 30


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
