"""Segmentations, the names of their classes, and the names of files."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.helpers import trees
from tests.helpers.examining import examined, findings, remarks

TASKS = {
    "task03_liver": "Task03_Liver",
    "task04_hippocampus": "Task04_Hippocampus",
    "task07_pancreas": "Task07_Pancreas",
    "task08_hepaticvessel": "Task08_HepaticVessel",
    "task09_spleen": "Task09_Spleen",
    "task10_colon": "Task10_Colon",
}


def task(root: Path, dataset: str = "task09_spleen", count: int = 3, **facts: Any) -> Path:
    """A task in the Decathlon's form; ``facts`` are added to its dataset.json."""
    names = [f"{dataset[:6]}_{number:03d}" for number in range(count)]
    folder = trees.msd(root, names, TASKS[dataset])
    if "labels" in facts or dataset in ("task09_spleen", "task10_colon"):
        rewrite(folder, **facts)
    return folder


def rewrite(folder: Path, **facts: Any) -> None:
    path = folder / "dataset.json"
    content = {**json.loads(path.read_text()), **facts}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def put_label(path: Path, values: np.ndarray) -> None:
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file["label"][...] = values
    else:
        trees.write_nifti(path, values)


@pytest.mark.kind("empty segmentation")
@pytest.mark.parametrize("dataset", ["task09_spleen", "task03_liver", "la"])
def test_a_segmentation_without_foreground_is_named(tmp_path: Path, dataset: str) -> None:
    if dataset == "la":
        folder = trees.la(tmp_path, ["A", "B", "C"], ["D"])
        empty = "2018LA_Seg_Training Set/B/mri_norm2.h5"
    else:
        folder = task(tmp_path, dataset)
        empty = f"labelsTr/{dataset[:6]}_001.nii.gz"
    put_label(folder / empty, trees.label() * 0)
    found = examined(tmp_path, dataset)
    assert not found.aside
    assert [r.path for r in found.remarks if "no foreground class" in r.reason] == [empty]
    named = [f for f in findings(tmp_path, dataset) if f.file.endswith(empty)]
    assert ["ITK-SNAP" in f.next for f in named] == [True]


@pytest.mark.kind("class that no case has")
@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("task03_liver", "class 2 (cancer)"),
        ("task04_hippocampus", "class 2 (posterior)"),
        ("nodule", "class 1 (malignant)"),
    ],
)
def test_a_class_that_a_whole_data_set_lacks_is_named(
    tmp_path: Path, dataset: str, name: str
) -> None:
    if dataset == "nodule":
        trees.nodule(tmp_path, {"train": 1, "val": 1, "test": 1})
    else:
        task(tmp_path, dataset)
    assert remarks(examined(tmp_path, dataset)) == [f": none of the 3 cases has {name}"]


@pytest.mark.kind("unknown label value")
@pytest.mark.parametrize(
    ("value", "said"),
    [(2, "values 2, expected 0, 1"), (255, "values 255, expected"), (300, "from 0 to 300")],
)
def test_unknown_values_are_refused_by_name(tmp_path: Path, value: int, said: str) -> None:
    folder = task(tmp_path)
    put_label(folder / "labelsTr/task09_001.nii.gz", trees.label().astype(np.int16) * value)
    (reason,) = [reason for _, reason in examined(tmp_path, "task09_spleen").aside]
    assert reason.startswith("labelsTr/task09_001.nii.gz: unknown label values")
    assert said in reason


@pytest.mark.kind("classes of dataset.json")
@pytest.mark.parametrize(
    ("dataset", "labels"),
    [
        ("task03_liver", {"0": "background", "1": "cancer", "2": "liver"}),
        ("task07_pancreas", {"0": "background", "1": "cancer", "2": "pancreas"}),
        ("task08_hepaticvessel", {"background": 0, "Tumour": 1, "Vessel": 2}),
        ("task04_hippocampus", ["background", "Posterior", "Anterior"]),
        ("task03_liver", {"background": 0, "tumor": [1, 2], "liver": 2}),
        ("task09_spleen", {"0": "background", "1": "liver"}),
        ("task09_spleen", {"0": "spleen", "1": "background"}),
        ("task09_spleen", {"0": "background", "1": "spleen", "2": "left kidney"}),
        ("task03_liver", {"0": "background", "1": "liver"}),
    ],
)
def test_other_classes_are_named_with_both_orders(
    tmp_path: Path, dataset: str, labels: Any
) -> None:
    task(tmp_path, dataset, labels=labels)
    said = [line for line in remarks(examined(tmp_path, dataset)) if "its labels are" in line]
    assert len(said) == 1
    stated = labels if isinstance(labels, list) else [w for p in labels.items() for w in p]
    names = [w for w in stated if isinstance(w, str) and not w.isdigit() and w != "background"]
    assert all(name in said[0] for name in names)
    assert re.search(r"those of MSD Task\d\d \w+ are 1 \w+", said[0])


@pytest.mark.parametrize(
    ("dataset", "labels"),
    [
        ("task03_liver", {"0": "background", "1": "Liver", "2": "liver tumour"}),
        ("task08_hepaticvessel", {"background": 0, "hepatic_vessel": 1, "tumor": 2}),
        ("task10_colon", {"0": "background", "1": "colon cancer primaries"}),
        ("task07_pancreas", {"background": 0, "pancreas": [1, 2], "cancer": [2]}),
        ("task09_spleen", {"background": 0, "spleen": 1, "ignore": 2}),
        ("task09_spleen", None),
    ],
)
def test_the_same_classes_in_other_words_are_no_matter(
    tmp_path: Path, dataset: str, labels: Any
) -> None:
    task(tmp_path, dataset, labels=labels)
    assert "its labels" not in str(remarks(examined(tmp_path, dataset)))


@pytest.mark.parametrize("labels", [7, "liver", {"a": "b"}, {"0": None}, [[1]], {"x": 1e999}])
def test_labels_that_nobody_understands_stop_nothing(tmp_path: Path, labels: Any) -> None:
    task(tmp_path, labels=labels)
    found = examined(tmp_path, "task09_spleen")
    assert len(found.rows) == 3
    assert "its labels" in str(remarks(found))


@pytest.mark.kind("dataset.json of another task")
@pytest.mark.parametrize("name", ["Colon", "Task10_Colon"])
def test_the_name_of_another_task_is_named(tmp_path: Path, name: str) -> None:
    task(tmp_path, name=name)
    (said,) = remarks(examined(tmp_path, "task09_spleen"))
    assert "that of MSD Task10 Colon, in the folder of MSD Task09 Spleen" in said


# nnU-Net


@pytest.mark.kind("nnU-Net 1")
def test_files_of_the_first_nnunet_are_read_under_the_listed_names(tmp_path: Path) -> None:
    folder = task(tmp_path)
    for path in sorted((folder / "imagesTr").iterdir()):
        path.rename(path.with_name(path.name.replace(".nii", "_0000.nii")))
    found = examined(tmp_path, "task09_spleen")
    assert [row["subject"] for row in found.rows] == ["task09_000", "task09_001", "task09_002"]
    assert found.entries[0].path == "imagesTr/task09_000_0000.nii.gz"
    assert not found.remarks
    assert not found.notes


@pytest.mark.kind("nnU-Net 2")
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", None])
@pytest.mark.parametrize("how", ["files", "dataset"])
def test_cases_of_the_second_nnunet_are_found(tmp_path: Path, how: str, ending: str | None) -> None:
    folder = task(tmp_path)
    for place, channel in (("imagesTr", "_0000"), ("labelsTr", "")):
        for path in sorted((folder / place).iterdir()):
            name = path.name.removesuffix(".nii.gz") + channel + (ending or ".nii.gz")
            content = path.read_bytes()
            path.unlink()
            is_plain = ending == ".nii"
            path.with_name(name).write_bytes(gzip.decompress(content) if is_plain else content)
    facts: dict[str, Any] = {"training": None, "channel_names": {"0": "CT"}, "numTraining": 3}
    facts |= {"labels": {"background": 0, "spleen": 1}, "file_ending": ending}
    if how == "dataset":
        images = sorted(p.name for p in (folder / "imagesTr").iterdir())
        facts["dataset"] = {
            name[:10]: {
                "images": [f"imagesTr/{name}"],
                "label": f"labelsTr/{name.replace('_0000', '')}",
            }
            for name in images
        }
    rewrite(folder, **facts)
    found = examined(tmp_path, "task09_spleen")
    assert [row["subject"] for row in found.rows] == ["task09_000", "task09_001", "task09_002"]
    assert not (found.aside or found.remarks or found.notes)


@pytest.mark.kind("several channels")
@pytest.mark.parametrize("version", [1, 2])
def test_further_channels_are_named(tmp_path: Path, version: int) -> None:
    folder = task(tmp_path)
    for path in sorted((folder / "imagesTr").iterdir()):
        for channel in ("_0000", "_0001"):
            shutil.copyfile(path, path.with_name(path.name.replace(".nii", f"{channel}.nii")))
        path.unlink()
    key = {1: "modality", 2: "channel_names"}[version]
    rewrite(folder, **{"training": None} if version == 2 else {}, **{key: {"0": "T1", "1": "T2"}})
    found = examined(tmp_path, "task09_spleen")
    assert len(found.rows) == 3
    (said,) = remarks(found)
    assert "3 images have several channels (T1, T2): only the first is read" in said


def test_files_of_other_formats_are_refused_by_the_ending(tmp_path: Path) -> None:
    folder = task(tmp_path)
    rewrite(folder, training=None, channel_names={"0": "CT"}, file_ending=".png")
    (finding,) = findings(tmp_path, "task09_spleen")
    assert "dataset.json: file_ending is '.png', expected .nii.gz or .nii" in finding.reason


@pytest.mark.kind("paths of another machine")
@pytest.mark.parametrize(
    "prefix", ["/home/x/Task09_Spleen/", "C:\\data\\", "\\\\server\\share\\", "Task09_Spleen/x/"]
)
def test_paths_of_another_machine_are_read_by_their_last_parts(tmp_path: Path, prefix: str) -> None:
    folder = task(tmp_path)
    turn = "\\" if "\\" in prefix else "/"
    items = [
        {kind: prefix + f"{place}{turn}task09_00{n}.nii.gz" for kind, place in PLACES}
        for n in range(3)
    ]
    rewrite(folder, training=items)
    found = examined(tmp_path, "task09_spleen")
    assert len(found.rows) == 3
    assert f"{items[0]['image']} is read as imagesTr/task09_000.nii.gz" in str(
        found.remarks[0].reason
    )
    shutil.move(folder / "imagesTr", folder / "elsewhere")
    (finding,) = findings(tmp_path, "task09_spleen")
    assert "dataset.json" in finding.reason or "no image found" in finding.reason


PLACES = (("image", "imagesTr"), ("label", "labelsTr"))


def test_backslashes_below_the_folder_are_read(tmp_path: Path) -> None:
    folder = task(tmp_path)
    items = [{k: f".\\{place}\\task09_00{n}.nii.gz" for k, place in PLACES} for n in range(3)]
    rewrite(folder, training=items)
    found = examined(tmp_path, "task09_spleen")
    assert len(found.rows) == 3
    assert not found.remarks


def capitals(path: Path) -> Path:
    return path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))


def unpacked(path: Path) -> Path:
    plain = path.with_name(path.name.removesuffix(".gz"))
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    return plain


def channel(path: Path) -> Path:
    return path.rename(path.with_name(path.name.replace(".nii", "_0000.nii")))


def sources(root: Path) -> dict[str, tuple[Path, int]]:
    """A file of each layout with patterns, and the number of images."""
    brats = trees.brats(root, ["BraTS-GLI-00001-000"])
    files = {
        "brats23": (next(brats.rglob("*-t1c.nii.gz")), 4),
        "task09_spleen": (task(root) / "imagesTr/task09_001.nii.gz", 3),
    }
    published = {
        "totalsegmentator": ("totalsegmentator/s000{}/ct.nii.gz", 2),
        "ribfrac": ("ribfrac/Part1/RibFrac{}-image.nii.gz", 2),
        "amos22": ("amos22/imagesTr/amos_000{}.nii.gz", 2),
        "abdomenct1k": ("abdomenct1k/Case_0000{}_0000.nii.gz", 2),
        "verse20": ("verse20/rawdata/sub-verse{}/sub-verse{}_ct.nii.gz", 2),
    }
    for name, (pattern, count) in published.items():
        for number in range(count):
            path = root / pattern.replace("{}", str(number))
            trees.write_nifti(path, trees.image(seed=number))
            files[name] = (path, count)
    return files


@pytest.mark.kind("ending in capitals or unpacked")
@pytest.mark.parametrize("change", [capitals, unpacked, lambda path: capitals(unpacked(path))])
def test_other_endings_are_read(tmp_path: Path, change: Callable[[Path], Path]) -> None:
    for name, (path, count) in sources(tmp_path).items():
        before = [(row["subject"], row["image"]) for row in examined(tmp_path, name).rows]
        change(path)
        found = examined(tmp_path, name)
        assert [(row["subject"], row["image"]) for row in found.rows] == before, name
        assert len(found.rows) == count
        assert not (found.aside or found.remarks), name


@pytest.mark.parametrize("name", ["amos22", "totalsegmentator", "ribfrac", "task09_spleen"])
def test_the_first_channel_of_nnunet_is_the_image(tmp_path: Path, name: str) -> None:
    path, count = sources(tmp_path)[name]
    channel(path)
    found = examined(tmp_path, name)
    assert len({row["subject"] for row in found.rows}) == count
    assert not found.remarks


def test_endings_of_metaimage_and_of_segmentations(tmp_path: Path) -> None:
    (tmp_path / "stoic/data/mha").mkdir(parents=True)
    for number, ending in enumerate((".mha", ".MHA")):
        path = tmp_path / f"stoic/data/mha/{number}.mha"
        sitk.WriteImage(sitk.GetImageFromArray(trees.image(seed=number)), str(path))
        path.rename(path.with_suffix(ending))
    assert len(examined(tmp_path, "stoic").rows) == 2
    folder = task(tmp_path)
    capitals(unpacked(folder / "labelsTr/task09_001.nii.gz"))
    found = examined(tmp_path, "task09_spleen")
    assert len(found.rows) == 3
    assert not found.aside


@pytest.mark.kind("the same image with two endings")
def test_an_unpacked_copy_beside_its_file_is_left_out(tmp_path: Path) -> None:
    for name in ("totalsegmentator", "brats23", "amos22"):
        path, count = sources(tmp_path)[name]
        path.with_name(path.name.removesuffix(".gz")).write_bytes(
            gzip.decompress(path.read_bytes())
        )
        found = examined(tmp_path, name)
        assert len(found.rows) == count
        (remark,) = found.remarks
        assert remark.path.endswith(".nii")
        assert "is the same image by its name" in remark.reason
        shutil.rmtree(tmp_path)


@pytest.mark.kind("image under a name that is not published")
@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("totalsegmentator/s0009/CT.nii.gz", "s0009/CT.nii.gz"),
        ("totalsegmentator/s0009/ct.nii.gz.part", "s0009/ct.nii.gz.part"),
        ("totalsegmentator/s0009/ct.mha", "s0009/ct.mha"),
        ("totalsegmentator/s0009/ct.img", "s0009/ct.img"),
        ("ribfrac/Part1/ribfrac7-image.nii.gz", "Part1/ribfrac7-image.nii.gz"),
        ("totalsegmentator/s0009/mri.nii.gz", ""),
        ("amos22/imagesTr/case_7.nii.gz", ""),
    ],
)
def test_what_looks_like_an_image_is_named(tmp_path: Path, path: str, named: str) -> None:
    sources(tmp_path)
    trees.write_nifti(tmp_path / "x.nii.gz", trees.image(seed=9))
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "x.nii.gz").rename(tmp_path / path)
    dataset, _, relative = path.partition("/")
    (remark,) = examined(tmp_path, dataset).remarks
    assert remark.path == named
    assert relative in f"{remark.path}{remark.reason}"


def test_segmentations_and_tables_are_no_images(tmp_path: Path) -> None:
    sources(tmp_path)
    for path in (
        *("totalsegmentator/s0001/segmentations/liver.nii.gz", "amos22/labelsTr/amos_0001.nii.gz"),
        *("ribfrac/Part1/RibFrac1-label.nii.gz", "abdomenct1k/Mask/Case_00001.nii.gz"),
        "verse20/derivatives/sub-verse1/sub-verse1_seg-vert_msk.nii.gz",
    ):
        trees.write_nifti(tmp_path / path, trees.label())
    (tmp_path / "totalsegmentator/s0001/ct.json").write_text("{}")
    for name in ("totalsegmentator", "amos22", "ribfrac", "abdomenct1k", "verse20", "brats23"):
        assert not examined(tmp_path, name).remarks


def test_names_that_do_not_fit_at_all_are_shown(tmp_path: Path) -> None:
    trees.write_nifti(tmp_path / "abdomenct1k/Images/Liver_7.nii.gz", trees.image())
    (finding,) = findings(tmp_path, "abdomenct1k")
    assert "no image found" in finding.reason
    assert "such as Images/Liver_7.nii.gz" in finding.reason
