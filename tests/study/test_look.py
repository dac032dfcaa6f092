"""What a look at real files finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.helpers import own_images, trees
from voxseq.base.errors import DataError
from voxseq.config.datasets import DataConfig
from voxseq.data.volume import Entry
from voxseq.study.look import Look, cells, look, spread
from voxseq.study.source import facts_of


def seen(images: Path, labels: Path | None = None, **words: Any) -> Look:
    facts = facts_of(images, labels, **words)
    dataset = DataConfig.model_validate({"sets": {"mine": facts}}).dataset("mine")
    return look(dataset, Path(facts["folder"]))


def test_structures_are_named_counted_and_held(tmp_path: Path) -> None:
    own_images.nnunet(tmp_path)
    found = seen(tmp_path)
    assert found.kind == "segmentation"
    assert found.structures == {1: "cortex", 2: "medulla", 3: "cyst"}
    assert (found.channels, found.contrasts) == (2, ("T1", "T2"))
    assert (found.subjects, found.shape, found.spacing) == (8, own_images.SHAPE, (1.0, 1.0, 1.0))
    # Boxes of 6³, of which a later one may cover a part of an earlier one.
    assert all(0 < found.voxels[value] <= 8 * 6**3 for value in (1, 2, 3))
    assert found.holding[0] == 8
    assert not found.is_ct
    table = dict(cells(found))
    assert table["channels"] == "T1, T2"
    assert table["label 2"].startswith("medulla: ")


def test_ignored_voxels_are_no_part_of_the_structures(tmp_path: Path) -> None:
    own_images.nnunet(tmp_path)
    listed = tmp_path / "dataset.json"
    plain = seen(tmp_path)
    listed.write_text(listed.read_text().replace('"cyst"', '"ignore"'))
    found = seen(tmp_path)
    assert (found.ignore, found.structures) == (3, {1: "cortex", 2: "medulla"})
    assert [one.inside for one in found.opened] != [one.inside for one in plain.opened]


def test_a_list_of_the_user_divides_the_subjects(tmp_path: Path) -> None:
    own_images.nnunet(tmp_path)
    names = sorted({entry.subject for entry in seen(tmp_path).entries})
    fold = {"train": names[:5], "val": names[5:7]}
    (tmp_path / "splits_final.json").write_text(json.dumps([fold]))
    parts = {entry.subject: entry.split for entry in seen(tmp_path).entries}
    # Without a test part, the validation part is the test; who is not listed is not used.
    assert parts == dict.fromkeys(names[:5], "train") | dict.fromkeys(names[5:7], "test")


def test_the_decathlon_keeps_channels_along_a_fourth_axis(tmp_path: Path) -> None:
    own_images.decathlon(tmp_path)
    for path in (tmp_path / "imagesTr").iterdir():
        image = np.asarray(nibabel.load(path).dataobj)
        trees.write_nifti(path, np.stack([image, image], axis=-1))
    listed = tmp_path / "dataset.json"
    listed.write_text(listed.read_text().replace('{"0": "MRI"}', '{"0": "T1", "1": "T2"}'))
    found = seen(tmp_path)
    assert not found.unreadable
    assert (found.channels, found.contrasts) == (2, ("T1", "T2"))
    assert found.shape == own_images.SHAPE


def test_files_with_a_fourth_axis_need_names_of_their_channels(tmp_path: Path) -> None:
    for number in range(2):
        both = np.stack([trees.image(seed=number), trees.image(seed=number + 9)], axis=-1)
        trees.write_nifti(tmp_path / f"x{number}.nii.gz", both)
    with pytest.raises(DataError, match="2 volumes along its fourth axis") as raised:
        seen(tmp_path)
    assert "options.channels" in raised.value.hint
    assert "--channels T1,T2" in raised.value.hint
    found = seen(tmp_path, channels=["T1", "T2"])
    assert (found.channels, found.shape, found.unreadable) == (2, (9, 8, 7), ())


def test_ct_is_told_by_air_and_bone(tmp_path: Path) -> None:
    own_images.scans(tmp_path)
    found = seen(tmp_path)
    assert found.is_ct
    assert found.kind == ""
    low, middle, high = found.opened[0].quantiles
    assert low == -1000
    assert low <= middle < high
    assert high > 600


def test_classes_and_numbers_come_from_a_table(tmp_path: Path) -> None:
    own_images.tables(tmp_path)
    found = seen(tmp_path / "knees.csv")
    assert found.kind == "classification"
    assert found.groups == {0: "healthy", 1: "mild", 2: "moderate", 3: "severe"}
    assert found.classes == {0: 5, 1: 5, 2: 5, 3: 5}
    found = seen(tmp_path / "age.csv", target="age")
    assert found.kind == "regression"
    assert "target" in dict(cells(found))


def test_unreadable_images_and_other_grids_are_named(tmp_path: Path) -> None:
    for number in range(4):
        trees.write_nifti(tmp_path / f"images/x{number}.nii.gz", trees.image())
        trees.write_nifti(tmp_path / f"labels/x{number}.nii.gz", trees.label())
    (tmp_path / "images/x1.nii.gz").write_bytes(b"nothing")
    trees.write_nifti(tmp_path / "labels/x2.nii.gz", trees.label((5, 8, 7)))
    trees.write_nifti(tmp_path / "labels/x3.nii.gz", trees.label(), np.diag([1, 1, 2, 1]))
    found = seen(tmp_path / "images", tmp_path / "labels")
    assert len(found.opened) == 1
    assert [entry.path for entry in found.entries] == ["images/x0.nii.gz"]
    reasons = dict(found.unreadable)
    assert "x1.nii.gz" in reasons["images/x1.nii.gz"]
    assert "(5, 8, 7)" in reasons["images/x2.nii.gz"]
    assert "grid is not that of its image" in reasons["images/x3.nii.gz"]


def test_a_folder_in_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    trees.write_nifti(tmp_path / "x.nii.gz", np.full((4, 4, 4), np.nan, np.float32))
    with pytest.raises(DataError, match="none of the images"):
        seen(tmp_path)


def test_a_sample_is_spread_over_the_list() -> None:
    entries = [Entry(str(n), "image", f"{n}.nii") for n in range(100)]
    places = [int(entry.subject) for entry in spread(entries, 5)]
    assert places == [0, 25, 50, 74, 99]
    assert spread(entries[:4], 5) == entries[:4]
