"""From paths to the facts of a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import own_images, trees
from voxseq.base.errors import DataError
from voxseq.study.source import BOTH, UNKNOWN, facts_of


def write(folder: Path, *names: str) -> None:
    for name in names:
        trees.write_nifti(folder / name, trees.image())


def test_a_tree_of_files_is_recognised(tmp_path: Path) -> None:
    write(tmp_path, "a/x.nii.gz")
    assert facts_of(tmp_path) == {
        "folder": str(tmp_path),
        "layout": "files",
        "modality": UNKNOWN,
    }


def test_headers_of_dicom_will_tell_the_modality(tmp_path: Path) -> None:
    own_images.dicom(tmp_path)
    assert facts_of(tmp_path)["modality"] == BOTH
    assert facts_of(tmp_path, modality="CT")["modality"] == "CT"


@pytest.mark.parametrize("name", ["images/x1.nii.gz", "images/x1/ct.nii.gz"])
def test_a_folder_of_segmentations_beside_one_of_images(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    write(tmp_path, f"labels/{name.split('/', 1)[1].replace('.nii', '_seg.nii')}")
    found = facts_of(tmp_path / "images", tmp_path / "labels", modality="CT")
    assert found["folder"] == str(tmp_path)
    assert found["options"] == {
        "images": "images/**/*",
        "labels": "labels/**/{case}_seg.nii.gz",
    }


@pytest.mark.parametrize("part", ["", "imagesTr"])
def test_the_decathlon_s_folders_do_without_their_dataset_json(tmp_path: Path, part: str) -> None:
    write(tmp_path, "imagesTr/x1_0000.nii.gz", "labelsTr/x1.nii.gz", "imagesTs/x2_0000.nii.gz")
    assert facts_of(tmp_path / part)["options"] == {
        "images": "imagesTr/**/*",
        "labels": "labelsTr/**/{case}.nii.gz",
    }


def test_channels_without_names_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "imagesTr/x1_0000.nii.gz", "imagesTr/x1_0001.nii.gz", "labelsTr/x1.nii.gz")
    with pytest.raises(DataError, match="several channels of a case") as caught:
        facts_of(tmp_path)
    assert "channel_names" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "layout", "options"),
    [
        (
            {"channel_names": {"1": "T2", "0": "T1"}, "labels": {}},
            "nnunet",
            {"options": {"channels": ["T1", "T2"]}},
        ),
        ({"channel_names": {"0": "CT"}, "labels": {}}, "nnunet", {}),
        ({"training": [], "modality": {"0": "CT"}}, "msd", {}),
        (
            {"training": [], "modality": {"0": "FLAIR", "1": "T1w"}},
            "msd",
            {"options": {"channels": ["FLAIR", "T1w"]}},
        ),
    ],
)
@pytest.mark.parametrize("named", ["", "imagesTr"])
def test_a_dataset_json_is_of_nnu_net_or_the_decathlon(
    tmp_path: Path, content: dict[str, Any], layout: str, options: dict[str, Any], named: str
) -> None:
    write(tmp_path, "imagesTr/x.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = facts_of(tmp_path / named)
    assert found == {"folder": str(tmp_path), "layout": layout, "modality": UNKNOWN, **options}


def test_nnu_net_1_is_told_by_the_numbers_of_its_channels(tmp_path: Path) -> None:
    write(tmp_path, "imagesTr/x_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [], "modality": {"0": "MR"}}))
    assert facts_of(tmp_path)["layout"] == "nnunet"
    assert facts_of(tmp_path, like="msd")["layout"] == "msd"


def test_a_damaged_dataset_json_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{")
    assert facts_of(tmp_path)["layout"] == "msd"
    assert facts_of(tmp_path, like="nnunet")["layout"] == "nnunet"


def test_tables_subjects_of_bids_and_npz_files_are_recognised(tmp_path: Path) -> None:
    own_images.tables(tmp_path / "knees", each=1)
    (tmp_path / "bids/sub-01").mkdir(parents=True)
    (tmp_path / "some.npz").touch()
    table = facts_of(tmp_path / "knees/age.csv", target="age")
    assert table["folder"] == str(tmp_path / "knees")
    assert table["options"] == {"file": "age.csv", "columns": {"target": "age"}}
    beside = facts_of(tmp_path / "knees/images", tmp_path / "knees/knees.csv")
    assert beside["options"] == {"file": "knees.csv"}
    assert facts_of(tmp_path / "bids")["layout"] == "bids"
    assert facts_of(tmp_path / "some.npz")["options"] == {"file": "some.npz"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"images": "nowhere"}, "does not exist"),
        ({"images": "a", "labels": "nowhere"}, "does not exist"),
        ({"images": "a/x.nii.gz"}, "neither a folder nor a table"),
        ({"images": "a", "labels": "a/x.nii.gz"}, "neither a folder nor a table"),
        ({"images": "a", "target": "age"}, "there is no table"),
        ({"images": "a", "like": "table"}, "needs a table"),
        ({"images": "a/x.nii.gz", "like": "bids"}, "is no folder"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, words: dict[str, Any], said: str
) -> None:
    write(tmp_path, "a/x.nii.gz")
    paths = {k: tmp_path / v for k, v in words.items() if k in ("images", "labels")}
    others = {k: v for k, v in words.items() if k not in paths}
    with pytest.raises(DataError, match=said):
        facts_of(**paths, **others)
