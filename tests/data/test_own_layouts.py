"""A user's own data sets: every layout lists images, labels, targets and parts of the split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import own_sets, trees
from tests.helpers.own_sets import own, scanned
from voxseq.data import layouts
from voxseq.data.volume import Entry

FOUR = ["a", "b", "c", "d"]


def paths(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.path for entry in entries]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_files_of_every_format_are_images_and_labels_by_name_are_not(
    ending: str, tmp_path: Path
) -> None:
    folder = own_sets.tree(tmp_path, [f"x/a{ending}", f"b{ending}", f"labels/a{ending}"])
    dataset = own(folder, "files")
    found = scanned(dataset)
    assert sorted(paths(found.entries)) == [f"b{ending}", f"x/a{ending}"]
    assert [e.subject for e in sorted(found.entries, key=lambda e: e.path)] == ["b", "a"]
    assert "labels/a" in found.remarks[0].reason
    image = layouts.get("files").read_image(folder, found.entries[0])
    assert image.array.shape == trees.image().shape


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"labels": "seg"}, ["seg/a.nii.gz", "seg/b.nii.gz"]),
        ({"labels": "seg/{case}.nii.gz"}, ["seg/a.nii.gz", "seg/b.nii.gz"]),
        ({"labels": "seg/*.nii"}, ["seg/a.nii.gz", "seg/b.nii.gz"]),
        (
            {"images": "ct/*.nii.gz", "labels": "seg/{case}.nii.gz"},
            ["seg/a.nii.gz", "seg/b.nii.gz"],
        ),
        ({"images": ["ct/a*", "ct/b*"], "labels": "seg"}, ["seg/a.nii.gz", "seg/b.nii.gz"]),
        ({"images": "**/ct/*.nii.gz"}, ["", ""]),
        ({}, ["", ""]),
    ],
)
def test_globs_find_images_and_labels(
    options: dict[str, Any], labels: list[str], tmp_path: Path
) -> None:
    names = [f"{place}/{case}.nii.gz" for place in ("ct", "seg") for case in "ab"]
    folder = own_sets.tree(tmp_path, names)
    found = scanned(own(folder, "files", options=options))
    assert paths(found.entries) == ["ct/a.nii.gz", "ct/b.nii.gz"]
    assert [entry.label_path for entry in found.entries] == labels


def test_the_case_may_be_a_folder(tmp_path: Path) -> None:
    names = [f"p{n}/{name}.nii.gz" for n in (1, 2) for name in ("ct", "seg")]
    folder = own_sets.tree(tmp_path, names)
    options = {"images": "{case}/ct.nii.gz", "labels": "{case}/seg.nii.gz"}
    found = scanned(own(folder, "files", options=options))
    assert [(e.subject, e.label_path) for e in found.entries] == [
        ("p1", "p1/seg.nii.gz"),
        ("p2", "p2/seg.nii.gz"),
    ]
    # Without a glob, files of one name are told apart by their folder.
    assert [e.subject for e in scanned(own(folder, "files")).entries] == ["p1", "p2"]


def test_a_pattern_tells_subjects_of_several_images(tmp_path: Path) -> None:
    folder = own_sets.tree(tmp_path, ["p1_early.nii.gz", "p1_late.nii.gz", "p2_early.nii.gz"])
    options = {"subject": "(?P<subject>p[0-9]+)_"}
    found = scanned(own(folder, "files", options=options))
    assert [e.subject for e in found.entries] == ["p1", "p1", "p2"]
    assert len({(e.subject, e.image) for e in found.entries}) == 3


def test_one_file_per_channel(tmp_path: Path) -> None:
    folder = own_sets.tree(tmp_path, [f"{case}_{c}.nii.gz" for case in "ab" for c in ("t1", "t2")])
    (folder / "b_t2.nii.gz").unlink()
    options = {"images": "{case}_{channel}.nii.gz", "channels": ["t2", "t1"]}
    found = scanned(own(folder, "files", options=options))
    assert [entry.channels for entry in found.entries] == [("a_t2.nii.gz", "a_t1.nii.gz")]
    ((entry, reason),) = found.rejected
    assert entry.subject == "b"
    assert "no file of the channel t2" in reason


def test_dicom_series_of_a_tree_are_told_apart_by_headers(tmp_path: Path) -> None:
    for number in range(2):
        uid, patient = f"1.2.3.{number}", f"patient{number}"
        place = tmp_path / "any" / f"place{number}"
        trees.dicom_series(
            place, trees.image(seed=number) + 1000, SeriesInstanceUID=uid, PatientID=patient
        )
    own_sets.tree(tmp_path, ["extra.nii.gz"])
    found = scanned(own(tmp_path, "files"))
    assert sorted(e.subject for e in found.entries) == ["extra", "patient0", "patient1"]
    series = next(e for e in found.entries if e.files)
    assert layouts.get("files").read_image(tmp_path, series).array.ndim == 3
    chosen = scanned(own(tmp_path, "files", options={"images": "any/place1"}))
    assert [e.subject for e in chosen.entries] == ["patient1"]


def test_nnunet_lists_channels_labels_and_what_is_ignored(tmp_path: Path) -> None:
    labels = {"background": 0, "kidney": 1, "tumour": 2, "ignore": 3}
    folder = own_sets.nnunet(tmp_path, channels=["T1", "T2"], labels=labels)
    own_sets.write_image(folder / "imagesTs/z_0000.nii.gz", trees.image())
    found = scanned(own(folder, "nnunet", options={"channels": ["T1", "T2"]}))
    first = found.entries[0]
    assert first.channels == ("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz")
    assert (first.label_path, len(found.entries)) == ("labelsTr/a.nii.gz", 4)
    assert (found.labels, found.ignore) == ({1: "kidney", 2: "tumour"}, 3)
    second = scanned(own(folder, "nnunet", options={"channels": ["t2"]}))
    assert (second.entries[0].path, second.entries[0].channels) == ("imagesTr/a_0001.nii.gz", ())


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_nnunet_of_any_ending_is_examined(ending: str, tmp_path: Path) -> None:
    folder = own_sets.nnunet(tmp_path, ending=ending)
    found = own_sets.examined(own(folder, "nnunet", "segmentation", ["kidney"]))
    assert (len(found.rows), found.aside) == (4, [])


def test_nnunet_of_the_first_version_has_the_cases_that_it_lists(tmp_path: Path) -> None:
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "kidney"}}
    named = [f"{case}.nii.gz" for case in "abx"]
    training = [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in named]
    folder = own_sets.nnunet(tmp_path)
    (folder / "dataset.json").write_text(json.dumps({**content, "training": training}))
    found = scanned(own(folder, "nnunet"))
    assert [entry.path for entry in found.entries] == [f"imagesTr/{c}_0000.nii.gz" for c in "ab"]
    assert [entry.subject for entry, _ in found.rejected] == ["x"]
    assert found.labels == {1: "kidney"}


@pytest.mark.parametrize(
    ("labels", "names", "overlapping"),
    [
        ({"whole": [1, 2], "core": 2}, {1: "whole without core", 2: "core"}, "(whole)"),
        (
            {"whole": [1, 2, 3], "core": [2, 3], "rim": 3},
            {1: "whole without core", 2: "core without rim", 3: "rim"},
            "(whole, core)",
        ),
        ({"lesion": [1, 2], "vessel": 3}, {1: "lesion", 2: "lesion", 3: "vessel"}, ""),
        ({"a": [1, 2], "b": 1, "c": 2}, {1: "b", 2: "c"}, "(a)"),
    ],
    ids=str,
)
def test_overlapping_regions_become_their_parts(
    labels: dict[str, Any], names: dict[int, str], overlapping: str, tmp_path: Path
) -> None:
    folder = own_sets.nnunet(tmp_path, labels={"background": 0, **labels})
    found = scanned(own(folder, "nnunet"))
    assert found.labels == names
    assert [overlapping in remark.reason for remark in found.remarks] == [True] * bool(overlapping)


def test_msd_under_any_name(tmp_path: Path) -> None:
    folder = trees.msd(tmp_path, FOUR, task="Task99_Mine")
    content = json.loads((folder / "dataset.json").read_text())
    content["labels"] = {"0": "background", "1": "kidney"}
    (folder / "dataset.json").write_text(json.dumps(content))
    found = own_sets.examined(own(folder, "msd", "segmentation", ["kidney"]))
    assert (len(found.rows), found.aside, found.found.labels) == (4, [], {1: "kidney"})


@pytest.mark.parametrize("how", [{}, {"delimiter": ";"}, {"delimiter": "\t"}])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_however_it_was_saved(how: dict[str, Any], encoding: str, tmp_path: Path) -> None:
    rows = [[f"ct/{c}.nii.gz", word, c.upper()] for c, word in zip(FOUR, "xyxz", strict=True)]
    header = ["Image", "Class", "Subject"]
    folder = own_sets.table(tmp_path, header, rows, encoding=encoding, **how)
    found = scanned(own(folder, "table", "classification", options={"file": "cases.csv"}))
    assert [(e.subject, e.label) for e in found.entries] == [("A", 0), ("B", 1), ("C", 0), ("D", 2)]
    assert found.labels == {0: "x", 1: "y", 2: "z"}


@pytest.mark.parametrize(
    ("words", "classes", "numbers"),
    [
        (["no", "yes", "no"], [], [0, 1, 0]),
        (["no", "Yes", "no"], ["yes", "no"], [1, 0, 1]),
        (["0", "2", "1"], [], [0, 2, 1]),
        (["2", "4", "2"], [], [0, 1, 0]),
        (["0", "2", "0"], ["a", "b", "c"], [0, 2, 0]),
    ],
)
def test_words_for_classes_become_numbers(
    words: list[str], classes: list[str], numbers: list[int], tmp_path: Path
) -> None:
    rows = [[f"{n}.nii.gz", word] for n, word in enumerate(words)]
    folder = own_sets.table(tmp_path, ["image", "class"], rows)
    dataset = own(folder, "table", "classification", classes, options={"file": "cases.csv"})
    assert [entry.label for entry in scanned(dataset).entries] == numbers


def test_a_table_below_the_folder_with_other_names_of_columns(tmp_path: Path) -> None:
    own_sets.tree(tmp_path, ["lists/ct/a.nii.gz", "lists/seg/a.nii.gz", "far/b.nii.gz"])
    rows = [["ct/a", "seg/a.nii.gz", "41,5", "training"], ["../far/b.nii.gz", "", "7", "test"]]
    text = "\n".join(";".join(row) for row in [["scan", "mask", "age", "part"], *rows])
    (tmp_path / "lists/cases.csv").write_text(text)
    columns = {"image": "scan", "label": "mask", "target": "age", "split": "part"}
    options = {"file": "lists/cases.csv", "columns": columns}
    found = scanned(own(tmp_path, "table", options=options))
    first, second = found.entries
    assert (first.path, first.label_path) == ("lists/ct/a.nii.gz", "lists/seg/a.nii.gz")
    assert (first.value, second.value, second.path) == (41.5, 7.0, "far/b.nii.gz")
    assert (first.split, second.split) == ("train", "test")


def test_a_table_of_channels_and_of_a_dicom_folder(tmp_path: Path) -> None:
    own_sets.tree(tmp_path, ["a1.nii.gz", "a2.nii.gz"])
    trees.dicom_series(tmp_path / "series", trees.image() + 1000)
    columns = {"image": ["one", "two"]}
    options = {"file": "cases.csv", "columns": columns, "channels": ["T1", "T2"]}
    own_sets.table(tmp_path, ["one", "two"], [["a1.nii.gz", "a2.nii.gz"]])
    assert scanned(own(tmp_path, "table", options=options)).entries[0].channels == (
        "a1.nii.gz",
        "a2.nii.gz",
    )
    own_sets.table(tmp_path, ["image", "subject"], [["series", "p1"]])
    (entry,) = scanned(own(tmp_path, "table", options={"file": "cases.csv"})).entries
    assert (entry.subject, entry.path, len(entry.files)) == ("p1", "series", 7)
    assert layouts.get("table").read_image(tmp_path, entry).array.shape[2] == 7


def test_bids_images_sessions_labels_and_targets(tmp_path: Path) -> None:
    names = [
        "sub-1/anat/sub-1_T1w.nii.gz",
        "sub-2/ses-1/anat/sub-2_ses-1_T1w.nii.gz",
        "sub-2/ses-2/anat/sub-2_ses-2_T1w.nii.gz",
        "sub-2/ses-2/anat/sub-2_ses-2_FLAIR.nii.gz",
        "derivatives/manual/sub-1/anat/sub-1_label-all_dseg.nii.gz",
        "derivatives/manual/sub-2/ses-2/anat/sub-2_ses-2_dseg.nii.gz",
    ]
    folder = own_sets.tree(tmp_path, names)
    (folder / "participants.tsv").write_text(
        "participant_id\tage\tsex\nsub-1\t40\tF\nsub-2\t50\tM\n"
    )
    found = scanned(own(folder, "bids", "segmentation", modality="MRI"))
    assert [e.subject for e in found.entries] == ["sub-1", "sub-2", "sub-2"]
    assert [e.label_path for e in found.entries] == [names[4], "", names[5]]
    aged = scanned(own(folder, "bids", "regression", options={"target": "age"}))
    assert [e.value for e in aged.entries] == [40.0, 50.0, 50.0]
    sexed = scanned(own(folder, "bids", "classification", ["F", "M"], options={"target": "sex"}))
    assert [e.label for e in sexed.entries] == [0, 1, 1]
    both = scanned(own(folder, "bids", options={"channels": ["T1w", "FLAIR"]}))
    assert [e.channels for e in both.entries] == [(names[2], names[3])]
    assert len(both.rejected) == 2


def test_medmnist_of_any_size_and_number_of_classes(tmp_path: Path) -> None:
    folder = own_sets.medmnist(tmp_path / "set", {"train": 8, "test": 4}, classes=4, side=11)
    dataset = own(folder, "medmnist", "classification", options={"file": "own.npz"})
    found = own_sets.examined(dataset, labels=4)
    assert {row["shape_x"] for row in found.rows} == {11}
    assert sorted({row["label"] for row in found.rows}) == [0, 1, 2, 3]
    # The file has no validation part: it is held out of training.
    assert {row["split"] for row in found.rows} == {"train", "val", "test"}


FOLDS = [{"train": ["a", "b"], "val": ["c", "d"]}, {"train": ["c", "d"], "val": ["a", "b"]}]
THREE = {"a": "train", "b": "train", "c": "val", "d": "test"}
BY_FOLD = {"a": "train", "b": "train", "c": "test", "d": "test"}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("s.json", json.dumps({"train": ["a", "b"], "val": ["c"], "test": ["d"]}), THREE),
        ("s.json", json.dumps(THREE), THREE),
        ("s.json", json.dumps(FOLDS), BY_FOLD),
        ("s.csv", "subject,split\na,Training\nb,train\nc,valid\nd,test\n", THREE),
        ("s.csv", "imagesTr/a_0000.nii.gz;train\nb;train\nc;val\nd;test\n", THREE),
        ("s.txt", "a train\nb train\nc val\nd test\n", THREE),
        (
            "s.txt",
            "# mine\na\ttrain\nb\ttrain\nd\ttest\n",
            {"a": "train", "b": "train", "d": "test"},
        ),
    ],
)
def test_own_splits(name: str, text: str, expected: dict[str, str], tmp_path: Path) -> None:
    folder = own_sets.nnunet(tmp_path)
    (folder / name).write_text(text)
    found = scanned(own(folder, "nnunet", options={"splits": name}))
    assert {entry.subject: entry.split for entry in found.entries} == expected
    assert bool(found.remarks) == (len(expected) < 4)


def test_nnunets_own_folds_are_used_where_they_are(tmp_path: Path) -> None:
    folder = own_sets.nnunet(tmp_path)
    (folder / "splits_final.json").write_text(json.dumps(FOLDS))
    found = scanned(own(folder, "nnunet"))
    assert {entry.subject: entry.split for entry in found.entries} == BY_FOLD
    assert "no test part" in found.notes[0]
    second = scanned(own(folder, "nnunet", options={"fold": 1}))
    assert second.entries[0].split == "test"


def test_an_ignored_value_is_no_class_and_no_fault(tmp_path: Path) -> None:
    labels = {"background": 0, "kidney": 1, "ignore": 2}
    folder = own_sets.nnunet(tmp_path, labels=labels)
    voxels = trees.label()
    voxels[0, 0, 0] = 2
    own_sets.write_image(folder / "labelsTr/a.nii.gz", voxels)
    found = own_sets.examined(own(folder, "nnunet", "segmentation", ["kidney"]))
    assert (len(found.rows), found.aside, found.found.ignore) == (4, [], 2)
    assert found.remarks == []


def test_a_source_is_not_divided_and_a_task_is(tmp_path: Path) -> None:
    folder = own_sets.nnunet(tmp_path, [f"c{n}" for n in range(10)])
    alone = own_sets.examined(own(folder, "nnunet"))
    assert {row["split"] for row in alone.rows} == {"train"}
    used = own_sets.examined(own(folder, "nnunet", "segmentation", ["kidney"]))
    assert {row["split"] for row in used.rows} == {"train", "val", "test"}
    assert np.isfinite([row["spacing_x"] for row in used.rows]).all()
