"""Small pictures: what they do not depend on, and which images pass as copies."""

from __future__ import annotations

import itertools
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxseq.data import grid as resample
from voxseq.data import same_picture
from voxseq.data.checks import Measured
from voxseq.data.index import index_row
from voxseq.data.same_picture import (
    SAME_PICTURE,
    Pictures,
    copies,
    detail_correlation,
    pictures,
    repeated,
)
from voxseq.data.thumbnail import (
    DETAIL_SIDE,
    SIDE,
    SIZE,
    packed_detail,
    small_pictures,
    unpacked_detail,
)
from voxseq.data.volume import Array, Entry, Volume, scaling_affine

ORIENTATIONS = [
    codes
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]


def body(seed: int, shape: tuple[int, int, int] = (40, 36, 24)) -> Array:
    """A smooth picture with noise, in whole numbers."""
    rng = np.random.default_rng(seed)
    coarse = resample.linear(rng.normal(0, 300, (6, 5, 4)).astype(np.float32), shape)
    return (coarse + rng.normal(0, 20, shape)).astype(np.int16)


def stored_as(volume: Volume, codes: tuple[str, str, str]) -> Volume:
    """The same image with its voxels in another order."""
    here = nibabel.orientations.io_orientation(volume.affine)
    change = nibabel.orientations.ornt_transform(here, nibabel.orientations.axcodes2ornt(codes))
    array = nibabel.orientations.apply_orientation(volume.array, change)
    way = nibabel.orientations.inv_ornt_aff(change, volume.array.shape)
    return Volume(array, volume.affine @ way)


def thumbnail(volume: Volume) -> Array:
    return small_pictures(volume)[0]


def row_of(volume: Volume) -> dict[str, Any]:
    """What the index says about an image."""
    return index_row("any", Entry("subject", "scan", "path"), volume, Measured(0.0, 0.0, ""))


def shown(*volumes: Volume) -> Pictures:
    """Pictures of as many persons."""
    return of_persons([f"{number}" for number in range(len(volumes))], *volumes)


def of_persons(persons: list[str], *volumes: Volume) -> Pictures:
    return pictures(pd.DataFrame([row_of(volume) for volume in volumes]), persons)


# The thumbnail


@given(
    seed=st.integers(0, 99),
    codes=st.sampled_from(ORIENTATIONS),
    shape=st.tuples(*[st.integers(1, 21)] * 3),
)
def test_the_order_in_which_voxels_are_stored_does_not_matter(
    seed: int, codes: tuple[str, str, str], shape: tuple[int, int, int]
) -> None:
    volume = Volume(body(seed, shape), scaling_affine((0.7, 0.8, 2.5)))
    one, other = row_of(volume), row_of(stored_as(volume, codes))
    np.testing.assert_allclose(one["thumbnail"], other["thumbnail"], atol=2e-4)
    details = [unpacked_detail(str(row["detail"])).astype(int) for row in (one, other)]
    assert np.abs(details[0] - details[1]).max() <= 1
    both = pictures(pd.DataFrame([one, other]), ["one", "other"])
    np.testing.assert_allclose(both.sides[0], both.sides[1])


@given(
    seed=st.integers(0, 99),
    factor=st.floats(0.01, 100),
    offset=st.floats(-1e4, 1e4),
    order=st.sampled_from("CF"),
)
def test_scale_offset_type_and_layout_in_memory_do_not_matter(
    seed: int, factor: float, offset: float, order: str
) -> None:
    array = body(seed)
    changed = np.asarray(array * factor + offset, dtype=np.float64, order=order)  # type: ignore[call-overload]
    one = thumbnail(Volume(array, np.eye(4)))
    np.testing.assert_allclose(thumbnail(Volume(changed, np.eye(4))), one, atol=2e-4)


@given(shape=st.tuples(*[st.integers(1, 40)] * 3), seed=st.integers(0, 99))
def test_every_shape_gives_mean_zero_and_spread_one(shape: tuple[int, int, int], seed: int) -> None:
    result = thumbnail(Volume(body(seed, shape), np.eye(4)))
    assert result.shape == (SIZE,)
    assert result.dtype == np.float32
    if result.any():
        assert abs(result.mean()) < 1e-3
        assert abs(result.std() - 1) < 1e-3
    else:
        assert shape == (1, 1, 1)


def test_boxes_are_means_over_equal_parts_of_the_extent() -> None:
    """12 voxels and 8 boxes: a box holds one voxel and a half."""
    profile = np.arange(12.0)
    array = np.broadcast_to(profile[:, None, None], (12, 9, 10))
    expected = np.repeat(profile, 2).reshape(SIDE, 3).mean(axis=1)
    result = thumbnail(Volume(array, np.eye(4))).reshape(SIDE, SIDE, SIDE)
    wanted = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(
        result, np.broadcast_to(wanted[:, None, None], result.shape), atol=1e-4
    )


def test_the_detail_spans_its_levels_and_is_unpacked_as_it_was() -> None:
    detail = small_pictures(Volume(body(0), np.eye(4)))[1]
    assert detail.shape == (DETAIL_SIDE,) * 3
    assert (detail.min(), detail.max()) == (0, 255)
    np.testing.assert_array_equal(unpacked_detail(packed_detail(detail)), detail)


@pytest.mark.parametrize("value", [0, 7.3, -1024, 1e30])
def test_a_constant_image_has_no_picture_and_no_copy(value: float) -> None:
    volume = Volume(np.full((9, 11, 13), value, np.float32), np.eye(4))
    assert not thumbnail(volume).any()
    assert repeated(shown(volume, volume)) == []


def test_values_that_are_not_finite_do_not_spread() -> None:
    array = body(0).astype(np.float32)
    array[3, 4, 5] = np.nan
    array[6, 7, 8] = np.inf
    result = thumbnail(Volume(array, np.eye(4)))
    assert np.isfinite(result).all()
    assert result @ thumbnail(Volume(body(0), np.eye(4))) / SIZE > 0.98


# Copies

#: What was done to a copy that must be found.
COPIES = {
    "other storage": lambda v: stored_as(v, ("L", "S", "P")),
    "float": lambda v: Volume(v.array.astype(np.float32) / 7, v.affine),
    "other spacing": lambda v: resampled(v, (30, 27, 18)),
    "half as fine": lambda v: resampled(v, (20, 18, 12)),
    "finer": lambda v: resampled(v, (60, 54, 36)),
    "one slice less": lambda v: Volume(v.array[:, :, 1:], v.affine),
    "cut at every side": lambda v: Volume(v.array[1:-1, 1:-1, 1:-1], v.affine),
    "noise": lambda v: Volume(
        v.array + np.random.default_rng(1).normal(0, 15, v.array.shape), v.affine
    ),
    "window": lambda v: Volume(np.clip(v.array, -300, 300), v.affine),
    "gamma": lambda v: Volume(np.sqrt(v.array.astype(np.float32) + 2000), v.affine),
}


def resampled(volume: Volume, shape: tuple[int, int, int]) -> Volume:
    spacing = np.array(volume.spacing) * volume.array.shape / np.array(shape)
    return Volume(resample.linear(volume.array, shape), scaling_affine(tuple(spacing)))


@pytest.mark.parametrize("kind", COPIES)
def test_an_altered_copy_is_found(kind: str) -> None:
    others = [Volume(body(seed), scaling_affine((1, 1, 3))) for seed in range(1, 6)]
    original = Volume(body(0), scaling_affine((1, 1, 3)))
    held_out = shown(*others[:2], original, *others[2:])
    sources = of_persons(list("abc"), COPIES[kind](original), others[4], others[0])
    found, correlation = copies(sources, held_out)
    assert found.tolist() == [2, 5, 0]
    assert correlation[0] >= SAME_PICTURE


def test_other_images_of_the_same_size_are_not_copies() -> None:
    images = [Volume(body(seed), np.eye(4)) for seed in range(40)]
    assert repeated(shown(*images)) == []
    found, correlation = copies(of_persons(list("abcde"), *images[:5]), shown(*images[5:]))
    assert (found == -1).all()
    assert not correlation.any()


def test_the_same_picture_at_another_size_is_no_copy() -> None:
    """A zoomed picture: the sides of a scan tell persons apart whose organs look alike."""
    array = body(0)
    one, other = Volume(array, np.eye(4)), Volume(array, scaling_affine((1, 1, 1.2)))
    assert repeated(shown(one, other)) == []


def test_the_most_similar_of_several_is_named() -> None:
    array = body(0).astype(np.float32)
    noisy = array + np.random.default_rng(0).normal(0, 60, array.shape)
    held_out = shown(Volume(noisy, np.eye(4)), Volume(array, np.eye(4)))
    assert copies(of_persons(["a"], Volume(array, np.eye(4))), held_out)[0].tolist() == [1]


def test_repeated_names_each_pair_once() -> None:
    one = Volume(body(0), np.eye(4))
    images = shown(one, Volume(body(1), np.eye(4)), stored_as(one, ("P", "S", "R")), one)
    pairs = [(a, b) for a, b, _ in repeated(images)]
    assert pairs == [(0, 2), (0, 3), (2, 3)]


def head(seed: int) -> Array:
    """A stripped head: the outline is everybody's, what is inside is its own."""
    shape = (48, 56, 44)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = sum((axis / 0.8) ** 2 for axis in axes) < 1
    own = np.random.default_rng(seed).normal(0, 120, (12, 14, 11)).astype(np.float32)
    return np.where(inside, np.maximum(1000 + resample.linear(own, shape), 1), 0)


def test_heads_of_one_outline_are_told_apart_and_their_copies_found() -> None:
    heads = [Volume(head(seed), np.eye(4)) for seed in range(4)]
    copy = Volume(head(2)[2:, 1:, :-1].astype(np.float64) * 0.3 + 5, np.eye(4))
    alike = np.corrcoef(thumbnail(heads[0]), thumbnail(heads[1]))[0, 1]
    assert alike > 0.99
    assert [(a, b) for a, b, _ in repeated(shown(*heads, copy))] == [(2, 4)]


def test_images_of_one_person_are_not_compared() -> None:
    one = Volume(body(0), np.eye(4))
    assert repeated(of_persons(["a", "a"], one, one)) == []


def test_too_little_to_see_is_no_evidence() -> None:
    flat = np.zeros((DETAIL_SIDE,) * 3, np.uint8)
    flat[:2, :2, :2] = 255
    assert detail_correlation(flat, flat, *[((32, 32, 32), (32, 32, 32))] * 2) == 0


@pytest.mark.parametrize("most", [1, 8])
def test_blocks_of_images_and_many_candidates_do_not_change_what_is_found(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many heads in one space, those whose details are most alike are compared."""
    monkeypatch.setattr(same_picture, "_BLOCK", 5)
    monkeypatch.setattr(same_picture, "_MOST", most)
    heads = [Volume(head(seed), np.eye(4)) for seed in range(12)]
    some = of_persons(list("abc"), *(Volume(heads[n].array * 2 + 1, np.eye(4)) for n in (11, 0, 7)))
    found, _ = copies(shown(*heads), some)
    assert {i: int(found[i]) for i in np.flatnonzero(found >= 0)} == {0: 1, 7: 2, 11: 0}


def test_nothing_is_a_copy_of_nothing() -> None:
    nobody = pictures(pd.DataFrame(), [])
    one = shown(Volume(body(0), np.eye(4)))
    assert copies(one, nobody)[0].tolist() == [-1]
    assert len(copies(nobody, one)[0]) == 0
    assert repeated(nobody) == []
