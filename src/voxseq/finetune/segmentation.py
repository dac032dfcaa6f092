"""Segmentation: batches, the loss, the validation, and the scores of whole volumes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxseq.config.data import IGNORED
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.dice import class_means, mean_dice
from voxseq.evaluation.inference import Precision, Slabs, iterate_logits, largest
from voxseq.evaluation.segmentation import (
    DICE,
    Array,
    Scores,
    dice_scores,
    known_part,
    missed,
    surface_scores_per_class,
)
from voxseq.finetune import pictures, results
from voxseq.finetune.batches import CropRows
from voxseq.finetune.recipe import Splits
from voxseq.finetune.training import Numbers, TaskTraining
from voxseq.training.finite import require_finite_rows
from voxseq.training.loop import Batch
from voxseq.transforms.augment import build_augmentation

#: Image (C, X, Y, Z) on the prepared grid → its logits (C, n, Y, Z), background first, in slabs.
Predict = Callable[[Array], Slabs]


#: Of the Dice loss; keeps a class that neither side has from dividing by zero.
_SMOOTH = 1e-6


def dice_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Soft Dice loss with squares in its denominator, the mean over samples and classes.

    Args:
        probabilities: (B, C, X, Y, Z).
        truth: (B, C, X, Y, Z), 0 or 1.
    """
    axes = (2, 3, 4)
    overlap = (probabilities * truth).sum(axes)
    sizes = probabilities.square().sum(axes) + truth.square().sum(axes)
    return (1 - 2 * overlap / (sizes + _SMOOTH)).mean()


class DiceCrossEntropy(nn.Module):
    """Soft Dice loss plus cross-entropy, both over the background too (published code).

    The Dice term has squares in its denominator and is taken per sample and class. Class weights
    act on the cross-entropy only. Without them this is MONAI's ``DiceCELoss(to_onehot_y=True,
    softmax=True, squared_pred=True, smooth_nr=0, smooth_dr=1e-6)``.

    With ``has_ignored`` voxels labelled ``IGNORED`` count in neither term; a batch that holds no
    other voxels has a cross-entropy of 0.
    """

    def __init__(
        self, class_weights: Sequence[float] | None = None, *, has_ignored: bool = False
    ) -> None:
        super().__init__()
        self.has_ignored = has_ignored
        self.class_weights = None if class_weights is None else tuple(class_weights)

    def forward(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Dice and cross-entropy terms.

        Args:
            logits: (B, C, X, Y, Z).
            label: (B, 1, X, Y, Z) classes, of any integer type; ``IGNORED`` with
                ``has_ignored``.
        """
        logits, label = logits.float(), label.long()[:, 0]
        weights = None
        if self.class_weights is not None:
            weights = torch.tensor(self.class_weights, device=logits.device)
        if self.has_ignored:
            return self._of_known(logits, label, weights)
        entropy = functional.cross_entropy(logits, label, weight=weights)
        return dice_loss(logits.softmax(dim=1), _one_hot(label, logits)), entropy

    def _of_known(
        self, logits: Tensor, label: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        known = label != IGNORED
        target, mask = torch.where(known, label, 0), known[:, None]
        # Of masked probabilities no softmax may be taken: they are masked after it.
        dice = dice_loss(logits.softmax(dim=1) * mask, _one_hot(target, logits) * mask)
        total = functional.cross_entropy(
            logits, label, weight=weights, ignore_index=IGNORED, reduction="sum"
        )
        each = known if weights is None else weights[target] * known
        return dice, total / each.sum().clamp(min=torch.finfo(total.dtype).tiny)


def _one_hot(label: Tensor, logits: Tensor) -> Tensor:
    """Classes (B, X, Y, Z) as 0 and 1 in the shape and type of the logits (B, C, X, Y, Z)."""
    return torch.zeros_like(logits).scatter_(1, label[:, None], 1.0)


@dataclass(frozen=True)
class CaseScore:
    """Scores of one case.

    Attributes:
        row: of the store.
        scores: metric → (foreground classes,), NaN for a class that the truth lacks.
        prediction: (X, Y, Z) uint8 labels on the prepared grid.
    """

    row: int
    scores: Scores
    prediction: Array

    @property
    def dice(self) -> Array:
        """Dice of each foreground class."""
        return self.scores[DICE]

    @property
    def mean(self) -> float:
        """Mean Dice over the classes that the truth has; infinite where it has none."""
        present = self.dice[~np.isnan(self.dice)]
        return float(present.mean()) if present.size else math.inf


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
    predict: Predict,
    volumes: Volumes,
    rows: Sequence[int],
    recipe: SegmentationRecipe,
    *,
    surface: bool = False,
) -> Iterator[CaseScore]:
    """Segment whole volumes and score them: Dice on the grid that the recipe names.

    With ``surface`` there are the scores of surfaces too, on the files' own grid. For that grid
    class probabilities are mapped back linearly, then the largest is taken. Only then are the
    probabilities of a whole volume held, and never its logits.

    Raises:
        NotFiniteError: a network's logits that are infinite or undefined.
    """
    classes, ignored = len(recipe.labels), ignored_of(recipe)
    for row in rows:
        image, is_native = volumes.image(row), recipe.score_grid == "native"
        shape = image.shape[1:]
        wants_native = surface or is_native
        prediction = np.empty(shape, np.uint8)
        probabilities = np.empty((recipe.outputs, *shape) if wants_native else 0, np.float32)
        for planes, logits in predict(image):
            # The largest: a prediction without a network may rule a class out by minus infinity.
            require_finite_rows("the logits", [volumes.name(row)], logits.amax(dim=0)[None])
            prediction[planes] = largest(logits)
            if wants_native:
                probabilities[:, planes] = logits.softmax(dim=0).cpu().numpy()
        if wants_native:
            native = volumes.native_classes(probabilities, row), volumes.native_label(row)
        scored, truth = native if is_native else (prediction, volumes.label(row))
        scores = dice_scores(scored, truth, classes, ignored)
        if surface:
            scores |= surface_scores_per_class(
                *native, volumes.native_spacing(row), recipe.tolerances, ignored
            )
        yield CaseScore(row, scores, prediction)


def ignored_of(recipe: SegmentationRecipe) -> int | None:
    """Value of prepared labels that is not scored; ``None``: all are."""
    return None if recipe.ignore_label is None else IGNORED


class SegmentationTraining(TaskTraining[SegmentationRecipe]):
    """A segmentation network with its loss and its validation cases."""

    def __init__(
        self,
        network: nn.Module,
        recipe: SegmentationRecipe,
        volumes: Volumes,
        validation: Sequence[int],
        precision: Precision = nullcontext,
    ) -> None:
        super().__init__(network, recipe, volumes, validation, precision)
        has_ignored = recipe.ignore_label is not None
        self.loss = DiceCrossEntropy(recipe.class_weights, has_ignored=has_ignored)

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
        return {DICE: mean_dice(scores), **per_class}

    @property
    def select(self) -> str:
        """The score by which weights are selected."""
        return DICE

    def score(self, out: Path, splits: Splits) -> Numbers:
        """Score validation and test split; see :func:`write_scores`."""
        predict = by_windows(self.network, self.recipe, self.precision)
        return write_scores(out, predict, self.recipe, self.volumes, splits)[1]


def make_rows(
    recipe: SegmentationRecipe, volumes: Volumes, train: Sequence[int], seed: int
) -> CropRows:
    """Batches of augmented crops."""
    augmentation = build_augmentation(recipe.augmentation, recipe.roi)
    return CropRows(volumes, train, recipe, augmentation, seed)


def write_scores(
    out: Path, predict: Predict, recipe: SegmentationRecipe, volumes: Volumes, splits: Splits
) -> tuple[float, Numbers]:
    """Segment the validation and the test split once, and write their scores.

    Writes validation.csv, scores.csv (test), example.npz (one slice of the first test case) and
    worst.npz (several of the test case with the smallest mean Dice over its classes, its ``score``,
    and :func:`voxseq.finetune.pictures.errors_of`), of the shape that
    :func:`voxseq.finetune.pictures.segmented` gives. A score that is undefined is ``nan``.

    Returns:
        Mean validation Dice, and numbers for summary.json: where surfaces are scored, ``missed``,
        the test cases of each class in which it was not found and so has no distance.
    """
    validation: list[Array] = []
    missing = np.zeros(len(recipe.labels), int)
    worst: CaseScore | None = None
    for name, rows in (("validation.csv", splits.val), ("scores.csv", splits.test)):
        lines: list[results.ScoreRow] = []
        for case in score_cases(predict, volumes, rows, recipe, surface=recipe.surface):
            lines += [
                (volumes.name(case.row), volumes.subject(case.row), label, metric, value)
                for metric, values in case.scores.items()
                for label, value in zip(recipe.labels, values, strict=True)
            ]
            if name == "validation.csv":
                validation.append(case.dice)
                continue
            if recipe.surface:
                missing += missed(case.scores)
            if case.row == rows[0]:
                shown = _truth(recipe, volumes, case)
                arrays = pictures.segmented(volumes, case.row, *shown, count=1)
                results.write_arrays(out / "example.npz", arrays)
            if worst is None or case.mean < worst.mean:
                worst = case
        results.write_scores(out / name, lines)
    if worst is not None:
        results.write_arrays(out / "worst.npz", _worst(recipe, volumes, worst))
    counts = dict(zip(recipe.labels, missing.tolist(), strict=True))
    return mean_dice(np.stack(validation)), {"missed": counts} if recipe.surface else {}


def _truth(recipe: SegmentationRecipe, volumes: Volumes, case: CaseScore) -> tuple[Array, Array]:
    """Labels of a case as pictures show them, unknown voxels being background, and prediction."""
    truth = known_part(case.prediction, volumes.label(case.row), ignored_of(recipe))[1]
    return truth, case.prediction


def _worst(recipe: SegmentationRecipe, volumes: Volumes, case: CaseScore) -> dict[str, Array]:
    """What worst.npz holds."""
    shown = _truth(recipe, volumes, case)
    return {
        **pictures.segmented(volumes, case.row, *shown),
        **pictures.errors_of(volumes, case.row, *shown, len(recipe.labels), case.scores),
        "score": np.array(case.mean if math.isfinite(case.mean) else math.nan),
    }
