"""Slices of a case that a run keeps: which ones, how large, and what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.finetune_store import write_store
from voxseq.data.task_volumes import Volumes
from voxseq.finetune import pictures

SHAPE = (12, 10, 40)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    return Volumes(write_store(tmp_path_factory.mktemp("s") / "store", [("test", -1, image, None)]))


def mask(*planes: int, size: int = 3) -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    for plane in planes:
        found[:size, :2, plane] = 1
    return found


def test_slices_are_spread_over_truth_and_prediction(volumes: Volumes) -> None:
    truth = mask(*range(5, 20))
    truth[6, 6, 11] = 1
    kept = pictures.segmented(volumes, 0, truth, mask(*range(10, 30)))
    numbers = kept["numbers"].tolist()
    assert (numbers[0], numbers[-1], len(numbers)) == (5, 29, pictures.SLICES)
    assert numbers[int(kept["main"])] == 11
    assert int(kept["depth"]) == SHAPE[2]
    np.testing.assert_array_equal(kept["image"], volumes.image(0)[0][..., numbers])
    one = pictures.segmented(volumes, 0, truth, truth, count=1)
    assert one["numbers"].tolist() == [11]
    nothing = pictures.segmented(volumes, 0, mask(), mask())
    assert nothing["numbers"].tolist() == [0]


def test_large_slices_are_thinned(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "SIDE", 5)
    kept = pictures.segmented(volumes, 0, mask(3), mask(4))
    assert kept["image"].shape == kept["truth"].shape == (4, 4, 2)
    np.testing.assert_allclose(kept["spacing"], np.array(volumes.spacing(0)) * (3, 3, 1))


def test_an_image_of_one_class_is_shown_from_end_to_end(volumes: Volumes) -> None:
    kept = pictures.whole(volumes, 0, np.array(1), np.array(0))
    numbers = kept["numbers"].tolist()
    assert (numbers[0], numbers[int(kept["main"])], numbers[-1]) == (0, 20, 39)
    assert kept["truth"].shape == ()


def test_errors_in_millimetres_and_millilitres(volumes: Volumes) -> None:
    truth, guess = mask(5), mask(5, 6)
    errors = pictures.errors_of(volumes, 0, truth, guess, 2, {})
    voxel = float(np.prod(volumes.spacing(0))) / 1000
    np.testing.assert_allclose(errors["volumes"], voxel * np.array([[6, 0], [12, 0]]))
    assert errors["hd95"][0] == pytest.approx(volumes.spacing(0)[2])
    assert np.isnan(errors["hd95"][1])
    known = pictures.errors_of(volumes, 0, truth, guess, 2, {"hd95": np.array([7.0, 8.0])})
    assert known["hd95"].tolist() == [7.0, 8.0]
