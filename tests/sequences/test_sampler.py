"""Drawing sequences: a function of (seed, step, slot), and the right voxels."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.earlier_voxels import scale_percentiles
from tests.helpers.methods import small_settings
from tests.helpers.rows import kept
from tests.helpers.sequence_store import KINDS, SOURCES, direction, sampler
from voxseq.base.errors import DataError, VoxseqError
from voxseq.base.random import numpy_generator
from voxseq.data.store import VolumeStore
from voxseq.pretrain.batching import Batching, ItemRows, volumes_of
from voxseq.sequences.boxes import centred_boxes
from voxseq.sequences.raw import Raw
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.batches import stepwise
from voxseq.training.distributed import WHOLE, BatchShard
from voxseq.training.rows import Rows
from voxseq.transforms.spatial import Item, resize

SOURCE_KINDS = {"brats23": "contrast", "deeplesion": "semantic", "amos22": "spatial"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sampler")
    sampler(made)
    return made


def same(one: list[Item], two: list[Item]) -> bool:
    return len(one) == len(two) and all(
        (a.kind, a.source, a.id) == (b.kind, b.source, b.id) and np.array_equal(a.volume, b.volume)
        for a, b in zip(one, two, strict=True)
    )


def drawn(
    made: SequenceSampler, step: int, size: int, *, sequences: bool = True
) -> list[tuple[Raw, str]]:
    """What a batch is of: where its items' voxels are, and the kind of each."""
    found = []
    for slot in range(size):
        number, generator = made.choose(step, size, slot)
        raw = made.raw(number, generator, sequences=sequences)
        assert raw.number == number
        found.append((raw, kind_of(made, number)[0]))
    return found


def kind_of(made: SequenceSampler, number: int) -> tuple[str, int]:
    """Kind and table row of an entry of the training list."""
    first = 0
    for kind in made.kinds:
        rows = made._tables[kind].training
        if number < first + len(rows):
            return kind, int(rows[number - first])
        first += len(rows)
    raise IndexError(number)


def items_of(made: SequenceSampler, step: int, size: int, *, sequences: bool = True) -> list[Item]:
    """A batch as volumes."""
    return [
        Item(made.volume(raw), kind, made._names[raw.source], raw.number)
        for raw, kind in drawn(made, step, size, sequences=sequences)
    ]


def recorded(made: SequenceSampler, steps: int, size: int) -> list[tuple[str, int, int]]:
    """(kind, table row, id) of what is drawn in some steps."""
    numbers = [made.choose(step, size, slot)[0] for step in range(steps) for slot in range(size)]
    return [(*kind_of(made, number), number) for number in numbers]


def test_items_have_the_shape_and_range_of_the_configuration(folder: Path) -> None:
    made = sampler(folder)
    sources = dict(zip(KINDS, ("brats23", "deeplesion", "amos22"), strict=True))
    kinds = set()
    for sequences in (True, False):
        for item in items_of(made, 0, 40, sequences=sequences):
            kinds.add(item.kind)
            assert item.volume.shape == (8, 8, 8)
            assert item.volume.dtype == np.float32
            assert item.volume.min() >= 0
            assert item.volume.max() <= 1
            assert item.volume.std() > 0
            assert item.source == sources[item.kind]
    assert kinds == set(KINDS)


def test_a_batch_is_a_function_of_seed_and_step(folder: Path) -> None:
    straight = sampler(folder)
    batches = [items_of(straight, step, 5) for step in range(12)]
    turned = sampler(folder)
    for step in reversed(range(12)):
        assert same(items_of(turned, step, 5), batches[step])
    turned.validation(6)
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002 - the global stream must not matter
    assert same(items_of(turned, 7, 5), batches[7])
    assert same(items_of(sampler(folder), 11, 5), batches[11])
    assert not same(items_of(sampler(folder, seed=1), 0, 5), batches[0])
    assert not same(batches[0], batches[1])


def rows_of(made: SequenceSampler, shard: BatchShard = WHOLE, *, sequences: bool = True) -> Rows:
    settings = small_settings("ours", sequences=sequences)
    return ItemRows(Batching(settings, made.config, 0), made, 0, 8, shard)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_worker_processes_change_no_batch(folder: Path, workers: int) -> None:
    """Stores that the parent has open already are read by several processes at once."""
    made = sampler(folder)
    made.validation(9)
    rows = rows_of(made)
    found = kept(stepwise(rows, 2, 14, workers))
    assert len(found) == 12
    for step, batch in enumerate(found, 2):
        volumes = volumes_of(batch, made.header, made.config)
        expected = items_of(made, step, 8, sequences=False)
        assert batch["ids"].tolist() == [item.id for item in expected]
        for volume, item in zip(volumes[:, 0].numpy(), expected, strict=True):
            np.testing.assert_array_equal(volume, item.volume)


@pytest.mark.parametrize("needs", ["sequence", "image"])
def test_rows_have_room_for_every_item(folder: Path, needs: Literal["sequence", "image"]) -> None:
    made = sampler(folder)
    sequences = needs == "sequence"
    room = made.row_bytes(sequences=sequences)
    sizes = [
        made.bytes_of(made.raw(n, np.random.default_rng(0), sequences=sequences))
        for n in range(len(made))
    ]
    # The validation has items of the same kinds.
    sizes += [made.bytes_of(raw) for raw in made.validation(1000, sequences=sequences)]
    assert max(sizes) <= room
    assert room % 64 == 0
    assert room - max(sizes) < 64 or needs == "image"


@pytest.mark.parametrize("sequences", [True, False])
def test_a_row_tells_what_is_in_it_and_leaves_the_rest_alone(folder: Path, sequences: bool) -> None:
    made = sampler(folder)
    size = made.row_bytes(sequences=sequences)
    for raw, kind in drawn(made, 3, 24, sequences=sequences):
        voxels, header = np.full(size, 255, np.uint8), np.zeros(1, made.header)[0]
        made.read_into(raw, voxels, header)
        used = int(header["used"])
        assert used <= made.bytes_of(raw) <= size
        assert (voxels[used:] == 255).all()
        assert (
            int(header["parts"]) == len(raw.boxes) == (4 if sequences and kind != "spatial" else 1)
        )
        assert int(header["number"]) == raw.number
        ends = 0
        for part in header["part"][: len(raw.boxes)]:
            assert int(part["offset"]) == ends
            ends += -(-2 * int(np.prod(part["extent"])) // 8) * 8
        assert used == ends


@pytest.mark.parametrize("parts", [2, 8])
def test_a_process_reads_its_own_rows_alone(
    folder: Path, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sampler(folder)
    whole = rows_of(made)(3)
    read: list[int] = []
    real = SequenceSampler.read_into

    def counted(self: SequenceSampler, raw: Raw, voxels: Any, header: Any) -> None:
        read.append(raw.number)
        real(self, raw, voxels, header)

    monkeypatch.setattr(SequenceSampler, "read_into", counted)
    shards = [rows_of(made, BatchShard(index, parts))(3) for index in range(parts)]
    for name, values in whole.items():
        assert torch.equal(torch.cat([shard[name] for shard in shards]), values), name
    assert read == whole["ids"].tolist()


@pytest.mark.parametrize("size", [1, 4, 7])
@pytest.mark.parametrize("kinds", [KINDS, ("semantic",), ("contrast", "spatial")])
def test_every_training_sequence_comes_once_an_epoch(
    folder: Path, size: int, kinds: tuple[str, ...]
) -> None:
    made = sampler(folder, kinds)
    total = len(made)
    seen = recorded(made, -(-2 * total // size), size)
    expected = set()
    for kind in kinds:
        marks = pd.read_parquet(folder / f"index/{kind}.parquet")["validation"].to_numpy(bool)
        expected |= {(kind, int(row)) for row in np.flatnonzero(~marks)}
    assert len(expected) == total
    epochs = [[item[:2] for item in seen[i * total : (i + 1) * total]] for i in (0, 1)]
    for epoch in epochs:
        assert len(epoch) == total
        assert set(epoch) == expected
    assert epochs[0] != epochs[1]
    # An error message names an item by its number, which is the same whatever the seed.
    numbers = {number: item for *item, number in seen[:total]}
    assert set(numbers) == set(range(total))
    others = recorded(sampler(folder, kinds, seed=1), 30, size)
    assert all(numbers[number] == item for *item, number in others)


def test_without_weights_kinds_are_mixed_by_their_number(folder: Path) -> None:
    made = sampler(folder)
    seen = Counter(kind for kind, _, _ in recorded(made, len(made), 1))
    # 22, 10 and 14 sequences, of which every fourth one is for validation.
    assert seen == {"spatial": 16, "contrast": 7, "semantic": 10}


def test_weights_are_respected(folder: Path) -> None:
    weights = {"spatial": {"weight": 3}, "contrast": {"weight": 1}, "semantic": {"weight": 0}}
    made = sampler(folder, **weights)
    seen = recorded(made, 400, 10)
    count = Counter(kind for kind, _, _ in seen)
    assert count["semantic"] == 0
    assert count["spatial"] / 4000 == pytest.approx(0.75, abs=0.03)
    rows = Counter(row for kind, row, _ in seen if kind == "contrast")
    marks = pd.read_parquet(folder / "index/contrast.parquet")["validation"].to_numpy(bool)
    assert set(rows) == set(np.flatnonzero(~marks))
    assert min(rows.values()) > 0.6 * max(rows.values())
    # Those of the kinds that are left are scaled anew.
    equal = {"spatial": {"weight": 8}, "contrast": {"weight": 1}, "semantic": {"weight": 1}}
    made = sampler(folder, ("contrast", "semantic"), **equal)
    count = Counter(kind for kind, _, _ in recorded(made, 200, 10))
    assert count["contrast"] / 2000 == pytest.approx(0.5, abs=0.04)


def test_weights_that_sum_to_zero_are_refused(folder: Path) -> None:
    made = sampler(folder, **{kind: {"weight": 0} for kind in KINDS})
    with pytest.raises(DataError, match="sum to 0"):
        made.choose(0, 1, 0)


def test_validation_items_are_fixed_and_are_never_trained_on(folder: Path) -> None:
    made = sampler(folder)
    items = made.validation(9)
    assert items == sampler(folder).validation(9)
    assert items[:4] == made.validation(4)
    assert [raw.number for raw in items] == list(range(9))
    sources = [KINDS.index(SOURCE_KINDS[made._names[raw.source]]) for raw in items]
    assert sources == [0, 1, 2] * 3
    everything = made.validation(1000)
    assert Counter(SOURCE_KINDS[made._names[raw.source]] for raw in everything) == {
        "spatial": 6,
        "contrast": 3,
        "semantic": 4,
    }
    alone = sampler(folder, ("spatial",))
    places = {(raw.boxes[0].row, *raw.boxes[0].start) for raw in whole_crops(alone)}
    held = {
        (raw.boxes[0].row, *raw.boxes[0].start) for raw in alone.validation(1000, sequences=False)
    }
    assert len(held) == 6
    assert not held & places


def whole_crops(made: SequenceSampler) -> list[Raw]:
    return [made.raw(number, np.random.default_rng(0)) for number in range(len(made))]


def explicit_spatial(folder: Path, row: int, start: int) -> np.ndarray:
    """A spatial sequence by plain indexing of the source array."""
    box = pd.read_parquet(folder / "index/spatial.parquet").iloc[row]
    volume = SOURCES["amos22"][int(box["row"])].array
    low = [int(box[f"start_{a}"]) for a in "xyz"]
    size = [int(box[f"extent_{a}"]) for a in "xyz"]
    crop = volume[tuple(slice(s, s + n) for s, n in zip(low, size, strict=True))]
    scaled = scale_percentiles(resize(crop, (8, 8, 8)), (1.0, 99.9))
    slices = [start + patch + z for patch in range(4) for z in range(2)]
    return scaled[:, :, slices]


def test_spatial_sequences_slide_along_the_last_axis(folder: Path) -> None:
    """Stride 1 over depth 8: four patches of two slices, starts 0..3."""
    made = sampler(folder, ("spatial",))
    for row in (0, 7, 20):
        expected = [explicit_spatial(folder, row, start) for start in range(4)]
        seen = set()
        for number in range(40):
            item = made.read("spatial", row, np.random.default_rng(number))
            matches = [i for i, e in enumerate(expected) if np.array_equal(e, item.volume)]
            assert len(matches) == 1
            seen.add(matches[0])
        assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("crop", [(8, 8, 8), (10, 10, 10), (8, 8, 12)])
def test_the_window_alone_is_read_where_nothing_is_resized(
    tmp_path: Path, crop: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is scaled by the range of the whole crop, which the index knows."""
    changes: dict[str, Any] = {"spatial": {"crop_shape": crop, "stride": 1}}
    made = sampler(tmp_path, ("spatial",), **changes)
    shapes: list[tuple[int, ...]] = []
    read = VolumeStore.crop_into

    def counted(store: VolumeStore, index: int, start: Any, shape: Any, out: Any) -> None:
        shapes.append(tuple(shape))
        read(store, index, start, shape, out)

    monkeypatch.setattr(VolumeStore, "crop_into", counted)
    for row in (0, 7, 11):
        expected = [explicit_spatial(tmp_path, row, start) for start in range(4)]
        for number in range(6):
            shapes.clear()
            item = made.read("spatial", row, np.random.default_rng(number))
            assert sum(np.array_equal(e, item.volume) for e in expected) == 1
            # Windows of 2 slices at stride 1 reach over 5.
            assert shapes == [(8, 8, 5) if crop == (8, 8, 8) else crop]


def test_the_largest_start_can_be_limited(folder: Path) -> None:
    made = sampler(folder, ("spatial",), spatial={"max_start": 1})
    expected = [explicit_spatial(folder, 0, start) for start in (0, 1)]
    for number in range(20):
        item = made.read("spatial", 0, np.random.default_rng(number))
        assert any(np.array_equal(e, item.volume) for e in expected)


def test_contrasts_stand_in_the_configured_order(folder: Path) -> None:
    made = sampler(folder, ("contrast",))
    for item in items_of(made, 0, 10):
        patches = np.split(item.volume, 4, axis=2)
        assert [direction(patch) for patch in patches] == [0, 1, 2, 3]
        assert all((patch.min(), patch.max()) == (0, 1) for patch in patches), "scaled one by one"


def test_semantic_patches_are_the_drawn_lesions(folder: Path) -> None:
    made = sampler(folder, ("semantic",))
    draws = pd.read_parquet(folder / "index/semantic.parquet")
    items = pd.read_parquet(folder / "index/semantic_items.parquet")
    for row in range(len(draws)):
        volume = made.read("semantic", row, np.random.default_rng(0)).volume
        for place, patch in enumerate(np.split(volume, 4, axis=2)):
            item = items.iloc[int(draws.iloc[row][f"item_{place}"])]
            low = [int(item[f"start_{a}"]) for a in "xyz"]
            high = [s + int(item[f"extent_{a}"]) for s, a in zip(low, "xyz", strict=True)]
            source = SOURCES["deeplesion"][int(item["row"])].array
            crop = source[tuple(slice(s, e) for s, e in zip(low, high, strict=True))]
            expected = scale_percentiles(resize(crop, (8, 8, 2)), (1.0, 99.9))
            np.testing.assert_array_equal(patch, expected)


def test_single_images_hold_one_image_only(folder: Path) -> None:
    made = sampler(folder)
    directions = Counter()
    for step in range(6):
        for item in items_of(made, step, 10, sequences=False):
            assert item.volume.shape == (8, 8, 8)
            if item.kind != "spatial":
                found = direction(item.volume)
                assert found >= 0, "patches of one image run in one direction"
                directions[found] += 1
    assert set(directions) == {0, 1, 2, 3}


def test_a_single_spatial_image_is_the_whole_crop(folder: Path) -> None:
    box = pd.read_parquet(folder / "index/spatial.parquet").iloc[2]
    volume = SOURCES["amos22"][int(box["row"])].array
    part = tuple(
        slice(int(box[f"start_{a}"]), int(box[f"start_{a}"] + box[f"extent_{a}"])) for a in "xyz"
    )
    expected = scale_percentiles(resize(volume[part], (8, 8, 8)), (1.0, 99.9))
    for number in range(3):
        generator = np.random.default_rng(number)
        item = sampler(folder).read("spatial", 2, generator, sequences=False)
        np.testing.assert_array_equal(item.volume, expected)


def test_the_same_places_serve_sequences_and_single_images(folder: Path) -> None:
    """The ablation without sequences differs in the reading only."""
    made = sampler(folder)
    for step in range(4):
        pairs = zip(drawn(made, step, 6), drawn(made, step, 6, sequences=False), strict=True)
        assert all((a.number, a.source, k) == (b.number, b.source, m) for (a, k), (b, m) in pairs)


SIDES = st.integers(1, 20)


@settings(deadline=None)
@given(st.data(), st.tuples(SIDES, SIDES, SIDES), st.tuples(SIDES, SIDES, SIDES))
def test_a_centred_box_fits_and_keeps_the_centre_where_it_can(
    data: st.DataObject, whole: tuple[int, int, int], wanted: tuple[int, int, int]
) -> None:
    extent = tuple(data.draw(st.integers(1, n)) for n in whole)
    start = tuple(data.draw(st.integers(0, n - e)) for n, e in zip(whole, extent, strict=True))
    boxes, wholes = np.array([[*start, *extent]]), np.array([whole])
    (made,) = centred_boxes(boxes, wanted, wholes).tolist()
    low, size = made[:3], made[3:]
    for axis in range(3):
        assert size[axis] == min(wanted[axis], whole[axis])
        assert 0 <= low[axis] <= whole[axis] - size[axis]
        free = start[axis] + extent[axis] // 2 - size[axis] // 2
        if 0 <= free <= whole[axis] - size[axis]:
            assert low[axis] == free


def test_a_kind_without_training_sequences_is_refused(tmp_path: Path) -> None:
    sampler(tmp_path)
    table = tmp_path / "index/spatial.parquet"
    pd.read_parquet(table).assign(validation=True).to_parquet(table)
    with pytest.raises(DataError, match=r"validation_every"):
        sampler(tmp_path)


def test_a_damaged_store_ends_in_our_own_error(tmp_path: Path) -> None:
    made = sampler(tmp_path, ("spatial",))
    path = tmp_path / "store/amos22/volumes-000.bin"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(VoxseqError, match="damaged"):
        items_of(made, 0, 2)


def test_streams_of_different_purposes_differ() -> None:
    draws = {
        tuple(numpy_generator(*parts).integers(0, 2**31, 4))
        for parts in ((0, "a", 1), (0, "b", 1), (1, "a", 1), (0, "a", 2), (0, "a", 1, 1))
    }
    assert len(draws) == 5


def test_numbers_divide_the_list_by_modality(folder: Path) -> None:
    made = sampler(folder, seed=3)
    by_modality = {m: made.numbers(m) for m in ("CT", "MRI")}
    assert all(map(len, by_modality.values()))
    joined = np.concatenate(list(by_modality.values()))
    assert sorted(joined.tolist()) == list(range(len(made)))
    for modality, numbers in by_modality.items():
        assert (np.diff(numbers) > 0).all()
        for number in numbers:
            raw = made.raw(int(number), np.random.default_rng(0))
            assert (raw.number, raw.ct) == (int(number), modality == "CT")
            # Contrasts are MRI.
            assert (kind_of(made, int(number))[0] == "contrast") == (modality == "MRI")


def test_an_item_is_a_function_of_its_number_and_generator(folder: Path) -> None:
    made = sampler(folder, seed=3)
    away = pickle.loads(pickle.dumps(made))  # noqa: S301
    for number in range(len(made)):
        one, other = (each.raw(number, numpy_generator(0, "item", number)) for each in (made, away))
        assert one == other
        np.testing.assert_array_equal(made.volume(one), away.volume(other))
