"""Classification: the losses, the validation, and the scores of a split."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxseq.config.finetune import ClassificationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation import classification as evaluation
from voxseq.evaluation.classification import Array
from voxseq.evaluation.inference import Precision
from voxseq.finetune import pictures, results
from voxseq.finetune.batches import ImageRows
from voxseq.finetune.images import augmentation_of, outputs_of
from voxseq.finetune.recipe import Splits
from voxseq.finetune.training import Numbers, TaskTraining
from voxseq.training.loop import Batch

#: Least probability of which a logarithm is taken.
_LEAST = 1e-12


def class_balanced_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of each class in the batch, summed, and always divided by their number.

    A batch of one class of two thus weighs half (published code).

    Args:
        logits: (B, K).
        target: (B,) int64.
    """
    classes = logits.shape[1]
    losses = functional.cross_entropy(logits, target, reduction="none")
    means = [losses[target == c].mean() for c in range(classes) if bool((target == c).any())]
    return torch.stack(means).sum() / classes


@dataclass(frozen=True)
class SplitScore:
    """Predictions for one split and their scores.

    Attributes:
        rows: of the store.
        target: (n,) classes 0 to K - 1.
        probability: (n, K) of each class.
        loss: mean cross-entropy.
    """

    rows: tuple[int, ...]
    target: Array
    probability: Array
    loss: float

    @property
    def given(self) -> Array:
        """Probability (n,) of the true class."""
        return np.take_along_axis(self.probability, self.target[:, None], axis=1)[:, 0]

    @property
    def scores(self) -> dict[str, float]:
        """AUC and accuracy."""
        return evaluation.scores(self.target, self.probability)

    def score_rows(self, labels: Sequence[str]) -> list[results.ScoreRow]:
        """Scores of the split; of more than two classes AUC of each against the rest, too."""
        rows: list[results.ScoreRow] = [
            ("", "", "", name, value) for name, value in self.scores.items()
        ]
        if len(labels) > 2:
            areas = evaluation.auc_per_class(self.target, self.probability)
            named = zip(labels, areas, strict=True)
            rows += [("", "", name, "auc", float(value)) for name, value in named]
        return rows


def of_both(positive: Array) -> Array:
    """Probabilities (n, 2) of two classes, from that (n,) of class 1."""
    positive = np.asarray(positive, np.float64)
    return np.stack([1.0 - positive, positive], axis=1)


def scored(volumes: Volumes, rows: Sequence[int], probability: Array) -> SplitScore:
    """Scores of given probabilities (n, K) of the classes."""
    target = np.array([volumes.target(row) for row in rows])
    split = SplitScore(tuple(rows), target, np.asarray(probability, np.float64), np.nan)
    loss = float(-np.log(np.maximum(split.given, _LEAST)).mean())
    return SplitScore(split.rows, target, split.probability, loss)


def score_split(
    network: nn.Module,
    volumes: Volumes,
    rows: Sequence[int],
    batch_size: int,
    precision: Precision = nullcontext,
) -> SplitScore:
    """Classify the images of a split, unchanged, in batches, in the context of a precision.

    Raises:
        NotFiniteError: logits that are infinite or undefined.
    """
    target = torch.tensor([volumes.target(row) for row in rows])
    logits = outputs_of(network, volumes, rows, batch_size, precision)
    probability = logits.softmax(dim=1).double().numpy()
    return SplitScore(
        rows=tuple(rows),
        target=target.numpy(),
        probability=of_both(probability[:, 1]) if logits.shape[1] == 2 else probability,
        loss=float(functional.cross_entropy(logits, target)),
    )


class ClassificationTraining(TaskTraining[ClassificationRecipe]):
    """A classifier with its loss and its validation cases."""

    @property
    def select(self) -> str:
        """The score by which weights are selected."""
        return self.recipe.select_by

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Loss of a batch of images."""
        logits = self.network(batch["image"]).float()
        if self.recipe.class_balanced_loss:
            return {"loss": class_balanced_cross_entropy(logits, batch["target"])}
        return {"loss": functional.cross_entropy(logits, batch["target"])}

    def validate(self) -> dict[str, float]:
        """Scores of the validation split, and the sum by which RICORD selects (published code)."""
        split = self._score_split(self.validation)
        scores = split.scores
        together = scores["auc"] + scores["accuracy"]
        return {**scores, "accuracy_plus_auc": together, "loss": split.loss}

    def score(self, out: Path, splits: Splits) -> Numbers:
        """Score validation and test split; see :func:`write_scores`."""
        validation, test = (self._score_split(rows) for rows in (splits.val, splits.test))
        write_scores(out, validation, test, self.recipe, self.volumes)
        return {}

    def _score_split(self, rows: Sequence[int]) -> SplitScore:
        size = self.recipe.batch_size
        return score_split(self.network, self.volumes, rows, size, self.precision)


def make_rows(
    recipe: ClassificationRecipe, volumes: Volumes, train: Sequence[int], seed: int
) -> ImageRows:
    """Batches of augmented images."""
    augmentation = augmentation_of(recipe, volumes, train)
    return ImageRows(volumes, train, recipe.batch_size, augmentation, seed)


def write_scores(
    out: Path,
    validation: SplitScore,
    test: SplitScore,
    recipe: ClassificationRecipe,
    volumes: Volumes,
) -> None:
    """Write the scores of both splits.

    Writes validation.csv, scores.csv (test), predictions.csv and worst.npz (slices of the
    test case whose true class got the smallest probability). predictions.csv has the probability of
    class 1 of two, or of each class of more, in a column ``probability_<class>``.
    """
    for name, split in (("validation.csv", validation), ("scores.csv", test)):
        results.write_scores(out / name, split.score_rows(recipe.labels))
    columns, shown = ["probability"], test.probability[:, 1:]
    if len(recipe.labels) > 2:
        columns, shown = [f"probability_{name}" for name in recipe.labels], test.probability
    results.write_predictions(
        out / "predictions.csv",
        volumes,
        test.rows,
        [str(target) for target in test.target],
        dict(zip(columns, shown.T, strict=True)),
    )
    place = int(test.given.argmin())
    truth = np.array(test.target[place], np.uint8)
    guess = np.array(evaluation.predicted(test.probability)[place], np.uint8)
    arrays = pictures.whole(volumes, test.rows[place], truth, guess)
    score = np.array(float(test.given[place]))
    results.write_arrays(out / "worst.npz", {**arrays, "score": score})
