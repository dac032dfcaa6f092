"""Ridge regression on a few numbers per case, its penalty chosen on the validation split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxseq.config.finetune import RegressionRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.regression import Array
from voxseq.finetune.baselines.penalties import best_penalty
from voxseq.finetune.recipe import Splits
from voxseq.finetune.regression import scored, write_scores

#: Strengths of the L2 penalty, the strongest first; features have unit variance.
PENALTIES = (1e4, 1e3, 1e2, 10.0, 1.0, 1e-1, 1e-2)


def fit_ridge(
    out: Path,
    features: dict[str, Array],
    recipe: RegressionRecipe,
    volumes: Volumes,
    splits: Splits,
) -> dict[str, Any]:
    """Fit on the training cases, choose the penalty by validation MAE, score the test cases once.

    Of equal validation scores the stronger penalty is taken. Features are standardised by the
    training cases.

    Args:
        out: folder that gets the scores of both splits.
        features: (n, d) of the splits "train", "val" and "test", in the order of their rows.
        recipe: of the task.
        volumes: give the targets.
        splits: the cases.

    Returns:
        The numbers for summary.json; ``parameters`` are weights and intercept.
    """
    # Importing it takes a second, which every fine-tuning would wait for.
    from sklearn.linear_model import Ridge

    best = best_penalty(
        ((penalty, Ridge(alpha=penalty)) for penalty in PENALTIES),
        features["train"],
        [volumes.value(row) for row in splits.train],
        lambda model: scored(volumes, splits.val, model.predict(features["val"])),
        lambda split: -split.scores["mae"],
    )
    test = scored(volumes, splits.test, best.model.predict(features["test"]))
    write_scores(out, best.validation, test, volumes)
    return {
        "selected_by": "mae",
        "selected_step": 0,
        "validation_score": best.validation.scores["mae"],
        "penalty": best.penalty,
        "parameters": features["train"].shape[1] + 1,
    }
