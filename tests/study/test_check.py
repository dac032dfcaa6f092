"""What is said before any training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.study.conftest import Seen
from voxseq.config.datasets import DataConfig
from voxseq.study.check import findings
from voxseq.study.division import divide
from voxseq.study.look import ImageFacts, Look

CLASS = {"entry": {"label": 1}, "voxels": {}}


def said(look: Look, *, pretrain_only: bool = False) -> list[tuple[str, bool]]:
    found = findings(look, divide(look, DataConfig()), pretrain_only=pretrain_only)
    return [(finding.text, finding.is_fatal) for finding in found]


def test_sound_images_give_nothing_to_say(seen: Seen) -> None:
    assert said(seen(names={1: "a", 2: "b"})) == []
    assert said(seen(voxels={}), pretrain_only=True) == []


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"count": 2}, "2 subjects cannot be divided"),
        ({"voxels": {}}, "no labels to fine-tune on"),
        ({"voxels": {0: 60_000}}, "nothing but background"),
        ({"names": {1: "a"}}, "label 2 occurs in 8 images"),
        (CLASS, "all images are of the class class 1"),
        ({"entry": {"value": 3.0}, "voxels": {}}, "the same number"),
        ({"unreadable": (("x.nii", "x.nii: damaged"),) * 20}, "x.nii: damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_ends_a_study_is_said_first(seen: Seen, facts: dict[str, Any], word: str) -> None:
    (text, is_fatal), *_ = said(seen(**facts))
    assert word in text
    assert is_fatal


def test_without_labels_nothing_is_said_of_the_splits(seen: Seen) -> None:
    fatal = [text for text, is_fatal in said(seen(count=2, voxels={})) if is_fatal]
    assert len(fatal) == 1
    assert "no labels to fine-tune on" in fatal[0]


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"count": 12}, "scores come from"),
        ({"names": {1: "a", 2: "b", 3: "c"}}, "no image shows c (label 3), of 8"),
        ({"voxels": {0: 60_000, 1: 1_600, 2: 3}}, "has 3 voxels in an image"),
        ({"voxels": {0: 60_000, 1: 1_600, 2: 1}}, "has 1 voxel in an image"),
        ({"quantiles": (-1000.0, 0.0, 900.0)}, "--modality CT"),
        ({"modality": "CT"}, "--modality MRI"),
        ({"unreadable": (("x.nii", "x.nii: damaged"),)}, "x.nii: damaged"),
        ({"remarks": ("a.nii: odd",)}, "a.nii: odd"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_study_can_live_with_is_a_note(seen: Seen, facts: dict[str, Any], word: str) -> None:
    found = said(seen(**facts))
    assert any(word in text for text, _ in found)
    assert not any(is_fatal for _, is_fatal in found)


def test_images_without_a_segmentation_among_others_are_counted(seen: Seen) -> None:
    whole = seen().opened
    bare = ImageFacts(whole[0].shape, whole[0].spacing, whole[0].quantiles)
    assert "2 of 10 images without a segmentation" in said(seen(opened=(*whole, bare, bare)))[0][0]


@pytest.mark.parametrize(("damaged", "is_fatal"), [(2, False), (3, True)])
def test_as_many_usable_images_are_asked_for_as_by_the_run(
    seen: Seen, damaged: int, is_fatal: bool
) -> None:
    left = 12 - damaged
    whole = seen(count=left, opened=seen(count=left).opened[:1] * left)
    (text, fatal), *_ = said(replace(whole, unreadable=(("x", "x: truncated"),) * damaged))
    assert (f"{damaged} of 12 images" in text, fatal) == (True, is_fatal)
    assert ("less than 80% are usable" in text) == is_fatal
    # Of a sample nothing is certain.
    sample = replace(whole, entries=seen().entries, unreadable=(("x", "x: truncated"),) * damaged)
    assert not any(fatal for _, fatal in said(sample))


def test_few_images_are_said_to_teach_little(seen: Seen) -> None:
    assert "teach an encoder little" in said(seen(count=5), pretrain_only=True)[0][0]
    assert said(seen(count=1), pretrain_only=True)[0][1]


def test_an_empty_split_of_given_lists_ends_a_study(seen: Seen) -> None:
    listed = seen(entry={"split": "train"})
    assert said(listed)[0] == ("the test split has no subject: correct the lists", True)
