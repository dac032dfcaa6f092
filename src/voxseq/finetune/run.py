"""The stage that fine-tunes one network on one task with one seed, and scores it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Field, TypeAdapter
from torch import nn

from voxseq.config.finetune import ClassificationRecipe, SegmentationRecipe
from voxseq.config.model import EncoderConfig, OptimiserConfig
from voxseq.files import write_json
from voxseq.finetune import classification, results, segmentation
from voxseq.finetune.augment import build_augmentation
from voxseq.finetune.batches import CropBatches, ImageBatches, MakeBatch
from voxseq.finetune.networks import build_network
from voxseq.finetune.optim import build_optimiser
from voxseq.finetune.subsets import subset
from voxseq.finetune.volumes import Volumes
from voxseq.models.encoder import Encoder
from voxseq.models.transfer import ENCODER_FILE, load_encoder
from voxseq.training.batches import stepwise
from voxseq.training.loop import FitResult, LoopConfig, Trainable, fit
from voxseq.training.schedule import lr_factor

if TYPE_CHECKING:
    from voxseq.runs import RunContext

_LOG = logging.getLogger("voxseq.finetune")
Recipe = SegmentationRecipe | ClassificationRecipe
_RECIPE: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="type")])


@dataclass(frozen=True)
class _Splits:
    """Rows of the store by split; ``train`` is the share that the run may use."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def execute(context: RunContext) -> None:
    """Fine-tune, select by validation, then score the test split once.

    Writes metrics.csv, scores.csv (test), validation.csv, summary.json and cost.json, and for
    segmentation example.npz, for classification predictions.csv. No weights are kept.

    Raises:
        DataError: a split that cannot be trained on or scored.
        IntegrityError: a pre-trained encoder that is damaged or of another geometry.
        TrainingError: a loss or a validation score that is not finite.
    """
    config = context.config
    recipe = _RECIPE.validate_python(config["task"])
    volumes = Volumes(context.inputs[f"preprocess/task/{config['task_name']}"])
    splits = _splits(volumes, recipe, config["ratio"], config["seed"])
    network = _network(context, recipe)
    trainable = _trainable(network, recipe, volumes, splits.val)
    result = _train(context, trainable, recipe, volumes, splits)
    trainable.eval()
    if isinstance(recipe, SegmentationRecipe):
        _score_segmentation(context.out, network, recipe, volumes, splits)
    else:
        _score_classification(context.out, network, recipe, volumes, splits)
    _summarise(context, network, recipe, splits, result)


def _splits(volumes: Volumes, recipe: Recipe, ratio: float, seed: int) -> _Splits:
    train, val, test = (volumes.rows(split) for split in ("train", "val", "test"))
    for split, rows in (("val", val), ("test", test)):
        if isinstance(recipe, SegmentationRecipe):
            segmentation.require_foreground(volumes, rows, split)
        else:
            classification.require_both_classes(volumes, rows, split)
    row_of = {volumes.name(row): row for row in train}
    targets = None
    if isinstance(recipe, ClassificationRecipe):
        targets = [volumes.target(row) for row in train]
    chosen = subset(list(row_of), targets, ratio, seed)
    return _Splits(tuple(row_of[name] for name in chosen), val, test)


def _network(context: RunContext, recipe: Recipe) -> nn.Module:
    config = context.config
    is_segmentation = isinstance(recipe, SegmentationRecipe)
    network = build_network(
        config["network"],
        EncoderConfig.model_validate(config["encoder"]),
        classes=len(recipe.labels) + is_segmentation,
        features=recipe.decoder_features if isinstance(recipe, SegmentationRecipe) else 1,
        seed=config["seed"],
    )
    if config["pretrained"] is not None:
        encoder = cast(Encoder, network.get_submodule("encoder"))
        load_encoder(context.inputs[config["pretrained"]] / ENCODER_FILE, encoder)
    return network


def _trainable(
    network: nn.Module, recipe: Recipe, volumes: Volumes, val: Sequence[int]
) -> Trainable:
    if isinstance(recipe, SegmentationRecipe):
        return segmentation.SegmentationTraining(network, recipe, volumes, val)
    return classification.ClassificationTraining(network, recipe, volumes, val)


def _batches(recipe: Recipe, volumes: Volumes, train: Sequence[int], seed: int) -> MakeBatch:
    if isinstance(recipe, SegmentationRecipe):
        augmentation = build_augmentation(recipe.augmentation, recipe.roi)
        return CropBatches(volumes, train, recipe, augmentation, seed)
    augmentation = build_augmentation(recipe.augmentation, volumes.shape(train[0]))
    return ImageBatches(volumes, train, recipe.batch_size, augmentation, seed)


def _train(
    context: RunContext, trainable: Trainable, recipe: Recipe, volumes: Volumes, splits: _Splits
) -> FitResult:
    config = context.config
    shared: Mapping[str, Any] = config["shared"]
    optimiser = OptimiserConfig.model_validate(config["optimiser"])
    network = trainable.get_submodule("network")
    make_batch = _batches(recipe, volumes, splits.train, config["seed"])
    return fit(
        trainable,
        lambda start: stepwise(make_batch, start, recipe.steps, context.workers),
        build_optimiser(network, optimiser, EncoderConfig.model_validate(config["encoder"]).depth),
        lr_factor(optimiser.schedule, optimiser.warmup_steps, recipe.steps),
        LoopConfig(
            steps=recipe.steps,
            select=_selected_by(recipe),
            mode="max",
            log_every=shared["log_every"],
            validate_every=recipe.validate_every,
            checkpoint_every=shared["checkpoint_every"],
            precision=shared["precision"],
            threads=shared["threads"],
            clip_norm=optimiser.clip_norm,
        ),
        state=context.state,
        out=context.out,
        run_config=config,
    )


def _selected_by(recipe: Recipe) -> str:
    return segmentation.SELECT if isinstance(recipe, SegmentationRecipe) else recipe.select_by


def _score_segmentation(
    out: Path, network: nn.Module, recipe: SegmentationRecipe, volumes: Volumes, splits: _Splits
) -> None:
    for name, rows in (("validation.csv", splits.val), ("scores.csv", splits.test)):
        scores: list[results.Row] = []
        for case in segmentation.score_cases(network, volumes, rows, recipe):
            if name == "scores.csv" and case.row == splits.test[0]:
                example = (volumes.image(case.row), volumes.label(case.row), case.prediction)
                results.write_example(out / "example.npz", *example)
            scores += results.dice_rows(case, volumes, recipe.labels)
        results.write_scores(out / name, scores)


def _score_classification(
    out: Path, network: nn.Module, recipe: ClassificationRecipe, volumes: Volumes, splits: _Splits
) -> None:
    for name, rows in (("validation.csv", splits.val), ("scores.csv", splits.test)):
        scored = classification.score_split(network, volumes, rows, recipe.batch_size)
        results.write_scores(out / name, results.split_rows(scored))
    results.write_predictions(out / "predictions.csv", scored, volumes)


def _summarise(
    context: RunContext, network: nn.Module, recipe: Recipe, splits: _Splits, result: FitResult
) -> None:
    summary = {
        "task": context.config["task_name"],
        "method": context.config["method"],
        "seed": context.config["seed"],
        "ratio": context.config["ratio"],
        "n_train": len(splits.train),
        "n_val": len(splits.val),
        "n_test": len(splits.test),
        "selected_by": _selected_by(recipe),
        "selected_step": result.best_step,
        "validation_score": result.best_score,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    write_json(context.out / "summary.json", summary)
    cost = {
        "seconds": round(result.seconds, 2),
        "peak_memory_mb": round(result.peak_memory_mb, 1),
    }
    write_json(context.out / "cost.json", cost)
    _LOG.info(
        "%s: selected step %d with %s %.4f",
        context.run_id,
        result.best_step,
        summary["selected_by"],
        result.best_score,
    )
