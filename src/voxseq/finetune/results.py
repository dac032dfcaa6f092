"""The result files of a run on a task; the same numbers give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxseq.base.files import atomic_path, write_csv, write_json
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.classification import THRESHOLD
from voxseq.evaluation.dice import Array, mean_dice
from voxseq.finetune.classification import SplitScore
from voxseq.finetune.segmentation import Predict, score_cases
from voxseq.training.device import costs

if TYPE_CHECKING:
    from voxseq.config.runs import TaskRun
    from voxseq.finetune.recipe import Splits
    from voxseq.plan.context import RunContext

#: Columns of the tables of scores: case ("" for a whole split), label ("" where there is none).
_SCORES = ("case", "label", "metric", "value")


def score_segmentation(
    out: Path, predict: Predict, recipe: SegmentationRecipe, volumes: Volumes, splits: Splits
) -> float:
    """Segment the validation and the test split once, write their scores, return validation Dice.

    Writes validation.csv, scores.csv (test), example.npz (the first test case) and worst.npz (the
    test case with the smallest mean Dice over its classes). Of a case one slice is kept: ``image``
    (X, Y) float32 of the first channel, ``truth`` and ``prediction`` (X, Y) uint8. A Dice that is
    undefined is ``nan``.
    """
    validation: list[Array] = []
    for name, rows in (("validation.csv", splits.val), ("scores.csv", splits.test)):
        scores: list[tuple[str, ...]] = []
        lowest = math.inf
        for case in score_cases(predict, volumes, rows, recipe):
            scores += [
                (volumes.name(case.row), label, "dice", f"{value:.9g}")
                for label, value in zip(recipe.labels, case.dice, strict=True)
            ]
            if name == "validation.csv":
                validation.append(case.dice)
                continue
            shown = (volumes.image(case.row)[0], volumes.label(case.row), case.prediction)
            if case.row == rows[0]:
                _write_arrays(out / "example.npz", _slice(*shown))
            present = case.dice[~np.isnan(case.dice)]
            if present.size and present.mean() < lowest:
                lowest = float(present.mean())
                worst = {**_slice(*shown), **_named(volumes, case.row, lowest)}
        write_csv(out / name, _SCORES, scores)
    _write_arrays(out / "worst.npz", worst)
    return mean_dice(np.stack(validation))


def write_classification(
    out: Path, validation: SplitScore, test: SplitScore, volumes: Volumes
) -> None:
    """Write the scores of both splits.

    Writes validation.csv, scores.csv (test), predictions.csv and worst.npz (the middle slice of the
    test case whose true class got the smallest probability).
    """
    for name, split in (("validation.csv", validation), ("scores.csv", test)):
        scores = [("", "", metric, f"{value:.9g}") for metric, value in split.scores.items()]
        write_csv(out / name, _SCORES, scores)
    cases = zip(test.rows, test.target, test.probability, strict=True)
    lines = [(volumes.name(row), int(target), f"{chance:.9g}") for row, target, chance in cases]
    write_csv(out / "predictions.csv", ("case", "target", "probability"), lines)
    given = np.where(test.target == 1, test.probability, 1.0 - test.probability)
    place = int(given.argmin())
    image = volumes.image(test.rows[place])[0]
    arrays: dict[str, Array] = {
        "image": image[..., image.shape[2] // 2].astype(np.float32),
        "truth": np.array(test.target[place], np.uint8),
        "prediction": np.array(test.probability[place] > THRESHOLD, np.uint8),
    }
    arrays |= _named(volumes, test.rows[place], float(given[place]))
    _write_arrays(out / "worst.npz", arrays)


def write_summary(
    context: RunContext[TaskRun],
    splits: Splits,
    numbers: Mapping[str, Any],
    cost: Mapping[str, Any],
) -> None:
    """Write summary.json, and cost.json of the state.

    Args:
        context: the run.
        splits: its cases.
        numbers: ``selected_by``, ``selected_step``, ``validation_score``, ``parameters`` and what
            else the kind of run has.
        cost: ``seconds`` that it took, and what else is known of its speed.
    """
    summary = context.config.model_dump(include={"task", "method", "seed", "ratio"})
    sizes = {f"n_{split}": len(rows) for split, rows in vars(splits).items()}
    write_json(context.out / "summary.json", {**summary, **sizes, **numbers})
    write_json(context.state / "cost.json", {**cost, **costs()})


def _slice(image: Array, truth: Array, prediction: Array) -> dict[str, Array]:
    """The slice along z with the most foreground, the first of equals."""
    index = int((truth > 0).sum(axis=(0, 1)).argmax())
    return {
        "image": image[..., index].astype(np.float32),
        "truth": truth[..., index].astype(np.uint8),
        "prediction": prediction[..., index].astype(np.uint8),
    }


def _named(volumes: Volumes, row: int, score: float) -> dict[str, Array]:
    return {"case": np.array(volumes.name(row)), "score": np.array(score)}


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **arrays)
