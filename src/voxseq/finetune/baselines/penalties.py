"""The strength of a penalty, chosen on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from voxseq.data.volume import Array

Score = TypeVar("Score")


@dataclass(frozen=True)
class Fitted(Generic[Score]):
    """The model of the best penalty and its scores of the validation split."""

    penalty: float
    model: Any
    validation: Score


def best_penalty(
    models: Iterable[tuple[float, Any]],
    features: Array,
    target: list[float] | list[int],
    score: Callable[[Any], Score],
    goodness: Callable[[Score], float],
) -> Fitted[Score]:
    """Fit a model of scikit-learn for each penalty; of equal scores the first one is taken.

    Features are standardised by the training cases.

    Args:
        models: strength of each penalty, the strongest first, and the model that has it.
        features: (n, d) of the training cases.
        target: (n,) of the same.
        score: scores a fitted model on the validation split.
        goodness: more is better.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    best: Fitted[Score] | None = None
    for penalty, model in models:
        fitted = make_pipeline(StandardScaler(), model).fit(features, target)
        found = score(fitted)
        if best is None or goodness(found) > goodness(best.validation):
            best = Fitted(penalty, fitted, found)
    assert best is not None, "there are penalties"
    return best
