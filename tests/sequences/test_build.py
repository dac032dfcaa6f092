"""The sequence index: boxes, counts, marks, and what pre-training never sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.sequence_store import (
    SOURCES,
    Image,
    build_index,
    config,
    ramp,
)
from voxseq.base.errors import DataError
from voxseq.base.files import read_json
from voxseq.config import load_config
from voxseq.plan import build_plan
from voxseq.plan.context import RunContext
from voxseq.sequences import build
from voxseq.sequences.build import lesion_box, random_boxes, with_validation

SIDES = st.integers(1, 30)
SHAPES = st.tuples(SIDES, SIDES, SIDES)
BOX = [f"{what}_{axis}" for what in ("start", "extent") for axis in "xyz"]


@settings(deadline=None)
@given(SHAPES, SHAPES, st.integers(1, 20), st.integers(0, 99))
def test_boxes_lie_inside_and_have_the_wanted_extent(
    shape: tuple[int, int, int], crop: tuple[int, int, int], count: int, seed: int
) -> None:
    boxes = random_boxes(shape, crop, count, np.random.default_rng(seed))
    assert boxes.shape == (count, 6)
    start, extent = boxes[:, :3], boxes[:, 3:]
    assert (extent == np.minimum(shape, crop)).all()
    assert (start >= 0).all()
    assert (start + extent <= shape).all()
    assert np.array_equal(boxes, random_boxes(shape, crop, count, np.random.default_rng(seed)))


def test_boxes_reach_every_place() -> None:
    boxes = random_boxes((5, 4, 9), (3, 4, 12), 400, np.random.default_rng(0))
    assert set(boxes[:, 0]) == {0, 1, 2}
    assert set(boxes[:, 1]) == {0}
    assert set(boxes[:, 2]) == {0}


@settings(deadline=None)
@given(SHAPES, st.tuples(st.integers(-5, 40), st.integers(-5, 40)), st.tuples(SIDES, SIDES))
def test_lesion_boxes_are_windows_cut_at_the_border(
    shape: tuple[int, int, int], centre: tuple[int, int], window: tuple[int, int]
) -> None:
    box = lesion_box(shape, centre, window)
    start, extent = np.array(box[:3]), np.array(box[3:])
    assert (start >= 0).all()
    assert (extent >= 1).all()
    assert (start + extent <= shape).all()
    assert (start[2], extent[2]) == (0, shape[2])
    for axis in range(2):
        wanted = set(range(centre[axis] - window[axis] // 2, centre[axis] + -(-window[axis] // 2)))
        inside = wanted & set(range(shape[axis]))
        if inside:
            assert set(range(start[axis], start[axis] + extent[axis])) == inside


def test_a_lesion_box_by_hand() -> None:
    assert lesion_box((100, 100, 7), (50, 3), (32, 32)) == [34, 0, 0, 32, 19, 7]


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 12))
def test_every_nth_row_is_for_validation(rows: int, every: int) -> None:
    marked = with_validation(pd.DataFrame({"a": np.arange(rows)}), every)
    assert np.flatnonzero(marked["validation"]).tolist() == list(range(0, rows, every))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_index(tmp_path_factory.mktemp("sequences"), config(), SOURCES)[0]


def test_spatial_counts_and_boxes(index: Path) -> None:
    """A volume thinner than the crop gives int(6 / 1.5) = 4 crops (published code)."""
    table = pd.read_parquet(index / "spatial.parquet")
    assert table.groupby("row").size().tolist() == [6, 6, 6, 4]
    for row, boxes in table.groupby("row"):
        shape = SOURCES["amos22"][int(str(row))].array.shape
        start, extent = boxes[BOX[:3]].to_numpy(), boxes[BOX[3:]].to_numpy()
        assert (extent == np.minimum(shape, (10, 10, 10))).all()
        assert (start >= 0).all()
        assert (start + extent <= shape).all()
    assert len(table[BOX].drop_duplicates()) > 15


def test_contrast_rows_follow_the_configured_order(index: Path) -> None:
    table = pd.read_parquet(index / "contrast.parquet")
    assert len(table) == 2 * 5
    images = SOURCES["brats23"]
    for row in table.itertuples():
        chosen = [images[int(getattr(row, f"row_{i}"))] for i in range(4)]
        assert [image.contrast for image in chosen] == ["t1n", "t1c", "t2w", "t2f"]
        assert len({image.subject for image in chosen}) == 1


def test_draws_are_distinct_lesions_of_one_category(index: Path) -> None:
    items = pd.read_parquet(index / "semantic_items.parquet")
    draws = pd.read_parquet(index / "semantic.parquet")
    assert draws.groupby("category").size().to_dict() == {1: 7, 4: 7}
    chosen = draws[[f"item_{i}" for i in range(4)]].to_numpy()
    assert all(len(set(row)) == 4 for row in chosen)
    assert (items["category"].to_numpy()[chosen] == draws[["category"]].to_numpy()).all()
    assert len({tuple(row) for row in chosen}) > 10
    for item in items.itertuples():
        image = SOURCES["deeplesion"][int(item.row)]
        expected = lesion_box(image.array.shape, image.centre, (6, 6))
        assert [getattr(item, name) for name in BOX] == expected
        assert item.category == image.label


@pytest.mark.parametrize("members", [3, 4, 5])
def test_a_category_needs_as_many_lesions_as_a_sequence_has_patches(
    tmp_path: Path, members: int
) -> None:
    lesions = [Image(f"a{i}", ramp(0), label=1, centre=(4, 4)) for i in range(6)]
    lesions += [Image(f"b{i}", ramp(1), label=2, centre=(4, 4)) for i in range(members)]
    lesions += [Image("untyped", ramp(2), centre=(4, 4))]
    sources = {**SOURCES, "deeplesion": lesions}
    out, _ = build_index(tmp_path, config(), sources)
    draws = pd.read_parquet(out / "semantic.parquet")
    assert set(draws["category"]) == ({1} if members < 4 else {1, 2})
    assert len(pd.read_parquet(out / "semantic_items.parquet")) == 6 + members


def test_every_lesion_order_is_as_likely(tmp_path: Path) -> None:
    out, _ = build_index(tmp_path, config(semantic={"draws_per_category": 3000}), SOURCES)
    draws = pd.read_parquet(out / "semantic.parquet")
    first = draws[draws["category"] == 1][[f"item_{i}" for i in range(4)]].to_numpy()
    for place in range(4):
        shares = np.bincount(first[:, place], minlength=6) / len(first)
        np.testing.assert_allclose(shares, 1 / 6, atol=0.03)


def test_the_summary_counts_what_was_written(index: Path) -> None:
    summary = read_json(index / "summary.json")
    for name in ("spatial", "contrast", "semantic", "semantic_items"):
        assert summary[name] == len(pd.read_parquet(index / f"{name}.parquet"))
    assert summary["excluded"] == 0
    assert read_json(index / "sources.json") == ["amos22", "brats23", "deeplesion"]
    for name in ("spatial", "contrast", "semantic"):
        marks = pd.read_parquet(index / f"{name}.parquet")["validation"]
        assert np.flatnonzero(marks).tolist() == list(range(0, len(marks), 4))


def test_the_index_is_the_same_bytes_again(index: Path, tmp_path: Path) -> None:
    again, _ = build_index(tmp_path, config(), SOURCES)
    other, _ = build_index(tmp_path / "other", config(seed=4), SOURCES)
    for path in index.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()
    assert (other / "spatial.parquet").read_bytes() != (index / "spatial.parquet").read_bytes()


def test_boxes_of_a_volume_do_not_depend_on_other_volumes(tmp_path: Path) -> None:
    """A data set that grows keeps the crops it had."""
    fewer = {**SOURCES, "amos22": SOURCES["amos22"][1:]}
    tables = []
    for name, sources in (("all", SOURCES), ("fewer", fewer)):
        out, _ = build_index(tmp_path / name, config(), sources)
        tables.append(pd.read_parquet(out / "spatial.parquet"))
    one = tables[0][tables[0]["row"] > 0][BOX].to_numpy()
    assert np.array_equal(one, tables[1][BOX].to_numpy())


def test_an_incomplete_group_of_contrasts_gives_no_sequence(tmp_path: Path) -> None:
    images = [i for i in SOURCES["brats23"] if (i.subject, i.contrast) != ("p0", "t2w")]
    out, _ = build_index(tmp_path, config(), {**SOURCES, "brats23": images})
    table = pd.read_parquet(out / "contrast.parquet")
    assert len(table) == 5
    assert {images[r].subject for r in table["row_0"]} == {"p1"}


def test_a_kind_without_sequences_is_an_error(tmp_path: Path) -> None:
    images = [i for i in SOURCES["brats23"] if i.contrast != "t2w"]
    with pytest.raises(DataError, match=r"no contrast sequence can be built from brats23"):
        build_index(tmp_path, config(), {**SOURCES, "brats23": images})


def test_la_test_and_validation_images_never_enter_pretraining(root: Path, tmp_path: Path) -> None:
    """The whole way, with LA as a source of spatial sequences, from its files on disk."""
    from voxseq.config import read_yaml
    from voxseq.data import examine as download
    from voxseq.data import prepare as preprocess
    from voxseq.data.index import read_index
    from voxseq.data.store import VolumeStore

    overlay = read_yaml(root / "workflow/scales/smoke.yaml")
    overlay["sequences"]["sources!"] = [{"dataset": "la", "kind": "spatial"}]
    overlay["pretrain"]["methods!"] = {"ours": {}}
    plan = build_plan(load_config(root / "params.yaml", [overlay]))
    folders: dict[str, Path] = {}
    for name in ("download/la/s0", "preprocess/source/la/s0", "sequences/all/s0"):
        run = plan.runs[name]
        folders[name] = tmp_path / name
        folders[name].mkdir(parents=True)
        state = tmp_path / "state" / name
        state.mkdir(parents=True)
        inputs = {i: folders[i] for i in run.inputs if i in folders}
        context = RunContext(name, run.config, folders[name], state, inputs, None)
        {"download": download, "preprocess": preprocess, "sequences": build}[run.action].execute(
            context
        )
    rows = read_index(folders["download/la/s0"])
    by_split = {s: set(rows.loc[rows["split"] == s, "content_hash"]) for s in set(rows["split"])}
    assert set(by_split) == {"train", "val", "test"}
    prepared = VolumeStore(folders["preprocess/source/la/s0"]).table.to_pandas()
    table = pd.read_parquet(folders["sequences/all/s0"] / "spatial.parquet")
    used = prepared.iloc[sorted(set(table["row"]))]
    assert set(used["content_hash"]) == by_split["train"]
    assert not set(used["content_hash"]) & (by_split["val"] | by_split["test"])
    # Nor do they lie in the store unnoticed: each is left out of it, or listed as excluded.
    excluded = pd.read_csv(folders["sequences/all/s0"] / "excluded.csv")
    stored = prepared.loc[~prepared["volume_id"].isin(excluded["volume_id"])]
    assert not set(stored["content_hash"]) & (by_split["val"] | by_split["test"])
