"""Classification: the losses, the validation, and the scores of a split."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxseq.config.finetune import ClassificationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.classification import Array, accuracy, auc
from voxseq.evaluation.inference import Precision
from voxseq.finetune.batches import image_parts
from voxseq.finetune.training import TaskTraining
from voxseq.training.finite import require_finite_rows
from voxseq.training.loop import Batch

CLASSES = 2
#: Least probability of which a logarithm is taken.
_LEAST = 1e-12


def class_balanced_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of each class in the batch, summed, and always divided by 2.

    A batch of one class thus weighs half (published code).

    Args:
        logits: (B, 2).
        target: (B,) int64.
    """
    losses = functional.cross_entropy(logits, target, reduction="none")
    means = [losses[target == c].mean() for c in range(CLASSES) if bool((target == c).any())]
    return torch.stack(means).sum() / CLASSES


@dataclass(frozen=True)
class SplitScore:
    """Predictions for one split and their scores.

    Attributes:
        rows: of the store.
        target: (n,) classes 0 and 1.
        probability: (n,) of class 1.
        loss: mean cross-entropy.
    """

    rows: tuple[int, ...]
    target: Array
    probability: Array
    loss: float

    @property
    def scores(self) -> dict[str, float]:
        """AUC and accuracy."""
        given = (self.target, self.probability)
        return {"auc": auc(*given), "accuracy": accuracy(*given)}


def scored(volumes: Volumes, rows: Sequence[int], probability: Array) -> SplitScore:
    """Scores of given probabilities (n,) of class 1."""
    target = np.array([volumes.target(row) for row in rows])
    given = np.where(target == 1, probability, 1.0 - probability)
    loss = float(-np.log(np.maximum(given, _LEAST)).mean())
    return SplitScore(tuple(rows), target, np.asarray(probability, np.float64), loss)


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
    device = next(network.parameters()).device
    target = torch.tensor([volumes.target(row) for row in rows])
    with torch.no_grad(), precision():
        parts = image_parts(volumes, rows, batch_size)
        logits = torch.cat([network(part.to(device)).float().cpu() for part in parts])
    require_finite_rows("the logits", [volumes.name(row) for row in rows], logits)
    return SplitScore(
        rows=tuple(rows),
        target=target.numpy(),
        probability=logits.softmax(dim=1)[:, 1].double().numpy(),
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
        rows, size = self.validation, self.recipe.batch_size
        split = score_split(self.network, self.volumes, rows, size, self.precision)
        scores = split.scores
        together = scores["auc"] + scores["accuracy"]
        return {**scores, "accuracy_plus_auc": together, "loss": split.loss}
