"""Numbers that a regression predicts, and voxels without a known class, from files to the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import trees
from voxseq.base.errors import ConfigError, DataError
from voxseq.config.data import IGNORED
from voxseq.data import examine, layouts
from voxseq.data.prepare import merge_labels
from voxseq.data.scorable import ALL_SPLITS
from voxseq.data.targets import TARGETS
from voxseq.data.task_volumes import Volumes
from voxseq.data.volume import Scan

NUMBERS = {"type": "regression", "labels": 0, "splits": ALL_SPLITS}
IMAGES = {"normalise": "zscore", "resize": [8, 8, 8]}
WINDOW = {"window": [-900, 900], "foreground_crop": False}
IGNORING = {**trees.SEGMENTATION, "splits": ALL_SPLITS, "ignore_label": 7}


def give_values(monkeypatch: pytest.MonkeyPatch, value_of: Callable[[int], float | None]) -> None:
    """Let a layout give its images numbers."""
    own = layouts.get("msd")

    def scan(*args: Any) -> Scan:
        found = own.scan(*args)
        entries = enumerate(found.entries)
        return replace(
            found, entries=tuple(replace(entry, value=value_of(n)) for n, entry in entries)
        )

    monkeypatch.setattr(examine.layouts, "get", lambda name: replace(own, scan=scan))


def test_numbers_reach_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.msd(tmp_path / "data", list("abcdefghij"))
    give_values(monkeypatch, lambda number: 20.5 + number)
    given = NUMBERS | {"splits": []}
    trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", given)
    store = trees.run_preprocess(tmp_path / "data", tmp_path, "task09_spleen", IMAGES, given)
    volumes = Volumes(store)
    values = {volumes.name(row): volumes.value(row) for row in range(10)}
    assert sorted(values) == sorted(volumes.table.to_pandas()["volume_id"])
    assert [values[name] for name in sorted(values)] == [20.5 + n for n in range(10)]
    assert volumes.held(3, "regression") == [volumes.value(3)]


def test_an_image_without_a_number_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.msd(tmp_path / "data", list("abcd"))
    give_values(monkeypatch, lambda number: None if number == 1 else float(number))
    given = NUMBERS | {"splits": []}
    out = trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", given)
    assert [reason for reason in trees.set_aside(out).values() if "no number to predict" in reason]
    assert len(trees.set_aside(out)) == 1


def test_one_number_for_all_stops_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.msd(tmp_path / "data", list("abcdefghij"))
    give_values(monkeypatch, lambda number: 1.0)
    with pytest.raises(DataError, match=r"all cases of the train split have the number 1"):
        trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", NUMBERS)


def unknown_half(folder: Path) -> None:
    """Give the first planes of every label the value of the unknown."""
    for path in (folder / "labelsTr").iterdir():
        values = trees.label()
        values[:2] = 7
        trees.write_nifti(path, values)


def test_voxels_without_a_class_reach_the_store(tmp_path: Path) -> None:
    unknown_half(trees.msd(tmp_path / "data", list("abcdefghij")))
    out = trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", IGNORING)
    assert not trees.set_aside(out)
    store = trees.run_preprocess(tmp_path / "data", tmp_path, "task09_spleen", WINDOW, IGNORING)
    volumes = Volumes(store)
    for split in ALL_SPLITS:
        row = volumes.rows(split)[0]
        assert np.unique(volumes.label(row)).tolist() == [0, 1, IGNORED]
        assert volumes.held(row, "segmentation") == [0, 1]
        if split != "train":
            assert (volumes.native_label(row)[:2] == IGNORED).all()
    assert volumes.native_spacing(0) == pytest.approx((1.0, 1.0, 1.0))


def test_an_unknown_value_that_is_not_declared_sets_aside(tmp_path: Path) -> None:
    unknown_half(trees.msd(tmp_path / "data", list("abc")))
    with pytest.raises(DataError, match="0 of 3 images"):
        trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)


def test_labels_where_nothing_is_known_have_no_foreground(tmp_path: Path) -> None:
    folder = trees.msd(tmp_path / "data", list("abc"))
    for path in (folder / "labelsTr").iterdir():
        trees.write_nifti(path, np.full_like(trees.label(), 7))
    with pytest.raises(DataError, match="no case of the train split has a foreground voxel"):
        trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", IGNORING)


def test_merging_keeps_the_unknown_apart() -> None:
    label = np.array([0, 1, 2, 9], np.uint8)
    assert merge_labels(label, {2: 1}, 1, "x", ignored=9).tolist() == [0, 1, 1, IGNORED]
    with pytest.raises(ConfigError, match="label value 2 is left"):
        merge_labels(label, {}, 1, "x", ignored=9)
    only = merge_labels(np.array([9], np.uint8), {}, 1, "x", ignored=9)
    assert only.tolist() == [IGNORED]


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_strata_of_numbers_are_neighbours(count: int) -> None:
    values = np.random.default_rng(0).permutation(count).astype(float)
    strata = TARGETS["regression"].strata([[value] for value in values])
    assert strata is not None
    ordered = [strata[place] for place in np.argsort(values)]
    assert ordered == sorted(ordered)
    assert len({*ordered}) == min(count, 4)
