"""Parts of a study's split, each of which can be scored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.study.conftest import Seen
from voxseq.config.datasets import DataConfig
from voxseq.data.volume import Entry
from voxseq.study.division import divide
from voxseq.study.look import Look

USUAL = DataConfig()


def classes(seen: Seen, each: int, count: int) -> Look:
    entries = tuple(
        Entry(f"p{n}", "image", f"p{n}.nii.gz", label=n % count) for n in range(each * count)
    )
    return replace(seen(voxels={}), entries=entries)


def test_the_usual_shares_are_kept_where_they_do(seen: Seen) -> None:
    found = divide(seen(), USUAL)
    assert (found.ratio, found.seed) == (USUAL.split_ratio, USUAL.split_seed)
    assert found.sizes == {"train": 28, "val": 4, "test": 8}


def test_only_usable_images_are_divided(seen: Seen) -> None:
    found = seen(count=12)
    (one, *_) = found.opened
    bare = replace(one, voxels={}, path=found.entries[3].path)
    assert sum(divide(replace(found, opened=(one, bare)), USUAL).sizes.values()) == 11


@pytest.mark.parametrize(("each", "count"), [(5, 4), (4, 3), (10, 2)])
def test_another_draw_gives_every_part_every_class(seen: Seen, each: int, count: int) -> None:
    look = classes(seen, each, count)
    found = divide(look, USUAL)
    assert not found.lacking
    # The study draws the same with what is written into its file.
    again = divide(look, DataConfig(split_ratio=found.ratio, split_seed=found.seed))
    assert again == found


def test_what_no_draw_gives_is_named(seen: Seen) -> None:
    found = divide(classes(seen, 2, 3), USUAL)
    assert set(found.lacking) <= {"train", "val", "test"}
    assert found.lacking


def test_given_lists_are_kept_and_a_validation_part_is_held_out(seen: Seen) -> None:
    listed = seen(entry={"split": "train"})
    assert divide(listed, USUAL).sizes == {"train": 36, "val": 4, "test": 0}
