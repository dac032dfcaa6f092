"""The one training loop; it knows no method and no task by name."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric.loggers.logger import Logger
from torch import Tensor, nn

from voxseq.base.errors import Interrupted, NotFiniteError, TrainingError
from voxseq.base.progress import Facts, track
from voxseq.base.stopping import StopRequests, stop_requests
from voxseq.config.execution import DeviceConfig
from voxseq.training import checkpoint
from voxseq.training.batches import lost_workers_named
from voxseq.training.device import accelerator, device_peak, set_arithmetic
from voxseq.training.distributed import (
    WHOLE,
    BatchShard,
    processes,
    shard_of,
    synchronise_batch_norms,
)
from voxseq.training.finite import FiniteWatch, finite
from voxseq.training.loggers import Followed, open_loggers
from voxseq.training.memory import keep_freed_memory
from voxseq.training.optimiser import clip_gradients
from voxseq.training.pace import Pace
from voxseq.training.records import Progress, record, write_metrics

_LOG = logging.getLogger("voxseq.training")
Batch = dict[str, Tensor]
#: Generator over this process's rows of the batches from a given step on, on its device; see
#: :func:`voxseq.training.copies.travelling`.
Batches = Callable[[int], Generator[Batch, None, None]]


class Trainable(nn.Module, ABC):
    """Module that the loop trains: its forward pass returns its losses.

    Attributes:
        shard: the rows of the global batch that the next forward pass gets.
    """

    shard: BatchShard = WHOLE

    def transfer(self, batch: Batch, device: torch.device) -> Batch:
        """Move a batch of rows to a device, without waiting for it to be there."""
        return {name: value.to(device, non_blocking=True) for name, value in batch.items()}

    def prepare(self, batch: Batch) -> Batch:
        """Make what :meth:`forward` takes of rows on the device, in full precision."""
        return batch

    @abstractmethod
    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return ``{"loss": scalar to minimise, …further scalars to log}``.

        All random numbers come from generators seeded by (seed, step). The mean over the shards of
        a batch is the loss of the global batch.
        """

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Scores on the validation split, computed in the training's precision.

        Raises:
            NotFiniteError: what the scores are computed of is not finite.
        """

    def before_update(self, step: int, groups: Sequence[dict[str, Any]]) -> None:
        """Called between the backward pass and the update of ``step``, for clipping and the like.

        Args:
            step: from 0.
            groups: the optimiser's parameter groups.
        """

    def after_step(self, step: int) -> None:
        """Called after the update of ``step``, for moving averages and the like."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how a training runs.

    Attributes:
        select: validation score by which the weights are chosen.
        accumulate: parts of a batch that are computed one after the other before an update.
        device: where it is computed, and how.
        mode: whether a larger or a smaller score is better, or the last weights are kept.
    """

    steps: int
    select: str
    mode: Literal["max", "min", "last"]
    log_every: int = 20
    validate_every: int = 100
    checkpoint_every: int = 100
    precision: str = "32-true"
    threads: int = 1
    clip_norm: float | None = None
    accumulate: int = 1
    device: DeviceConfig = field(default_factory=DeviceConfig)

    def is_better(self, score: float, best: float | None) -> bool:
        """Whether ``score`` replaces ``best``; of equal scores the earlier step stays."""
        if not math.isfinite(score):
            return False
        if best is None or self.mode == "last":
            return True
        return score > best if self.mode == "max" else score < best


@dataclass(frozen=True)
class FitResult:
    """Outcome of a training; the module then holds the selected weights."""

    best_step: int
    best_score: float
    seconds: float
    pace: Pace


def fit(
    trainable: Trainable,
    batches: Batches,
    optimiser: torch.optim.Optimizer,
    lr_factor: Callable[[int], float],
    config: LoopConfig,
    *,
    state: Path,
    out: Path,
    run_config: Mapping[str, Any],
    followed: Followed | None = None,
) -> FitResult:
    """Train, validate, select and record; resume from the checkpoint in ``state``, if there is one.

    The processes of a group train together; rank 0 alone writes files.

    Args:
        trainable: the module with its losses; it ends with the selected weights.
        batches: gives a generator over this process's rows of the batches from a given step on.
        optimiser: over the parameters of ``trainable``, at base learning rates.
        lr_factor: factor of the base learning rates at each step.
        config: length, precision, selection.
        state: folder of the checkpoint.
        out: folder of ``metrics.csv`` with columns step, split, name, value.
        run_config: the run's whole configuration, to which the checkpoint is tied.
        followed: where loggers of other programs write; None: none follows.

    Raises:
        ConfigError: a logger whose package is missing.
        TrainingError: a loss, weights or statistics that are not finite, or no validation with a
            finite score.
        ResourceError: no room for a checkpoint or for batches, no memory, or a worker that was
            ended or stands still.
        Interrupted: a signal asked to stop; a checkpoint has been written.
    """
    torch.set_num_threads(config.threads)
    keep_freed_memory()
    set_arithmetic(config.device)
    state.mkdir(parents=True, exist_ok=True)
    following = open_loggers(config.device.loggers, followed, run_config)
    with stop_requests() as stop, lost_workers_named(), following as loggers:
        training = _Training(trainable, optimiser, lr_factor, config, state, run_config, loggers)
        with training.divergence_named():
            try:
                training.run(batches, stop)
            except Interrupted as request:
                stop.close()
                raise training.stopped(request) from None
    progress = training.progress
    if training.processes.is_first:
        write_metrics(out / "metrics.csv", progress)
    if training.best is None or progress.best_score is None:
        raise TrainingError(
            f"no validation gave a finite {config.select} in {config.steps} steps",
            "look at metrics.csv and at the validation data",
        )
    trainable.load_state_dict(training.best)
    _LOG.info("%s", training.pace)
    return FitResult(progress.best_step, progress.best_score, progress.seconds, training.pace)


class _Training:
    """A training under way: its parts, and the state that a checkpoint holds."""

    def __init__(
        self,
        trainable: Trainable,
        optimiser: torch.optim.Optimizer,
        lr_factor: Callable[[int], float],
        config: LoopConfig,
        state: Path,
        run_config: Mapping[str, Any],
        loggers: list[Logger],
    ) -> None:
        self.trainable, self.optimiser, self.loggers = trainable, optimiser, loggers
        self.config, self.state, self.run_config = config, state, run_config
        self.processes = processes()
        self.fabric = self.processes.fabric(config.precision, config.device)
        if self.processes.world_size > 1:
            synchronise_batch_norms(trainable, accelerator(config.device))
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lr_factor)
        self.wrapped, self.wrapped_optimiser = self.fabric.setup(trainable, optimiser)
        self.progress = Progress()
        peak = device_peak(self.fabric.device, config.precision, config.device)
        self.pace = Pace(peak)
        self.numbers = FiniteWatch()
        self.best: dict[str, Tensor] | None = None
        self.ids: Tensor | None = None
        self.loss: Tensor | None = None
        #: Whether the state is that after a whole step.
        self.is_whole = True
        #: Whether all processes stop at the same step.
        self.is_agreed = False
        self._restore()
        self.began = time.monotonic() - self.progress.seconds
        minutes = config.device.checkpoint_minutes
        self.times = checkpoint.SaveTimes(config.steps, config.checkpoint_every, minutes)

    def run(self, batches: Batches, stop: StopRequests) -> None:
        """Do the steps that are left.

        A request to stop takes effect between two steps or during a validation: there the state is
        that after a whole step. Several processes agree on the step.
        """
        progress, config = self.progress, self.config
        if progress.step:
            _LOG.info("resuming at step %d of %d", progress.step, config.steps)
        several = self.processes.world_size > 1
        watching = stop.watched() if several else nullcontext()
        with watching, closing(batches(progress.step)) as source:
            self._validate_if_due(stop)
            steps = range(progress.step, config.steps)
            for step in track(steps, "training", config.steps, progress.step, self.facts):
                if several and self.processes.any(bool(stop.requested)):
                    self.is_agreed = True
                    raise Interrupted("one of the processes was asked to stop")
                with stop.held(), self.pace.waiting():
                    # Preparing batches takes locks and is better not interrupted.
                    batch = next(source)
                with stop.held(), self.pace.counting():
                    self.is_whole = False
                    self._update(step, batch)
                    self.is_whole = True
                self.pace.done(len(next(iter(batch.values()))) * self.processes.world_size)
                self._validate_if_due(stop)
                if self.times.is_due(progress.step):
                    with stop.held():
                        self.save()

    def facts(self) -> Facts:
        """Numbers for who looks on; asked for rarely, because a GPU has to be awaited."""
        loss = None if self.loss is None else float(self.loss)
        best = {"best_step": self.progress.best_step, "best_score": self.progress.best_score}
        return {"loss": loss, "samples_per_second": self.pace.samples_per_second, **best}

    def save(self) -> Path:
        """Write the checkpoint, on rank 0.

        Raises:
            NotFiniteError: weights that are not finite, which no resumed run could mend.
        """
        self._require_finite()
        path = self.state / checkpoint.FILE
        if self.processes.is_first:
            content = {
                "model": self.trainable.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "best": self.best,
                "progress": vars(self.progress),
            }
            checkpoint.save(self.state, content, self.run_config)
        self.times.saved()
        return path

    def stopped(self, request: Interrupted) -> Interrupted:
        """Save what can be saved, and say at which step the run resumes."""
        if not self.is_whole:
            # In the middle of a step there is no state from which a run could resume.
            return Interrupted(f"{request}; the step took too long to wait for its end")
        path = self.save()
        if self.is_agreed:
            self.processes.barrier()
        return Interrupted(f"stopped at step {self.progress.step}; checkpoint {path}")

    @contextmanager
    def divergence_named(self) -> Iterator[None]:
        """Add step and items to an error about numbers, and the checkpoint that there is."""
        try:
            yield
        except NotFiniteError as error:
            # After a whole step what is not finite is the outcome of that step.
            step, ids = max(self.progress.step - self.is_whole, 0), self.ids
            if self.numbers.failed is not None:
                step, ids = self.numbers.failed
            items = f", items {ids.tolist()}" if ids is not None else ""
            last = self.state / checkpoint.FILE
            kept = f"last good checkpoint: {last}" if last.exists() else "no checkpoint yet"
            raise TrainingError(
                f"{error.what} at step {step}{items}",
                f"{error.hint} or look at these items; {kept}",
            ) from error

    def _require_finite(self) -> None:
        self.numbers.settle()
        for name, is_finite in finite(self.trainable, self.optimiser).items():
            if not is_finite:
                raise NotFiniteError(f"the {name} after its update is not finite")

    def _restore(self) -> None:
        saved = checkpoint.load(self.state, self.run_config)
        if saved is None:
            return
        self.trainable.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.scheduler.load_state_dict(saved["scheduler"])
        self.fabric.strategy.precision.load_state_dict(saved["precision"])
        self.progress, self.best = Progress(**saved["progress"]), saved["best"]

    def _update(self, step: int, batch: Batch) -> None:
        """One training step."""
        progress, config, optimiser = self.progress, self.config, self.optimiser
        ids = batch.get("ids")
        self.ids = None if ids is None else ids.clone()
        self.numbers.begin(step, self.ids)
        self.wrapped.train()
        losses = self._differentiated(batch, step)
        self.loss = losses["loss"].detach()
        self.trainable.before_update(step, optimiser.param_groups)
        if config.clip_norm is not None:
            norm = clip_gradients(
                self.fabric, self.wrapped, self.wrapped_optimiser, config.clip_norm
            )
            self.numbers.require("the gradient norm", norm)
        lr = max(group["lr"] for group in optimiser.param_groups)
        self.wrapped_optimiser.step()
        self.wrapped_optimiser.zero_grad(set_to_none=True)
        self.scheduler.step()
        self.trainable.after_step(step)
        progress.step = step + 1
        progress.validation_due = (
            progress.step % config.validate_every == 0 or progress.step == config.steps
        )
        progress.seconds = time.monotonic() - self.began
        if step % config.log_every == 0 or progress.step == config.steps:
            numbers = {name: float(value.detach()) for name, value in losses.items()}
            record(progress, "train", {**numbers, "lr": lr}, self.loggers)

    def _differentiated(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Leave the gradient of the global batch in the weights, and return its losses."""
        count, here = self.config.accumulate, self.processes
        found: list[dict[str, Tensor]] = []
        for number in range(count):
            self.trainable.shard = BatchShard(here.rank * count + number, here.world_size * count)
            part = self.trainable.prepare(shard_of(batch, BatchShard(number, count)))
            # Gradients wait on each rank, to be averaged with those of the last part.
            waits = here.world_size > 1 and number + 1 < count
            with self.fabric.no_backward_sync(self.wrapped) if waits else nullcontext():
                losses = self.wrapped(part, step)
                found.append(here.mean(losses))
                self.numbers.require("the loss", losses["loss"])
                if here.world_size > 1:
                    self.numbers.require("the loss of another process", found[-1]["loss"])
                self.fabric.backward(losses["loss"] if count == 1 else losses["loss"] / count)
        if count == 1:
            return found[0]
        return {name: torch.stack([f[name].detach() for f in found]).mean() for name in found[0]}

    def _validate_if_due(self, stop: StopRequests) -> None:
        progress, config = self.progress, self.config
        if not progress.validation_due:
            return
        self._require_finite()
        self.trainable.eval()
        with torch.no_grad():
            scores = self.trainable.validate()
        with stop.held():
            record(progress, "val", scores, self.loggers)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
            _LOG.info("step %d: %s (%s)", progress.step, shown, self.pace)
            if config.is_better(scores[config.select], progress.best_score):
                progress.best_score, progress.best_step = scores[config.select], progress.step
                state = self.trainable.state_dict()
                self.best = {k: v.detach().clone() for k, v in state.items()}
            progress.validation_due = False
            progress.seconds = time.monotonic() - self.began
