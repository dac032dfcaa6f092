"""Linear probe: the value of a frozen encoder's features without fine-tuning."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from voxseq.config.task_types import TaskType
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.classification import Array
from voxseq.finetune import results
from voxseq.finetune.baselines.logistic import fit_logistic
from voxseq.finetune.baselines.ridge import fit_ridge
from voxseq.finetune.batches import image_parts
from voxseq.finetune.recipe import choose_splits, limited_threads
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.transfer import ENCODER_FILE, load_encoder
from voxseq.training.finite import require_finite_rows

if TYPE_CHECKING:
    from voxseq.config.runs import ProbeRun
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.finetune")
#: Type of task → what is fitted to the features of its cases.
LINEAR: Mapping[TaskType, Callable[..., dict[str, Any]]] = {
    "classification": fit_logistic,
    "regression": fit_ridge,
}


def execute(context: RunContext[ProbeRun]) -> None:
    """Predict from the mean token of a frozen encoder by a linear model, see ``LINEAR``.

    The encoder is the pre-trained one that the run names, or a random one of the run's seed, the
    same from which a fine-tuning with that seed starts. Images are not augmented.

    Writes scores.csv (test), validation.csv, predictions.csv, worst.npz, summary.json, cost.json.

    Raises:
        DataError: a split that cannot be trained on or scored.
        IntegrityError: a pre-trained encoder that is damaged or of another geometry.
        NotFiniteError: features that are infinite or undefined.
    """
    began, config = time.monotonic(), context.config
    volumes = Volumes(context.input(f"preprocess/task/{config.task}"))
    splits = choose_splits(volumes, config)
    encoder = build_encoder(
        config.encoder, config.seed, pretraining=False, in_channels=config.channels
    )
    if config.pretrained is not None:
        load_encoder(context.inputs[config.pretrained] / ENCODER_FILE, encoder)
    with limited_threads(config.threads):
        features = {
            split: mean_tokens(encoder, volumes, rows, config.recipe.batch_size)
            for split, rows in vars(splits).items()
        }
        fit = LINEAR[config.recipe.type]
        numbers = fit(context.out, features, config.recipe, volumes, splits)
    numbers["parameters"] += sum(p.numel() for p in encoder.parameters())
    cost = {"seconds": round(time.monotonic() - began, 2)}
    results.write_summary(context, splits, numbers, cost)
    _LOG.info(
        "%s: validation %s %.4f with penalty %g",
        *(context.run_id, numbers["selected_by"], numbers["validation_score"], numbers["penalty"]),
    )


def mean_tokens(encoder: Encoder, volumes: Volumes, rows: Sequence[int], batch_size: int) -> Array:
    """Mean over the patch tokens of each image, as the head of a network sees it: (n, C)."""
    encoder.eval()
    with torch.no_grad():
        parts = image_parts(volumes, rows, batch_size)
        features = torch.cat([encoder(part).tokens.mean(dim=1) for part in parts]).double()
    require_finite_rows("the features", [volumes.name(row) for row in rows], features)
    made: Array = features.numpy()
    return made
