from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxseq.finetune.recipe import subset

ratios = st.floats(0.001, 1.0)
classes = st.lists(st.integers(0, 1), min_size=1, max_size=60)


def names(count: int) -> list[str]:
    return [f"case{n}" for n in range(count)]


@given(st.integers(1, 80), ratios, ratios, st.integers(0, 5))
def test_subsets_are_nested_and_have_the_published_number(
    count: int, first: float, second: float, seed: int
) -> None:
    small, large = sorted((first, second))
    ids = names(count)
    inner, outer = subset(ids, None, small, seed), subset(ids, None, large, seed)
    assert set(inner) <= set(outer) <= set(ids)
    assert len(inner) == max(int(count * small + 1e-9), 1)
    assert subset(ids, None, 1.0, seed) == tuple(sorted(ids))


@given(classes, ratios, ratios, st.integers(0, 5))
def test_classes_keep_their_shares(
    labels: list[int], first: float, second: float, seed: int
) -> None:
    small, large = sorted((first, second))
    ids = names(len(labels))
    class_of = dict(zip(ids, labels, strict=True))
    inner, outer = subset(ids, labels, small, seed), subset(ids, labels, large, seed)
    assert set(inner) <= set(outer)
    counts, totals = Counter(class_of[name] for name in inner), Counter(labels)
    assert set(counts) == set(totals)
    for label, total in totals.items():
        share = total * len(inner) / len(labels)
        assert abs(counts[label] - share) <= 1 or counts[label] == 1


@given(st.permutations(names(9)))
def test_order_of_the_list_does_not_matter(ids: list[str]) -> None:
    labels = [int(name[-1]) % 2 for name in ids]
    straight = [int(name[-1]) % 2 for name in names(9)]
    assert subset(ids, labels, 0.5, 3) == subset(names(9), straight, 0.5, 3)


def test_seed_decides() -> None:
    chosen = {subset(names(20), None, 0.25, seed) for seed in range(5)}
    assert len(chosen) > 1
    assert all(len(c) == 5 for c in chosen)


def test_rounding_of_the_product_takes_no_case_away() -> None:
    assert 100 * 0.29 < 29
    assert len(subset(names(100), None, 0.29, 0)) == 29


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.01])
def test_impossible_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        subset(names(3), None, ratio, 0)


@pytest.mark.parametrize("ids", [[], ["a", "a"]])
def test_no_or_repeated_cases_are_refused(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        subset(ids, None, 0.5, 0)
