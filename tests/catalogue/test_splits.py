"""Properties of the splits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxseq.catalogue.splits import crossing, hold_out, joined_subjects, part_sizes, ratio_split

RATIO = (0.7, 0.1, 0.2)
subjects = st.sets(st.text(min_size=1, max_size=8), max_size=60)
seeds = st.integers(0, 2**31)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (131, (92, 13, 26)),
        (63, (44, 6, 13)),
        (281, (197, 28, 56)),
        (303, (212, 30, 61)),
        (41, (29, 4, 8)),
        (126, (88, 13, 25)),
    ],
)
def test_the_tasks_of_the_decathlon_get_the_expected_sizes(
    count: int, sizes: tuple[int, int, int]
) -> None:
    assert part_sizes(count, RATIO) == sizes


@given(subjects, seeds)
def test_every_subject_is_in_one_part_and_no_part_is_empty(names: set[str], seed: int) -> None:
    parts = ratio_split(names, RATIO, seed)
    assert set(parts) == names
    counts = tuple(sum(p == part for p in parts.values()) for part in ("train", "val", "test"))
    assert counts == part_sizes(len(names), RATIO)
    if len(names) >= 3:
        assert min(counts) >= 1


@given(st.lists(st.text(min_size=1, max_size=8), max_size=40), seeds)
def test_order_and_repetition_of_the_names_do_not_matter(names: list[str], seed: int) -> None:
    assert ratio_split(names, RATIO, seed) == ratio_split(names[::-1] + names, RATIO, seed)
    assert hold_out(names, 0.1, seed) == hold_out(names[::-1] + names, 0.1, seed)


@given(st.sets(st.integers(0, 10_000), min_size=20, max_size=80), seeds)
def test_leaving_one_subject_out_moves_only_those_at_the_borders(
    numbers: set[int], seed: int
) -> None:
    names = sorted(str(n) for n in numbers)
    before = ratio_split(names, RATIO, seed)
    after = ratio_split(names[1:], RATIO, seed)
    assert sum(before[n] != after[n] for n in names[1:]) <= 3


@given(subjects, seeds, st.floats(0.01, 1.0))
def test_a_validation_part_leaves_something_to_train_on(
    names: set[str], seed: int, fraction: float
) -> None:
    chosen = hold_out(names, fraction, seed)
    assert chosen <= names
    if len(names) >= 2:
        assert 1 <= len(chosen) < len(names)


def test_eight_of_the_eighty_training_cases_of_la_are_held_out() -> None:
    assert len(hold_out([f"case{n}" for n in range(80)], 0.1, 0)) == 8


def test_other_seeds_give_other_splits() -> None:
    names = [f"case{n}" for n in range(40)]
    assert len({tuple(ratio_split(names, RATIO, seed).items()) for seed in range(5)}) == 5


@given(
    st.lists(
        st.tuples(st.integers(0, 15).map(str), st.integers(0, 12).map(str)),
        min_size=1,
        max_size=60,
    ),
    seeds,
)
def test_no_image_is_in_two_parts(images: list[tuple[str, str]], seed: int) -> None:
    joined = joined_subjects(images)
    parts = ratio_split({s for s, _ in images}, RATIO, seed, joined)
    where: dict[str, set[str]] = {}
    for subject, content in images:
        where.setdefault(content, set()).add(parts[subject])
    assert all(len(found) == 1 for found in where.values())


def test_subjects_that_share_images_are_joined_through_others() -> None:
    images = [("a", "1"), ("b", "1"), ("b", "2"), ("c", "2"), ("d", "3"), ("d", "4")]
    assert joined_subjects(images) == [["a", "b", "c"]]


def test_a_crossing_names_the_later_part() -> None:
    images = [("t1", "train", "x"), ("v1", "val", "x"), ("e1", "test", "x"), ("t2", "train", "y")]
    assert crossing(images) == {"t1": "e1", "v1": "e1"}
