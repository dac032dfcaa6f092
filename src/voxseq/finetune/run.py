"""The stage that fine-tunes one network on one task with one seed, and scores it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.copies import local_copy
from voxseq.data.task_volumes import Volumes
from voxseq.evaluation.inference import Precision
from voxseq.finetune import classification, results, segmentation
from voxseq.finetune.batches import CropRows, ImageRows
from voxseq.finetune.recipe import Splits, choose_splits
from voxseq.finetune.training import build_optimiser
from voxseq.models.encoder import Encoder
from voxseq.models.networks import build_network, freeze_encoder
from voxseq.models.transfer import ENCODER_FILE, load_encoder
from voxseq.training.batches import stepwise
from voxseq.training.copies import travelling
from voxseq.training.device import accelerator, autocast_of
from voxseq.training.loop import FitResult, LoopConfig, fit
from voxseq.training.rows import Rows
from voxseq.training.schedule import lr_factor
from voxseq.transforms.augment import build_augmentation

if TYPE_CHECKING:
    from voxseq.config.runs import FinetuneRun, Recipe
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.finetune")
Training = segmentation.SegmentationTraining | classification.ClassificationTraining


def execute(context: RunContext[FinetuneRun]) -> None:
    """Fine-tune, select by validation, then score the test split once.

    Writes metrics.csv, scores.csv (test), validation.csv, worst.npz, summary.json and cost.json,
    and for segmentation example.npz, for classification predictions.csv. No weights are kept.

    Raises:
        ConfigError: an unknown network, or one without the encoder that is to be frozen.
        DataError: a split that cannot be trained on or scored.
        IntegrityError: a pre-trained encoder that is damaged or of another geometry.
        TrainingError: a loss, weights, logits or a validation score that is not finite.
    """
    config = context.config
    recipe = config.recipe
    store = context.inputs[f"preprocess/task/{config.task}"]
    volumes = Volumes(local_copy(store, context.device.staging))
    splits = choose_splits(volumes, config)
    network = _network(context)
    precision = autocast_of(config.precision, accelerator(context.device))
    trainable = _trainable(network, recipe, volumes, splits.val, precision)
    result = _train(context, trainable, volumes, splits)
    trainable.eval()
    _score(context.out, trainable, splits)
    numbers = {
        "selected_by": trainable.select,
        "selected_step": result.best_step,
        "validation_score": result.best_score,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    cost = {"seconds": round(result.seconds, 2), **result.pace.numbers()}
    results.write_summary(context, splits, numbers, cost)
    _LOG.info(
        "%s: selected step %d with %s %.4f",
        *(context.run_id, result.best_step, trainable.select, result.best_score),
    )


def _network(context: RunContext[FinetuneRun]) -> nn.Module:
    config, recipe = context.config, context.config.recipe
    is_segmentation = isinstance(recipe, SegmentationRecipe)
    network = build_network(
        config.network,
        config.encoder,
        classes=len(recipe.labels) + is_segmentation,
        features=recipe.decoder_features if isinstance(recipe, SegmentationRecipe) else 1,
        seed=config.seed,
        settings=config.network_settings,
        in_channels=config.channels,
    )
    if config.pretrained is not None:
        encoder = cast(Encoder, network.get_submodule("encoder"))
        load_encoder(context.inputs[config.pretrained] / ENCODER_FILE, encoder)
    if config.trained == "decoder":
        freeze_encoder(network)
    if accelerator(context.device) != "cuda":
        _channels_last(network)
    return network


def _channels_last(network: nn.Module) -> None:
    """Store convolution kernels with channels last: gradients of few channels are faster so."""
    for parameter in network.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


def _trainable(
    network: nn.Module,
    recipe: Recipe,
    volumes: Volumes,
    val: Sequence[int],
    precision: Precision = nullcontext,
) -> Training:
    if isinstance(recipe, SegmentationRecipe):
        return segmentation.SegmentationTraining(network, recipe, volumes, val, precision)
    return classification.ClassificationTraining(network, recipe, volumes, val, precision)


def _rows(recipe: Recipe, volumes: Volumes, train: Sequence[int], seed: int) -> Rows:
    if isinstance(recipe, SegmentationRecipe):
        augmentation = build_augmentation(recipe.augmentation, recipe.roi)
        return CropRows(volumes, train, recipe, augmentation, seed)
    augmentation = build_augmentation(recipe.augmentation, volumes.shape(train[0]))
    return ImageRows(volumes, train, recipe.batch_size, augmentation, seed)


def _train(
    context: RunContext[FinetuneRun], trainable: Training, volumes: Volumes, splits: Splits
) -> FitResult:
    config, recipe, optimiser = context.config, context.config.recipe, context.config.optimiser
    rows = _rows(recipe, volumes, splits.train, config.seed)
    return fit(
        trainable,
        lambda start: travelling(stepwise(rows, start, recipe.steps, context.workers), trainable),
        build_optimiser(trainable.network, optimiser, config.encoder.depth, config.precision),
        lr_factor(
            optimiser.schedule, optimiser.warmup_steps, recipe.steps, optimiser.final_lr_factor
        ),
        LoopConfig(
            steps=recipe.steps,
            select=trainable.select,
            mode="max",
            log_every=config.log_every,
            validate_every=recipe.validate_every,
            checkpoint_every=config.checkpoint_every,
            precision=config.precision,
            threads=config.threads,
            clip_norm=optimiser.clip_norm,
            device=context.device,
        ),
        state=context.state,
        out=context.out,
        run_config=config.model_dump(mode="json"),
    )


def _score(out: Path, trained: Training, splits: Splits) -> None:
    """Score validation and test split as the validation did: in the training's precision."""
    network, volumes, precision = trained.network, trained.volumes, trained.precision
    if isinstance(trained, segmentation.SegmentationTraining):
        predict = segmentation.by_windows(network, trained.recipe, precision)
        results.score_segmentation(out, predict, trained.recipe, volumes, splits)
        return
    size = trained.recipe.batch_size
    validation, test = (
        classification.score_split(network, volumes, rows, size, precision)
        for rows in (splits.val, splits.test)
    )
    results.write_classification(out, validation, test, volumes)
