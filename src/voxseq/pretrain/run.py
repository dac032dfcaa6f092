"""One pre-training run: any method, on sequences or single images, to one encoder."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from voxseq.base.errors import ConfigError, DataError
from voxseq.base.files import write_json
from voxseq.base.random import torch_generator
from voxseq.config.execution import DeviceConfig
from voxseq.config.model import OptimiserConfig
from voxseq.config.registry import METHODS
from voxseq.data.copies import local_copy
from voxseq.models.features import feature_statistics
from voxseq.models.transfer import ENCODER_FILE, prove_transfer, save_encoder
from voxseq.pretrain.base import PretrainMethod, StageWork
from voxseq.pretrain.batching import ItemRows, headers_of, read_volumes, views_of, volumes_of
from voxseq.sequences.sampler import SequenceSampler
from voxseq.training.batches import stepwise
from voxseq.training.copies import travelling
from voxseq.training.device import autocast_of, costs
from voxseq.training.distributed import WHOLE, BatchShard, processes
from voxseq.training.finite import require_finite
from voxseq.training.loggers import Followed
from voxseq.training.loop import Batch, LoopConfig, Trainable, fit
from voxseq.training.optimiser import adamw
from voxseq.training.schedule import lr_factor

if TYPE_CHECKING:
    from voxseq.config.runs import PretrainRun
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.pretrain")


def method_class(method: str) -> type[PretrainMethod]:
    """The class of a registered method."""
    module, name = METHODS[method].implementation.split(":")
    found: type[PretrainMethod] = getattr(
        importlib.import_module(module, "voxseq.pretrain.methods"), name
    )
    return found


def build_method(config: PretrainRun) -> PretrainMethod:
    """The method's module with random weights, the same for the same seed."""
    implementation = method_class(config.method)
    return implementation(config.settings, config.encoder, config.sequences, config.seed)


class PretrainTask(Trainable):
    """A method together with its data, as the training loop wants it."""

    def __init__(
        self,
        method: PretrainMethod,
        sampler: SequenceSampler,
        config: PretrainRun,
        shard: BatchShard = WHOLE,
        state: Path | None = None,
    ) -> None:
        super().__init__()
        self.method = method
        self._state, self._precision = state, config.precision
        self._sampler, self._seed, self.steps = sampler, config.seed, config.steps
        size = config.batch_size
        self.rows = ItemRows(method.batching, sampler, config.seed, size, shard)
        items = sampler.validation(
            config.validation_sequences, sequences=method.batching.needs == "sequence"
        )
        if len(items) < 2:
            raise DataError(
                f"{len(items)} validation sequences, expected at least 2",
                "lower sequences.validation_every",
            )
        # As raw rows, of which the views are made each time: they take many times the memory.
        self._validation = [
            self.rows.held_out(items[first : first + size], first)
            for first in range(0, len(items), size)
        ]

    def transfer(self, batch: Batch, device: torch.device) -> Batch:
        """Move the voxels of raw rows; the rest is read on the CPU."""
        if device.type == "cpu":
            return batch
        rows, used = batch["voxels"], headers_of(batch, self._sampler.header)["used"]
        moved = torch.empty(rows.shape, dtype=rows.dtype, device=device)
        # Items have the room of the largest one, of which most need a part.
        for there, here, size in zip(moved, rows, used.tolist(), strict=True):
            there[:size].copy_(here[:size], non_blocking=True)
        kept = {name: value.clone() for name, value in batch.items() if name != "voxels"}
        return {"voxels": moved, **kept}

    def prepare(self, batch: Batch) -> Batch:
        """Make the method's views of raw rows, on the device of their voxels."""
        return views_of(batch, self._volumes(batch), self._sampler.header, self.method.batching)

    def _volumes(self, batch: Batch) -> Tensor:
        return volumes_of(batch, self._sampler.header, self._sampler.config)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of a training batch."""
        generator = torch_generator(self._seed, "method", step)
        self.method.shard = self.shard
        return self.method.training_loss(batch, step, generator)

    def before_update(self, step: int, groups: Sequence[dict[str, Any]]) -> None:
        """Clipping per parameter and the like."""
        self.method.before_update(step, groups)

    def after_step(self, step: int) -> None:
        """Moving averages and the like."""
        self.method.after_step(step, self.steps)

    def begin_stage(self, number: int, workers: int = 0) -> None:
        """Rehearsal buffers and the like.

        Args:
            number: of the stage.
            workers: processes that read items for it.
        """
        device = next(self.method.parameters()).device
        read = partial(read_volumes, self._sampler, workers=workers, device=device)
        work = StageWork(self._state, self._precision, read)
        self.method.begin_stage(number, self._sampler, work)

    def validate(self) -> dict[str, float]:
        """Mean validation loss, and whether the features have collapsed.

        The processes share the batches of held-out items among them, and all have all results.
        """
        self.method.shard = WHOLE
        here = processes()
        own = range(here.rank, len(self._validation), here.world_size)
        found = here.gather({number: self._validated(number) for number in own})
        parts = dict(sorted(pair for part in found for pair in part.items()))
        features = torch.cat([rows for _, rows in parts.values()])
        means = {
            name: sum(losses[name] * len(rows) for losses, rows in parts.values()) / len(features)
            for name in parts[0][0]
        }
        return means | feature_statistics(features)

    def _validated(self, number: int) -> tuple[dict[str, float], Tensor]:
        """Losses of a batch of held-out items, and the mean features (B, C) of their volumes."""
        weight = next(self.method.parameters())
        kept = self.transfer(self._validation[number], weight.device)
        volumes = self._volumes(kept)
        batch = views_of(kept, volumes, self._sampler.header, self.method.batching)
        generator = torch_generator(self._seed, "validation", number)
        losses = {}
        with autocast_of(self._precision, weight.device.type)():
            for name, value in self.method.validation_loss(batch, generator).items():
                require_finite(f"the validation's {name}", value)
                losses[name] = float(value)
            features = self.method.encoder(volumes).tokens.mean(dim=1)
        return losses, features.float().cpu()


def execute(context: RunContext[PretrainRun]) -> None:
    """Pre-train one method.

    Writes ``encoder.safetensors``, ``metrics.csv``, ``summary.json``, and ``cost.json`` of
    the state.
    """
    config = context.config
    # Before any compute: an encoder of this geometry must fit every downstream network that its
    # tokens allow.
    prove_transfer(config.encoder, segmentation=config.encoder.has_binary_cubes)
    torch.set_num_threads(config.threads)
    stores = {
        name: local_copy(folder, context.device.staging)
        for name, folder in context.inputs_below("preprocess/source/").items()
    }
    sampler = SequenceSampler(
        context.input("sequences/all"), stores, config.sequences, config.kinds, config.seed
    )
    method = build_method(config)
    method.begin(config.steps, sampler)
    if context.training.recomputes(config.method):
        method.recompute()
    if context.device.compile:
        method.compile_blocks()
    here = processes()
    accumulate = context.training.accumulate.get(config.method, 1)
    _report_division(config.batch_size, here.world_size, accumulate)
    shard = BatchShard(here.rank, here.world_size)
    task = PretrainTask(method, sampler, config, shard, context.state)
    recipe = config.settings.optimiser
    optimiser = adamw(method.parameter_groups(recipe), recipe, config.precision)
    _LOG.info(
        "%s: %d sequences (%s), %d steps of %d",
        config.method,
        len(sampler),
        ", ".join(config.kinds),
        config.steps,
        config.batch_size,
    )
    result = fit(
        task,
        lambda start: staged_batches(task, optimiser, start, context.workers),
        optimiser,
        staged_lr_factor(recipe, method.stages(config.steps)),
        loop_config(
            config,
            method.selection,
            accumulate=accumulate,
            device=context.device,
        ),
        state=context.state,
        out=context.out,
        run_config=config.model_dump(mode="json"),
        followed=Followed(context.run_id, context.fingerprint, context.logs),
    )
    if not here.is_first:
        return
    _write_results(context.out, config, method, sampler, result.best_step, result.best_score)
    write_json(
        context.state / "cost.json",
        {"seconds": round(result.seconds, 2), **result.pace.numbers(), **costs()},
    )


def _report_division(batch: int, processes: int, accumulate: int) -> None:
    """Log the arithmetic of the batch.

    Raises:
        ConfigError: it does not divide.
    """
    each, rest = divmod(batch, processes * accumulate)
    if rest:
        raise ConfigError(
            f"pretrain.batch_size {batch} does not divide into {processes} processes times "
            f"{accumulate} accumulated parts",
            "start as many processes as execution.pretrain.processes says",
        )
    _LOG.info(
        "batch of %d = %d a device x %d devices x %d accumulated",
        batch,
        each,
        processes,
        accumulate,
    )


def staged_batches(
    task: PretrainTask, optimiser: torch.optim.Optimizer, start: int, workers: int
) -> Generator[Batch, None, None]:
    """Batches from step ``start`` on; each stage begins with a fresh optimiser.

    The stage begins when its first batch is asked for, that is after the last update of the stage
    before; a run that resumes at this very step begins it again, with the same outcome.
    """
    for number, steps in enumerate(task.method.stages(task.steps)):
        if start >= steps.stop:
            continue
        if start <= steps.start:
            optimiser.state.clear()
            task.begin_stage(number, workers)
        first = max(start, steps.start)
        yield from travelling(stepwise(task.rows, first, steps.stop, workers), task)


def staged_lr_factor(optimiser: OptimiserConfig, stages: Sequence[range]) -> Callable[[int], float]:
    """Learning-rate factor of each step: every stage warms up and decays by itself."""
    factors = [
        lr_factor(optimiser.schedule, optimiser.warmup_steps, len(steps), optimiser.final_lr_factor)
        for steps in stages
    ]

    def factor(step: int) -> float:
        number = next((i for i, steps in enumerate(stages) if step in steps), len(stages) - 1)
        return factors[number](step - stages[number].start)

    return factor


def loop_config(
    config: PretrainRun,
    selection: str,
    *,
    accumulate: int = 1,
    device: DeviceConfig | None = None,
) -> LoopConfig:
    """Loop settings of a pre-training; ``selection`` as in :class:`PretrainMethod`."""
    return LoopConfig(
        steps=config.steps,
        select="loss",
        mode="last" if selection == "last" else "min",
        log_every=config.log_every,
        validate_every=config.validate_every,
        checkpoint_every=config.checkpoint_every,
        precision=config.precision,
        threads=config.threads,
        clip_norm=config.settings.optimiser.clip_norm,
        accumulate=accumulate,
        device=device or DeviceConfig(),
    )


def preprocessing(config: PretrainRun) -> dict[str, Any]:
    """How the images of a pre-training become the volumes of its encoder.

    Crops of ``crop_shape`` voxels are resized to ``window_shape``, and the ``percentiles`` of each
    crop's intensities become 0 and 1.
    """
    sequences = config.sequences
    return {
        "orientation": "RAS where the file states one",
        "spacing": "as stored: no crop is resampled to millimetres",
        "crop_shape": list(sequences.spatial.crop_shape),
        "window_shape": list(sequences.spatial.window_shape),
        "volume_shape": list(sequences.volume_shape),
        "patch_shape": list(sequences.patch_shape),
        "length": sequences.length,
        "percentiles": list(sequences.percentiles),
    }


def _write_results(
    out: Path,
    config: PretrainRun,
    method: PretrainMethod,
    sampler: SequenceSampler,
    best_step: int,
    best_loss: float,
) -> None:
    record = {
        "method": config.method,
        "settings": config.settings.model_dump(mode="json"),
        # Without those of which no source is here.
        "kinds": list(sampler.kinds),
        "selected_step": best_step,
        "sequences": len(sampler),
        "preprocessing": preprocessing(config),
        "data": [
            {
                "dataset": source.dataset,
                "kind": source.kind,
                "licence": config.licences.get(source.dataset, ""),
            }
            for source in config.sequences.sources
            if source.kind in config.kinds
        ],
    }
    save_encoder(out / ENCODER_FILE, method.encoder, config.encoder, record)
    summary = {
        "selected_step": best_step,
        "validation_loss": round(best_loss, 6),
        "parameters": sum(p.numel() for p in method.parameters()),
        "encoder_parameters": sum(p.numel() for p in method.encoder.parameters()),
        "training_sequences": len(sampler),
    }
    write_json(out / "summary.json", summary)
