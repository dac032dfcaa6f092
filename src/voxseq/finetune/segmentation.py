"""Segmentation: the loss, the validation, and the scores of whole volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.dice import Array, class_means, dice_per_class, mean_dice
from voxseq.evaluation.inference import Precision, Slabs, iterate_logits, largest
from voxseq.finetune.training import TaskTraining
from voxseq.training.finite import require_finite_rows
from voxseq.training.loop import Batch

SELECT = "dice"
#: Image (C, X, Y, Z) on the prepared grid → its logits (C, n, Y, Z), background first, in slabs.
Predict = Callable[[Array], Slabs]


class DiceCrossEntropy(nn.Module):
    """Soft Dice loss plus cross-entropy, both over the background too (published code).

    The Dice term has squares in its denominator and is taken per sample and class. Class weights
    act on the cross-entropy only. Without them this is MONAI's ``DiceCELoss(to_onehot_y=True,
    softmax=True, squared_pred=True, smooth_nr=0, smooth_dr=1e-6)``.
    """

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        from monai.losses import DiceLoss  # late: it takes two seconds

        super().__init__()
        self.class_weights = None if class_weights is None else tuple(class_weights)
        self.dice = DiceLoss(
            to_onehot_y=True, softmax=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6
        )

    def forward(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Dice and cross-entropy terms.

        Args:
            logits: (B, C, X, Y, Z).
            label: (B, 1, X, Y, Z) classes, of any integer type.
        """
        logits, label = logits.float(), label.long()
        weights = None
        if self.class_weights is not None:
            weights = torch.tensor(self.class_weights, device=logits.device)
        entropy = functional.cross_entropy(logits, label[:, 0], weight=weights)
        return self.dice(logits, label), entropy


@dataclass(frozen=True)
class CaseScore:
    """Dice of one case.

    Attributes:
        row: of the store.
        dice: (foreground classes,), NaN for a class that the truth lacks.
        prediction: (X, Y, Z) uint8 labels on the prepared grid.
    """

    row: int
    dice: Array
    prediction: Array


def by_windows(
    network: nn.Module, recipe: SegmentationRecipe, precision: Precision = nullcontext
) -> Predict:
    """Segmentation of whole volumes by a network, window by window, in a precision."""
    return partial(
        iterate_logits, network, roi=recipe.roi, overlap=recipe.overlap, precision=precision
    )


def at_once(predict: Callable[[Array], Tensor]) -> Predict:
    """A prediction whose logits (C, X, Y, Z) come in one piece."""
    return lambda image: iter([(slice(None), predict(image))])


def score_cases(
    predict: Predict, volumes: Volumes, rows: Sequence[int], recipe: SegmentationRecipe
) -> Iterator[CaseScore]:
    """Segment whole volumes and score them on the grid that the recipe names.

    For the native grid class probabilities are mapped back linearly, then the largest is taken.
    Only then are the probabilities of a whole volume held, and never its logits.

    Raises:
        NotFiniteError: a network's logits that are infinite or undefined.
    """
    for row in rows:
        image, wants_native = volumes.image(row), recipe.score_grid == "native"
        shape = image.shape[1:]
        prediction = np.empty(shape, np.uint8)
        probabilities = np.empty(
            (len(recipe.labels) + 1, *shape) if wants_native else 0, np.float32
        )
        for planes, logits in predict(image):
            # The largest: a prediction without a network may rule a class out by minus infinity.
            require_finite_rows("the logits", [volumes.name(row)], logits.amax(dim=0)[None])
            prediction[planes] = largest(logits)
            if wants_native:
                probabilities[:, planes] = logits.softmax(dim=0).cpu().numpy()
        if wants_native:
            scored = volumes.native_classes(probabilities, row)
            truth = volumes.native_label(row)
        else:
            scored, truth = prediction, volumes.label(row)
        yield CaseScore(row, dice_per_class(scored, truth, len(recipe.labels)), prediction)


class SegmentationTraining(TaskTraining[SegmentationRecipe]):
    """A segmentation network with its loss and its validation cases."""

    select = SELECT

    def __init__(
        self,
        network: nn.Module,
        recipe: SegmentationRecipe,
        volumes: Volumes,
        validation: Sequence[int],
        precision: Precision = nullcontext,
    ) -> None:
        super().__init__(network, recipe, volumes, validation, precision)
        self.loss = DiceCrossEntropy(recipe.class_weights)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Loss of a batch of crops."""
        dice, entropy = self.loss(self.network(batch["image"]), batch["label"])
        return {"loss": dice + entropy, "dice_loss": dice, "cross_entropy": entropy}

    def validate(self) -> dict[str, float]:
        """Mean Dice, over all and per class, of whole validation volumes."""
        predict = by_windows(self.network, self.recipe, self.precision)
        cases = score_cases(predict, self.volumes, self.validation, self.recipe)
        scores = np.stack([case.dice for case in cases])
        means = class_means(scores)
        per_class = {
            f"dice_{name}": float(value)
            for name, value in zip(self.recipe.labels, means, strict=True)
        }
        return {SELECT: mean_dice(scores), **per_class}
