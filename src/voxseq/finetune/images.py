"""What tasks with one answer per image share: their augmentation, and a network's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from voxseq.config.finetune import ClassificationRecipe, RegressionRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.inference import Precision
from voxseq.finetune.batches import image_parts
from voxseq.training.finite import require_finite_rows
from voxseq.transforms.augment import Augmentation, build_augmentation


def augmentation_of(
    recipe: ClassificationRecipe | RegressionRecipe, volumes: Volumes, train: Sequence[int]
) -> Augmentation:
    """The chain of random transforms of images, which all have one shape."""
    return build_augmentation(recipe.augmentation, volumes.shape(train[0]))


def outputs_of(
    network: nn.Module,
    volumes: Volumes,
    rows: Sequence[int],
    batch_size: int,
    precision: Precision = nullcontext,
) -> Tensor:
    """A network's outputs (n, outputs) float32 on the CPU for images as they are, in batches.

    Raises:
        NotFiniteError: outputs that are infinite or undefined.
    """
    device = next(network.parameters()).device
    with torch.no_grad(), precision():
        parts = image_parts(volumes, rows, batch_size)
        outputs = torch.cat([network(part.to(device)).float().cpu() for part in parts])
    require_finite_rows("the logits", [volumes.name(row) for row in rows], outputs)
    return outputs
