"""The stage that fine-tunes one network on one task with one seed, and scores it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from voxseq.base.environment import environment
from voxseq.data.copies import local_copy
from voxseq.data.task_volumes import Volumes
from voxseq.finetune import results
from voxseq.finetune.kinds import KINDS
from voxseq.finetune.recipe import choose_splits
from voxseq.finetune.training import TaskTraining, build_optimiser
from voxseq.models.bundle import ModelCard, Standard, Validation, save_model
from voxseq.models.encoder import Encoder
from voxseq.models.networks import build_network, channels_last, freeze_encoder
from voxseq.models.transfer import ENCODER_FILE, load_encoder, read_record
from voxseq.training.batches import stepwise
from voxseq.training.copies import travelling
from voxseq.training.device import accelerator, autocast_of
from voxseq.training.loggers import Followed
from voxseq.training.loop import FitResult, LoopConfig, fit
from voxseq.training.rows import Rows
from voxseq.training.schedule import lr_factor

if TYPE_CHECKING:
    from voxseq.config.runs import FinetuneRun
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.finetune")


def execute(context: RunContext[FinetuneRun]) -> None:
    """Fine-tune, select by validation, then score the test split once.

    Writes metrics.csv, scores.csv (test), validation.csv, worst.npz, summary.json and cost.json,
    and for segmentation example.npz, for other types predictions.csv. A network that is to be kept
    is in model.safetensors, its description in model.json.

    Raises:
        ConfigError: an unknown network, or one without the encoder that is to be frozen.
        DataError: a split that cannot be trained on or scored.
        IntegrityError: a pre-trained encoder that is damaged or of another geometry.
        TrainingError: a loss, weights, logits or a validation score that is not finite.
    """
    config = context.config
    recipe, kind = config.recipe, KINDS[config.recipe.type]
    store = context.input(f"preprocess/task/{config.task}")
    volumes = Volumes(local_copy(store, context.device.staging))
    splits = choose_splits(volumes, config)
    network = _network(context)
    precision = autocast_of(config.precision, accelerator(context.device))
    trainable = kind.training.of(network, recipe, volumes, splits, precision)
    rows = kind.rows(recipe, volumes, splits.train, config.seed)
    result = _train(context, trainable, rows)
    trainable.eval()
    further = trainable.score(context.out, splits)
    if config.kept is not None:
        card = _card(context, volumes, trainable, result)
        save_model(context.out, network, card)
    numbers = {
        "selected_by": trainable.select,
        "selected_step": result.best_step,
        "validation_score": result.best_score,
        "parameters": sum(p.numel() for p in network.parameters()),
        **further,
    }
    cost = {"seconds": round(result.seconds, 2), **result.pace.numbers()}
    results.write_summary(context, splits, numbers, cost)
    _LOG.info(
        "%s: selected step %d with %s %.4f",
        *(context.run_id, result.best_step, trainable.select, result.best_score),
    )


def _network(context: RunContext[FinetuneRun]) -> nn.Module:
    config, recipe = context.config, context.config.recipe
    network = build_network(
        config.network,
        config.encoder,
        classes=recipe.outputs,
        features=getattr(recipe, "decoder_features", 1),
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
        channels_last(network)
    return network


def _card(
    context: RunContext[FinetuneRun],
    volumes: Volumes,
    trainable: TaskTraining[Any],
    result: FitResult,
) -> ModelCard:
    """Description of the network that was selected."""
    config, kept = context.config, context.config.kept
    assert kept is not None
    record = None
    if config.pretrained is not None:
        record = read_record(context.inputs[config.pretrained] / ENCODER_FILE)["record"]
    same = ("network", "network_settings", "encoder", "recipe", "precision")
    score = result.best_score if math.isfinite(result.best_score) else None
    return ModelCard(
        **{name: getattr(config, name) for name in (*same, "method", "seed", "ratio")},
        data=kept.data,
        oriented=any(volumes.table["orientation"].to_pylist()),
        task=kept.title,
        dataset=kept.dataset,
        licence=kept.licence,
        inputs=kept.inputs,
        channels=kept.channels,
        run=context.run_id,
        fingerprint=context.fingerprint,
        pretraining=record,
        standard=_standard(trainable.facts()),
        validation=Validation(score=trainable.select, value=score, step=result.best_step),
        versions=environment(),
    )


def _standard(facts: Mapping[str, Any]) -> Standard | None:
    """Scale of the network's output, where it is a number."""
    if "target_mean" not in facts:
        return None
    return Standard(mean=facts["target_mean"], sd=facts["target_sd"])


def _train(context: RunContext[FinetuneRun], trainable: TaskTraining[Any], rows: Rows) -> FitResult:
    config, recipe, optimiser = context.config, context.config.recipe, context.config.optimiser
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
            mode=trainable.mode,
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
        followed=Followed(context.run_id, context.fingerprint, context.logs),
    )
