from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from voxseq.base.errors import DataError
from voxseq.evaluation.classification import accuracy, auc, auc_per_class, macro_auc, scores

cases = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 10).map(lambda n: n / 10)), min_size=2, max_size=20
)


@given(cases)
def test_auc_is_the_share_of_ordered_pairs(pairs: list[tuple[int, float]]) -> None:
    target, probability = (np.array(column) for column in zip(*pairs, strict=True))
    positive, negative = probability[target == 1], probability[target == 0]
    assume(len(positive) and len(negative))
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auc(target, probability) == pytest.approx(np.mean(wins))


@given(cases)
def test_accuracy_is_the_share_on_the_right_side(pairs: list[tuple[int, float]]) -> None:
    target, probability = (np.array(column) for column in zip(*pairs, strict=True))
    right = [(p > 0.5) == bool(t) for t, p in pairs]
    both = np.stack([1 - probability, probability], axis=1)
    assert accuracy(target, both) == pytest.approx(np.mean(right))


@pytest.mark.parametrize("seed", range(3))
def test_auc_and_accuracy_agree_with_scikit_learn(seed: int) -> None:
    from sklearn.metrics import accuracy_score, roc_auc_score

    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, 50)
    probability = rng.uniform(size=50).round(1 + seed)
    assert auc(target, probability) == pytest.approx(roc_auc_score(target, probability))
    both = np.stack([1 - probability, probability], axis=1)
    assert accuracy(target, both) == accuracy_score(target, probability > 0.5)
    assert scores(target, both) == {
        "auc": auc(target, probability),
        "accuracy": accuracy(target, both),
    }


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_several_classes_agree_with_scikit_learn(seed: int) -> None:
    from sklearn.metrics import accuracy_score, roc_auc_score

    rng = np.random.default_rng(seed)
    target = rng.permutation(np.arange(40) % 4)
    probability = rng.dirichlet(np.ones(4), 40)
    areas = roc_auc_score(target, probability, multi_class="ovr", average=None)
    np.testing.assert_allclose(auc_per_class(target, probability), areas)
    assert macro_auc(target, probability) == pytest.approx(np.mean(areas))
    assert accuracy(target, probability) == accuracy_score(target, probability.argmax(1))
    # A class that a split lacks has no AUC, and the mean is over the others.
    kept = target != 2
    some = auc_per_class(target[kept], probability[kept])
    assert np.isnan(some).tolist() == [False, False, True, False]
    assert macro_auc(target[kept], probability[kept]) == pytest.approx(np.nanmean(some))


def test_auc_of_probabilities_that_are_no_numbers_is_none() -> None:
    assert np.isnan(auc(np.array([0, 1, 1]), np.array([0.1, np.nan, 0.3])))


def test_auc_of_one_class_is_refused_with_the_next_step() -> None:
    with pytest.raises(DataError, match="undefined: all 3 cases") as error:
        auc(np.ones(3), np.array([0.1, 0.2, 0.3]))
    assert "both classes" in error.value.hint
