"""A user's own data sets that cannot be read: each is told by file, reason and next step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import own_sets, trees
from tests.helpers.own_sets import examined, nnunet, own, scanned, table, tree
from voxseq.base.errors import DataError
from voxseq.catalogue import DataSet
from voxseq.config.datasets import DataConfig
from voxseq.data.own import require_own
from voxseq.data.verify.check import Usage, verify

#: Words that help with published data sets only.
_OF_PUBLISHED = ("fetch", "download", "published", "publisher", "voxseq data show")
LIST = {"file": "cases.csv"}
SPLITS = {"splits": "s.json"}
Made = Callable[[Path], DataSet]


def _nnunet(content: dict[str, Any] | str | None = None, **facts: Any) -> Made:
    """A folder of nnU-Net, with another dataset.json or none."""

    def make(folder: Path) -> DataSet:
        changes = content if isinstance(content, dict) else {}
        nnunet(folder, **changes)
        if isinstance(content, str):
            (folder / "dataset.json").write_text(content)
        return own(folder, "nnunet", **facts)

    return make


def _without(path: str, **facts: Any) -> Made:
    def make(folder: Path) -> DataSet:
        (nnunet(folder) / path).unlink()
        return own(folder, "nnunet", **facts)

    return make


def _table(header: list[str], rows: list[list[str]], **facts: Any) -> Made:
    return lambda folder: own(table(folder, header, rows), "table", options=LIST, **facts)


def _splits(held: Any, **more: Any) -> Made:
    def make(folder: Path) -> DataSet:
        (nnunet(folder) / "s.json").write_text(json.dumps(held))
        return own(folder, "nnunet", options={**SPLITS, **more})

    return make


def _tree(paths: list[str], **options: Any) -> Made:
    return lambda folder: own(tree(folder, paths), "files", options=options)


def _npz(**arrays: Any) -> Made:
    def make(folder: Path) -> DataSet:
        np.savez(folder / "own.npz", **arrays)
        return own(folder, "medmnist", options={"file": "own.npz"})

    return make


KIDNEY = {"task": "segmentation", "labels": ["kidney"]}
TWO = [["a.nii.gz", "x"], ["b.nii.gz", "y"]]
IMAGES = np.zeros((2, 4, 4, 4), np.uint8)
REFUSED: dict[str, tuple[Made, str]] = {
    "no dataset.json": (_without("dataset.json"), "there is no dataset.json.*layout files"),
    "no JSON": (_nnunet("{"), r"dataset.json: is no JSON"),
    "a list": (_nnunet("[]"), "holds a list, expected an object"),
    "another ending": (_nnunet('{"file_ending": ".png"}'), "file_ending is '.png', expected"),
    "labels of words": (_nnunet({"labels": {"kidney": "one"}}), "labels cannot be understood"),
    "no channel chosen": (_nnunet({"channels": ["T1", "T2"]}), r"options.channels: \[T1, T2\]"),
    "unknown channel": (
        _nnunet(options={"channels": ["PET"]}),
        "no channel 'PET'; it has CT.*correct options.channels",
    ),
    "more labels than classes": (
        _nnunet({"labels": {"background": 0, "kidney": 1, "tumour": 2}}, **KIDNEY),
        "labels are 1 kidney, 2 tumour, but the study has 1 kidney.*merge_labels",
    ),
    "no case": (_nnunet({"cases": []}), "no case in imagesTr"),
    "no such column": (_table(["scan"], TWO[:1]), "no column 'image'; it has scan"),
    "classes for labels": (
        _table(["image", "label"], TWO),
        "column of labels holds 'x', which is no file.*columns",
    ),
    "columns without channels": (
        lambda folder: own(
            table(folder, ["one", "two"], [["a.nii.gz", "a.nii.gz"]]),
            "table",
            options={**LIST, "columns": {"image": ["one", "two"]}},
        ),
        r"2 columns of images \(one, two\).*options.channels: \[one, two\]",
    ),
    "an image twice": (_table(["image"], [["a.nii.gz"]] * 2), "in the rows 2 and 3"),
    "an empty image": (_table(["image", "class"], [["", "x"]]), "row 2: has no image"),
    "an unknown part": (_table(["image", "split"], TWO), "row 2: the split 'x' is not known"),
    "half of the parts": (
        _table(["image", "split"], [["a.nii.gz", "train"], ["b.nii.gz", ""]]),
        "1 subjects have no part of the split, such as b",
    ),
    "a subject in two parts": (
        _table(
            ["image", "subject", "split"],
            [["a.nii.gz", "p1", "train"], ["b.nii.gz", "p1", "test"]],
        ),
        "subject p1 is in two parts of the split, train and test",
    ),
    "no list": (_nnunet(options=SPLITS), "s.json: there is no such file"),
    "a list of strangers": (_splits({"train": ["x"]}), "none of its 1 subjects is here, such as x"),
    "a subject in two lists": (_splits({"train": ["a"], "test": ["a"]}), "a is in two parts"),
    "an unknown list": (_splits({"trian": ["a"]}), "'trian' is no part"),
    "no such fold": (_splits([{"train": ["a"]}], fold=3), "options.fold is 3, but it has 1 folds"),
    "no image": (_tree([], images="*.mha"), r"no image found; expected images \*.mha"),
    "labels alone": (_tree(["a_seg.nii.gz"]), "all files are labels"),
    "labels of others": (
        _tree(["a.nii.gz", "seg/x.nii.gz"], labels="seg"),
        "no image has a label.*write {case} where",
    ),
    "two labels": (
        _tree(["a.nii.gz", "seg/1/a.nii.gz", "seg/2/a.nii.gz"], labels="seg"),
        "seg/1/a.nii.gz is a label of the case a too",
    ),
    "no subject": (
        _tree(["a.nii.gz"], subject="(?P<subject>[0-9]+)"),
        "options.subject finds no subject",
    ),
    "no channels": (_tree(["a.nii.gz"], images="{case}_{channel}.nii.gz"), "names no channels"),
    "no modality": (
        lambda folder: own(tree(folder, ["a.nii.gz"]), "files", modality="CT and MRI"),
        "a.nii.gz: only DICOM series say whether",
    ),
    "no sub-": (lambda folder: own(folder, "bids"), "sub-01/anat/sub-01_T1w.nii.gz"),
    "no arrays": (_npz(x=IMAGES), "has no array 'train_images'"),
    "flat images": (
        _npz(
            **{f"{p}_images": IMAGES[..., 0] for p in ("train", "test")},
            **{f"{p}_labels": np.zeros(2) for p in ("train", "test")},
        ),
        r"shape \(2, 4, 4\), expected \(N, z, y, x\)",
    ),
    "many labels": (
        _npz(
            **{f"{p}_images": IMAGES for p in ("train", "test")},
            **{f"{p}_labels": np.zeros((2, 3)) for p in ("train", "test")},
        ),
        "3 labels per image, expected one class",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_reason_and_next_step(name: str, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    dataset = make(tmp_path)
    with pytest.raises(DataError, match=f"(?s){words}") as caught:
        scanned(dataset)
    assert caught.value.hint
    said = str(caught.value).replace(str(tmp_path), "")
    assert not any(word in said for word in _OF_PUBLISHED), said


#: Cases of which one cannot be used: what is made, and words of the reason.
ASIDE: dict[str, tuple[Made, str]] = {
    "no second channel": (
        lambda folder: _unlinked(
            own(
                nnunet(folder, channels=["T1", "T2"]),
                "nnunet",
                options={"channels": ["T1", "T2"]},
            ),
            "imagesTr/b_0001.nii.gz",
        ),
        "the file of the channel T2 of the case b does not exist",
    ),
    "no image of a label": (
        lambda folder: _unlinked(own(nnunet(folder), "nnunet"), "imagesTr/b_0000.nii.gz"),
        "the channel CT of the case b does not exist",
    ),
    "no label": (
        lambda folder: _unlinked(own(nnunet(folder), "nnunet", **KIDNEY), "labelsTr/b.nii.gz"),
        "has no segmentation",
    ),
    "a label of another grid": (
        lambda folder: _changed(own(nnunet(folder), "nnunet", **KIDNEY), trees.label()[1:]),
        "the label's shape",
    ),
    "a value without a name": (
        lambda folder: _changed(own(nnunet(folder), "nnunet", **KIDNEY), trees.label() * 7),
        "unknown label values 7, expected 0, 1",
    ),
    "no class": (
        _table(["image", "class"], [*TWO, ["c.nii.gz", ""]], task="classification"),
        "c.nii.gz: has no class",
    ),
    "another class": (
        _table(["image", "class"], [*TWO, ["c.nii.gz", "z"]], task="classification", labels="xy"),
        "its class 'z' is none of x, y",
    ),
    "no number": (
        _table(["image", "target"], [["a.nii.gz", "1"], ["b.nii.gz", "old"]]),
        "its target 'old' is no number",
    ),
    "no file": (
        _table(["image", "label"], [["a.nii.gz", ""], ["b.nii.gz", "no.nii.gz"]]),
        "the file does not exist",
    ),
}


def _unlinked(dataset: DataSet, path: str) -> DataSet:
    (Path(dataset.folder) / path).unlink()
    return dataset


def _changed(dataset: DataSet, label: np.ndarray) -> DataSet:
    own_sets.write_image(Path(dataset.folder) / "labelsTr/b.nii.gz", label)
    return dataset


@pytest.mark.parametrize("name", ASIDE)
def test_a_case_that_cannot_be_used_is_set_aside(name: str, tmp_path: Path) -> None:
    make, words = ASIDE[name]
    dataset = make(tmp_path)
    found = examined(dataset, labels=len(dataset.classes) or 2)
    ((_, reason),) = found.aside
    assert words in reason
    assert found.rows


def test_a_folder_that_does_not_exist_is_named_by_its_key(tmp_path: Path) -> None:
    dataset = own(tmp_path / "none", "files")
    with pytest.raises(DataError, match=r"data.sets.mine.folder: .*none does not exist"):
        require_own(dataset, Path(dataset.folder))


def test_verify_gives_advice_for_own_files(tmp_path: Path) -> None:
    folder = nnunet(tmp_path)
    (folder / "imagesTr/a_0000.nii.gz").write_bytes(b"no image")
    sets = {"mine": {"folder": str(folder), "layout": "nnunet", "modality": "CT"}}
    data = DataConfig.model_validate({"sets": sets})
    report = verify(["mine"], None, Usage.of(["mine"], data, {}))
    (fault,) = (finding for finding in report.findings if finding.severity == "fault")
    assert fault.reason.startswith("damaged, truncated")
    assert "export it anew" in fault.next
    assert not any(w in f.reason + f.next for f in report.findings for w in _OF_PUBLISHED)
    absent = DataConfig.model_validate({"sets": {"mine": {**sets["mine"], "folder": "/no/where"}}})
    report = verify(["mine"], None, Usage.of(["mine"], absent, {}))
    assert [finding.next for finding in report.findings] == ["correct data.sets.mine.folder"]
