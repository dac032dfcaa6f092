"""Regression of one number per image: the loss, the validation, and the scores of a split."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxseq.config.finetune import RegressionRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation import regression as evaluation
from voxseq.evaluation.inference import Precision
from voxseq.evaluation.regression import Array
from voxseq.finetune import pictures, results
from voxseq.finetune.batches import ImageRows
from voxseq.finetune.images import augmentation_of, outputs_of
from voxseq.finetune.recipe import Splits
from voxseq.finetune.training import Numbers, TaskTraining
from voxseq.training.loop import Batch


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of the training cases' numbers: scale of a network's output."""

    mean: float
    sd: float

    @classmethod
    def of(cls, volumes: Volumes, train: Sequence[int]) -> Self:
        """Those of some rows of a store; they are not all equal."""
        values = np.array([volumes.value(row) for row in train])
        return cls(float(values.mean()), float(values.std()))

    def standardised(self, value: float) -> float:
        """The number that the network learns."""
        return (value - self.mean) / self.sd

    def restored(self, outputs: Tensor) -> Array:
        """A network's outputs (n, 1) as numbers (n,) in the target's unit, float64."""
        values: Array = self.mean + self.sd * outputs[:, 0].double().numpy()
        return values


@dataclass(frozen=True)
class SplitScore:
    """Predictions for one split.

    Attributes:
        rows: of the store.
        target: (n,) in the target's unit.
        value: (n,) the same, predicted.
    """

    rows: tuple[int, ...]
    target: Array
    value: Array

    @property
    def scores(self) -> dict[str, float]:
        """Mean absolute error, R² and correlation."""
        return evaluation.scores(self.target, self.value)


def scored(volumes: Volumes, rows: Sequence[int], value: Array) -> SplitScore:
    """Scores of given numbers (n,)."""
    target = np.array([volumes.value(row) for row in rows])
    return SplitScore(tuple(rows), target, np.asarray(value, np.float64))


class RegressionTraining(TaskTraining[RegressionRecipe]):
    """A network with one output, its loss and its validation cases.

    Its output is the standardised target.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: RegressionRecipe,
        volumes: Volumes,
        validation: Sequence[int],
        precision: Precision = nullcontext,
        *,
        standard: Standard,
    ) -> None:
        super().__init__(network, recipe, volumes, validation, precision)
        self.standard = standard

    @classmethod
    def of(
        cls,
        network: nn.Module,
        recipe: RegressionRecipe,
        volumes: Volumes,
        splits: Splits,
        precision: Precision = nullcontext,
    ) -> Self:
        """By the mean and standard deviation of the training split."""
        standard = Standard.of(volumes, splits.train)
        return cls(network, recipe, volumes, splits.val, precision, standard=standard)

    @property
    def select(self) -> str:
        """The score by which weights are selected."""
        return self.recipe.select_by

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether the least or the greatest score is best."""
        return "min" if self.recipe.select_by == "mae" else "max"

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Loss of a batch of images with standardised targets."""
        outputs = self.network(batch["image"]).float()[:, 0]
        return {"loss": functional.smooth_l1_loss(outputs, batch["target"])}

    def validate(self) -> dict[str, float]:
        """Scores of the validation split."""
        split = self._score_split(self.validation)
        # The mean cancels out.
        error = torch.from_numpy((split.value - split.target) / self.standard.sd)
        loss = functional.smooth_l1_loss(error, torch.zeros_like(error))
        return {**split.scores, "loss": float(loss)}

    def score(self, out: Path, splits: Splits) -> Numbers:
        """Score validation and test split; see :func:`write_scores`."""
        validation, test = (self._score_split(rows) for rows in (splits.val, splits.test))
        write_scores(out, validation, test, self.volumes)
        return self.facts()

    def facts(self) -> Numbers:
        """Mean and standard deviation by which an output becomes a number in the target's unit."""
        return {"target_mean": self.standard.mean, "target_sd": self.standard.sd}

    def _score_split(self, rows: Sequence[int]) -> SplitScore:
        size = self.recipe.batch_size
        outputs = outputs_of(self.network, self.volumes, rows, size, self.precision)
        return scored(self.volumes, rows, self.standard.restored(outputs))


def make_rows(
    recipe: RegressionRecipe, volumes: Volumes, train: Sequence[int], seed: int
) -> ImageRows:
    """Batches of augmented images with standardised targets."""
    standard = Standard.of(volumes, train)
    targets = {row: standard.standardised(volumes.value(row)) for row in train}
    augmentation = augmentation_of(recipe, volumes, train)
    return ImageRows(volumes, train, recipe.batch_size, augmentation, seed, targets)


def write_scores(out: Path, validation: SplitScore, test: SplitScore, volumes: Volumes) -> None:
    """Write the scores of both splits.

    Writes validation.csv, scores.csv (test), predictions.csv and worst.npz (slices of the
    test case with the largest error, which is its score; truth and prediction are float64).
    """
    for name, split in (("validation.csv", validation), ("scores.csv", test)):
        rows = [("", "", "", metric, value) for metric, value in split.scores.items()]
        results.write_scores(out / name, rows)
    results.write_predictions(
        out / "predictions.csv",
        volumes,
        test.rows,
        [results.number(value) for value in test.target],
        {"value": test.value},
    )
    errors = np.abs(test.target - test.value)
    place = int(errors.argmax())
    pair = (np.array(numbers[place], np.float64) for numbers in (test.target, test.value))
    arrays = pictures.whole(volumes, test.rows[place], *pair)
    score = np.array(float(errors[place]))
    results.write_arrays(out / "worst.npz", {**arrays, "score": score})
