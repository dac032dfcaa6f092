"""The result files of a fine-tuning run; the same numbers give the same bytes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from voxseq.evaluation.dice import Array
from voxseq.files import atomic_path
from voxseq.finetune.classification import SplitScore
from voxseq.finetune.segmentation import CaseScore
from voxseq.finetune.volumes import Volumes

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
    index = int((truth > 0).sum(axis=(0, 1)).argmax())
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez(
            handle,
            image=image[..., index].astype(np.float32),
            truth=truth[..., index].astype(np.uint8),
            prediction=prediction[..., index].astype(np.uint8),
        )
