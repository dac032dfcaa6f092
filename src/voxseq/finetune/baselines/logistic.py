"""Logistic regression on a few numbers per case, its penalty chosen on the validation split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxseq.config.finetune import ClassificationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.classification import Array
from voxseq.finetune.baselines.penalties import best_penalty
from voxseq.finetune.classification import scored, write_scores
from voxseq.finetune.recipe import Splits

#: Inverse strength of the L2 penalty; features have unit variance.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
_ITERATIONS = 5000


def fit_logistic(
    out: Path,
    features: dict[str, Array],
    recipe: ClassificationRecipe,
    volumes: Volumes,
    splits: Splits,
) -> dict[str, Any]:
    """Fit on the training cases, choose the penalty by validation AUC, score the test cases once.

    Of equal validation scores the stronger penalty is taken. Features are standardised by the
    training cases. With ``class_balanced_loss`` classes weigh the same.

    Args:
        out: folder that gets the scores of both splits.
        features: (n, d) of the splits "train", "val" and "test", in the order of their rows.
        recipe: of the task.
        volumes: give the classes.
        splits: the cases.

    Returns:
        The numbers for summary.json; ``parameters`` are weights and intercept, of more than two
        classes for each.
    """
    # Importing it takes a second, which every fine-tuning would wait for.
    from sklearn.linear_model import LogisticRegression

    weight = "balanced" if recipe.class_balanced_loss else None
    best = best_penalty(
        (
            (strength, LogisticRegression(C=strength, class_weight=weight, max_iter=_ITERATIONS))
            for strength in PENALTIES
        ),
        features["train"],
        [volumes.target(row) for row in splits.train],
        lambda model: scored(volumes, splits.val, model.predict_proba(features["val"])),
        lambda split: split.scores["auc"],
    )
    test = scored(volumes, splits.test, best.model.predict_proba(features["test"]))
    write_scores(out, best.validation, test, recipe, volumes)
    parts = 1 if recipe.outputs == 2 else recipe.outputs
    return {
        "selected_by": "auc",
        "selected_step": 0,
        "validation_score": best.validation.scores["auc"],
        "penalty": best.penalty,
        "parameters": parts * (features["train"].shape[1] + 1),
    }
