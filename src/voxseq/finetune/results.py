"""The result files of a fine-tuning run; the same numbers give the same bytes."""

from __future__ import annotations

import csv
import math
import resource
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxseq.base.files import atomic_path, write_json
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.classification import THRESHOLD
from voxseq.evaluation.dice import Array, mean_dice
from voxseq.finetune.classification import SplitScore
from voxseq.finetune.segmentation import CaseScore, Predict, score_cases

if TYPE_CHECKING:
    from voxseq.config.runs import TaskRun
    from voxseq.finetune.recipe import Splits
    from voxseq.plan.context import RunContext

#: One score: case ("" for a whole split), label ("" where there is none), metric, value.
Row = tuple[str, str, str, float]


def write_scores(path: Path, rows: Iterable[Row]) -> None:
    """Write scores as a tidy table; a Dice that is undefined is written as ``nan``."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("case", "label", "metric", "value"))
        writer.writerows((*row[:3], f"{row[3]:.9g}") for row in rows)


def dice_rows(case: CaseScore, volumes: Volumes, labels: Sequence[str]) -> list[Row]:
    """Dice of each class of one case."""
    return [
        (volumes.name(case.row), label, "dice", float(value))
        for label, value in zip(labels, case.dice, strict=True)
    ]


def split_rows(split: SplitScore) -> list[Row]:
    """Scores of a classified split."""
    return [("", "", metric, value) for metric, value in split.scores.items()]


def write_predictions(path: Path, split: SplitScore, volumes: Volumes) -> None:
    """Write case, target and probability of class 1 of every case of a split."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("case", "target", "probability"))
        for row, target, probability in zip(
            split.rows, split.target, split.probability, strict=True
        ):
            writer.writerow((volumes.name(row), int(target), f"{probability:.9g}"))


def write_example(path: Path, image: Array, truth: Array, prediction: Array) -> None:
    """Write one slice of a segmented case, for the figure of examples.

    Args:
        path: npz file with ``image`` (X, Y) float32, ``truth`` and ``prediction`` (X, Y) uint8.
        image: (X, Y, Z) on the prepared grid.
        truth: its labels; the slice along z with the most foreground voxels is taken, the first
            of equals.
        prediction: labels on the same grid.
    """
    _write_arrays(path, _slice(image, truth, prediction))


def score_segmentation(
    out: Path, predict: Predict, recipe: SegmentationRecipe, volumes: Volumes, splits: Splits
) -> float:
    """Segment the validation and the test split once, write their scores, return validation Dice.

    Writes validation.csv, scores.csv (test), example.npz (the first test case) and worst.npz (the
    test case with the smallest mean Dice over its classes, as one slice).
    """
    validation: list[Array] = []
    for name, rows in (("validation.csv", splits.val), ("scores.csv", splits.test)):
        scores: list[Row] = []
        lowest = math.inf
        for case in score_cases(predict, volumes, rows, recipe):
            scores += dice_rows(case, volumes, recipe.labels)
            if name == "validation.csv":
                validation.append(case.dice)
                continue
            shown = (volumes.image(case.row), volumes.label(case.row), case.prediction)
            if case.row == rows[0]:
                write_example(out / "example.npz", *shown)
            present = case.dice[~np.isnan(case.dice)]
            if present.size and present.mean() < lowest:
                lowest = float(present.mean())
                worst = {**_slice(*shown), **_named(volumes, case.row, lowest)}
        write_scores(out / name, scores)
    _write_arrays(out / "worst.npz", worst)
    return mean_dice(np.stack(validation))


def write_classification(
    out: Path, validation: SplitScore, test: SplitScore, volumes: Volumes
) -> None:
    """Write the scores of both splits.

    Writes validation.csv, scores.csv (test), predictions.csv and worst.npz (the middle slice of the
    test case whose true class got the smallest probability).
    """
    write_scores(out / "validation.csv", split_rows(validation))
    write_scores(out / "scores.csv", split_rows(test))
    write_predictions(out / "predictions.csv", test, volumes)
    given = np.where(test.target == 1, test.probability, 1.0 - test.probability)
    place = int(given.argmin())
    image = volumes.image(test.rows[place])
    arrays: dict[str, Array] = {
        "image": image[..., image.shape[2] // 2].astype(np.float32),
        "truth": np.array(test.target[place], np.uint8),
        "prediction": np.array(test.probability[place] > THRESHOLD, np.uint8),
    }
    arrays |= _named(volumes, test.rows[place], float(given[place]))
    _write_arrays(out / "worst.npz", arrays)


def write_summary(
    context: RunContext[TaskRun], splits: Splits, numbers: Mapping[str, Any], seconds: float
) -> None:
    """Write summary.json, and cost.json of the state.

    Args:
        context: the run.
        splits: its cases.
        numbers: ``selected_by``, ``selected_step``, ``validation_score``, ``parameters`` and what
            else the kind of run has.
        seconds: that it took.
    """
    summary = context.config.model_dump(include={"task", "method", "seed", "ratio"})
    sizes = {f"n_{split}": len(getattr(splits, split)) for split in ("train", "val", "test")}
    write_json(context.out / "summary.json", {**summary, **sizes, **numbers})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cost = {"seconds": round(seconds, 2), "peak_memory_mb": round(peak, 1)}
    write_json(context.state / "cost.json", cost)


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
