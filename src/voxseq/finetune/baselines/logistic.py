"""Logistic regression on a few numbers a case, its penalty chosen on the validation split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from voxseq.config.finetune import ClassificationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.classification import Array
from voxseq.finetune.classification import SplitScore, scored
from voxseq.finetune.recipe import Splits

#: Inverse strength of the L2 penalty; features have unit variance.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
_ITERATIONS = 5000


@dataclass(frozen=True)
class Regression:
    """The chosen regression.

    Attributes:
        penalty: one of ``PENALTIES``.
        validation: scores by which it was chosen.
        test: scores of the test split.
        parameters: weights and intercept.
    """

    penalty: float
    validation: SplitScore
    test: SplitScore
    parameters: int

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json says of it."""
        return {
            "selected_by": "auc",
            "selected_step": 0,
            "validation_score": self.validation.scores["auc"],
            "penalty": self.penalty,
        }


def regress(
    features: dict[str, Array], recipe: ClassificationRecipe, volumes: Volumes, splits: Splits
) -> Regression:
    """Fit on the training cases, choose the penalty by validation AUC, score the test cases once.

    Of equal validation scores the stronger penalty is taken. Features are standardised by the
    training cases. With ``class_balanced_loss`` classes weigh the same.

    Args:
        features: (n, d) of the splits "train", "val" and "test", in the order of their rows.
        recipe: of the task.
        volumes: give the classes.
        splits: the cases.

    Raises:
        DataError: the training cases are of one class.
    """
    target = [volumes.target(row) for row in splits.train]
    best: tuple[float, Pipeline, SplitScore] | None = None
    for penalty in PENALTIES:
        model = make_pipeline(
            StandardScaler(),
            LogisticRegression(
                C=penalty,
                class_weight="balanced" if recipe.class_balanced_loss else None,
                max_iter=_ITERATIONS,
            ),
        ).fit(features["train"], target)
        validation = scored(volumes, splits.val, _probability(model, features["val"]))
        if best is None or validation.scores["auc"] > best[2].scores["auc"]:
            best = penalty, model, validation
    assert best is not None, "there are penalties"
    penalty, model, validation = best
    test = scored(volumes, splits.test, _probability(model, features["test"]))
    return Regression(penalty, validation, test, features["train"].shape[1] + 1)


def _probability(model: Pipeline, features: Array) -> Array:
    chances: Array = model.predict_proba(features)[:, 1]
    return chances
