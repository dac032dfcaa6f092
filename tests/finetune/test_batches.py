from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.finetune_store import (
    CLASSIFICATION,
    SEGMENTATION,
    classification_store,
    segmentation_store,
)
from tests.helpers.rows import kept
from voxseq.base.random import numpy_generator
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.finetune.batches import (
    CropRows,
    EpochOrder,
    ImageRows,
    uniform_start,
)
from voxseq.training.batches import stepwise
from voxseq.transforms.augment import Augmentation, build_augmentation
from voxseq.transforms.spatial import start_around

sides = st.tuples(*[st.integers(1, 9)] * 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmentation_store(tmp_path_factory.mktemp("batches") / "store")


def crops(store: Path, cache: int = 2**20, **changes: Any) -> CropRows:
    recipe = SegmentationRecipe.model_validate({**SEGMENTATION, **changes})
    volumes = Volumes(store, cache)
    chain = build_augmentation(recipe.augmentation, recipe.roi)
    return CropRows(volumes, volumes.rows("train"), recipe, chain, seed=0)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=12, unique=True), st.integers(0, 3))
def test_every_epoch_is_a_permutation(rows: list[int], seed: int) -> None:
    order = EpochOrder(rows, seed)
    n = len(rows)
    for epoch in (0, 1, 7):
        assert sorted(order[epoch * n + i] for i in range(n)) == sorted(rows)
    assert EpochOrder(rows, seed)[5 * n] == order[5 * n]


def test_epochs_differ() -> None:
    order = EpochOrder(range(30), 0)
    assert [order[i] for i in range(30)] != [order[30 + i] for i in range(30)]


@given(sides, sides, st.data())
def test_crop_holds_its_centre_and_stays_inside(
    shape: tuple[int, int, int], roi: tuple[int, int, int], data: st.DataObject
) -> None:
    centre = np.array([data.draw(st.integers(0, s - 1)) for s in shape])
    start = start_around(centre, shape, roi)
    for c, first, s, r in zip(centre, start, shape, roi, strict=True):
        assert 0 <= first <= c < first + r
        assert first + r <= max(s, r)
        if r // 2 <= c <= s - (r - r // 2):
            assert c - first == r // 2
    free = uniform_start(shape, roi, np.random.default_rng(0))
    assert all(0 <= f <= max(s - r, 0) for f, s, r in zip(free, shape, roi, strict=True))


def test_uniform_start_reaches_every_place() -> None:
    rng = np.random.default_rng(0)
    seen = {uniform_start((4, 3, 2), (2, 2, 2), rng) for _ in range(200)}
    assert seen == {(x, y, 0) for x in range(3) for y in range(2)}


def test_classes_are_drawn_with_equal_chances(store: Path) -> None:
    make = crops(store)
    row = make.volumes.rows("train")[0]
    label = make.volumes.label(row)
    drawn = [label[tuple(make._centre(row, numpy_generator(1, n)))] for n in range(900)]
    counts = np.bincount(drawn, minlength=3)
    assert (np.bincount(label.ravel()) / label.size).max() > 0.6
    np.testing.assert_allclose(counts / 900, 1 / 3, atol=0.06)


def test_batch_is_a_function_of_the_step_and_the_seed(store: Path) -> None:
    make, fresh = crops(store), crops(store)
    [make(step) for step in range(4)]
    assert same(make(2), fresh(2))
    assert not same(make(2), make(3))
    other = CropRows(fresh.volumes, [0, 1, 2], fresh.recipe, Augmentation(), seed=1)
    assert not same(make(2), other(2))


def test_a_volume_that_comes_again_is_cropped_anew(store: Path) -> None:
    recipe = crops(store).recipe
    make = CropRows(Volumes(store), [0], recipe, build_augmentation("la", recipe.roi), seed=0)
    seen = {image.numpy().tobytes() for step in range(5) for image in make(step)["image"]}
    assert len(seen) == 20
    images = ImageRows(Volumes(store), [0], 4, build_augmentation("la", (12, 10, 8)), seed=0)
    seen = {image.numpy().tobytes() for step in range(5) for image in images(step)["image"]}
    assert len(seen) > 10


def test_volumes_come_in_epochs_and_crops_in_groups(store: Path) -> None:
    make = crops(store)
    ids = torch.cat([make(step)["ids"] for step in range(3)])
    assert torch.equal(ids[0::2], ids[1::2])
    assert sorted(ids[0::2].tolist()) == list(make.volumes.rows("train"))


def test_cache_does_not_change_a_bit(store: Path) -> None:
    for step in range(3):
        assert same(crops(store)(step), crops(store, cache=0)(step))
        # Room for some volumes only.
        assert same(crops(store)(step), crops(store, cache=10_000)(step))


def plain_batch(make: CropRows, step: int) -> dict[str, torch.Tensor]:
    """A batch of crops the obvious way: pad whole volumes, cut, augment, stack."""
    recipe, volumes, roi = make.recipe, make.volumes, make.recipe.roi
    images, labels, ids = [], [], []
    for slot in range(recipe.volumes_per_batch * recipe.crops_per_volume):
        row = make.order[step * recipe.volumes_per_batch + slot // recipe.crops_per_volume]
        rng = numpy_generator(make.seed, "crop", step, slot)
        whole = volumes.image(row), volumes.label(row)
        if recipe.crop_sampling == "class_balanced":
            places = volumes.locations(row)
            chosen = places[sorted(places)[rng.integers(len(places))]]
            start = start_around(chosen[rng.integers(len(chosen))], whole[1].shape, roi)
        else:
            start = uniform_start(whole[1].shape, roi, rng)
        window = (..., *[slice(a, a + r) for a, r in zip(start, roi, strict=True)])
        end = [(0, r) for r in roi]
        image, label = np.pad(whole[0], [(0, 0), *end])[window], np.pad(whole[1], end)[window]
        image, label = make.augmentation(image, label, rng)
        images.append(image)
        labels.append(label.astype(np.uint8))
        ids.append(row)
    return {
        "image": torch.from_numpy(np.stack(images)),
        "label": torch.from_numpy(np.stack(labels)[:, None]),
        "ids": torch.tensor(ids),
    }


@pytest.mark.parametrize("augmentation", ["none", "msd", "la"])
@pytest.mark.parametrize("sampling", ["uniform", "class_balanced"])
@pytest.mark.parametrize("roi", [(8, 8, 4), (16, 16, 6)])
def test_batch_is_that_of_the_plain_way_to_the_bit(
    store: Path, augmentation: str, sampling: str, roi: tuple[int, int, int]
) -> None:
    """Crops inside their volumes, and crops that are padded with zeros at the end of some axes."""
    settings = {"augmentation": augmentation, "crop_sampling": sampling, "roi": roi}
    for cache in (0, 2**20):
        make = crops(store, cache, **settings)
        for step in range(6):
            batch = make(step)
            assert same(batch, plain_batch(make, step))
            assert batch["image"].shape == batch["label"].shape == (4, 1, *roi)
            assert (batch["image"].dtype, batch["label"].dtype) == (torch.float32, torch.uint8)


def test_a_batch_is_nobody_elses_memory(store: Path) -> None:
    """Neither another batch's nor the kept volumes'."""
    make = crops(store, augmentation="none")
    first = make(0)
    kept = {key: value.clone() for key, value in first.items()}
    again = make(0)
    again["image"].zero_()
    again["label"].zero_()
    assert same(first, kept)
    assert same(make(0), kept)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augmentation", ["msd", "la"])
def test_workers_and_start_do_not_change_a_bit(
    store: Path, workers: int, augmentation: str
) -> None:
    make = crops(store, augmentation=augmentation)
    make(0)
    state = torch.get_rng_state()
    batches = kept(stepwise(make, 2, 5, workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(batches) == 3
    fresh = crops(store, augmentation=augmentation)
    assert all(same(batch, fresh(step)) for step, batch in enumerate(batches, 2))


def test_images_keep_their_class(tmp_path: Path) -> None:
    volumes = Volumes(classification_store(tmp_path / "store"))
    rows = volumes.rows("train")
    make = ImageRows(volumes, rows, CLASSIFICATION["batch_size"], Augmentation(), seed=0)
    for step in range(4):
        batch = make(step)
        assert batch["image"].shape == (4, 1, 8, 8, 8)
        for image, target, row in zip(batch["image"], batch["target"], batch["ids"], strict=True):
            np.testing.assert_array_equal(image.numpy(), volumes.image(int(row)))
            assert int(target) == volumes.target(int(row))


def test_rows_are_in_the_order_of_their_ids(store: Path) -> None:
    volumes = Volumes(store)
    names = [volumes.name(row) for row in volumes.rows("test")]
    assert names == ["d/test0", "d/test1", "d/test2"]
