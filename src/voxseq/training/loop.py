"""The one training loop; it knows no method and no task by name."""

from __future__ import annotations

import csv
import logging
import math
import resource
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from voxseq.errors import Interrupted, TrainingError
from voxseq.files import atomic_path, write_json
from voxseq.progress import track
from voxseq.training import checkpoint

_LOG = logging.getLogger("voxseq.training")
Batch = dict[str, Tensor]


class Trainable(nn.Module, ABC):
    """What the loop trains: a module whose forward pass returns its losses."""

    @abstractmethod
    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return ``{"loss": scalar to minimise, …further scalars to log}``.

        Whatever is random must come from generators seeded by (seed, step).
        """

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Scores on the validation split."""

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

    def is_better(self, score: float, best: float | None) -> bool:
        """Whether ``score`` replaces ``best``; of equal scores the earlier step stays."""
        if math.isnan(score):
            return False
        if best is None or self.mode == "last":
            return True
        return score > best if self.mode == "max" else score < best


@dataclass
class Progress:
    """State of a run besides weights and optimiser; all of it is in the checkpoint."""

    step: int = 0
    best_step: int = -1
    best_score: float | None = None
    seconds: float = 0.0
    rows: list[tuple[int, str, str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class FitResult:
    """Outcome of a training; the module then holds the selected weights."""

    best_step: int
    best_score: float
    seconds: float
    peak_memory_mb: float


def fit(
    trainable: Trainable,
    batches: Callable[[int], Iterator[Batch]],
    optimiser: torch.optim.Optimizer,
    lr_factor: Callable[[int], float],
    config: LoopConfig,
    *,
    state: Path,
    out: Path,
    run_config: Mapping[str, Any],
) -> FitResult:
    """Train, validate, select and record; resume from ``state`` where a checkpoint lies there.

    Args:
        trainable: the module with its losses; it ends with the selected weights.
        batches: gives an iterator over the batches from a given step on.
        optimiser: over the parameters of ``trainable``, at base learning rates.
        lr_factor: factor of the base learning rates at each step.
        config: length, precision, selection.
        state: folder of the checkpoint and of ``progress.json``.
        out: folder of ``metrics.csv`` with columns step, split, name, value.
        run_config: the run's whole configuration, to which the checkpoint is tied.

    Raises:
        TrainingError: a loss that is not finite, or no validation with a finite score.
        Interrupted: SIGTERM or SIGUSR1 arrived; a checkpoint has been written.
    """
    torch.set_num_threads(config.threads)
    state.mkdir(parents=True, exist_ok=True)
    fabric = Fabric(accelerator="auto", devices=1, precision=config.precision)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lr_factor)
    wrapped, wrapped_optimiser = fabric.setup(trainable, optimiser)
    progress, best = _restore(trainable, optimiser, scheduler, state, run_config)
    if progress.step:
        _LOG.info("resuming at step %d of %d", progress.step, config.steps)

    def save() -> Path:
        content = {
            "model": trainable.state_dict(),
            "optimiser": optimiser.state_dict(),
            "scheduler": scheduler.state_dict(),
            "best": best,
            "progress": vars(progress),
        }
        return checkpoint.save(state, content, run_config)

    began = time.monotonic() - progress.seconds
    steps = range(progress.step, config.steps)
    with _stop_requests() as stop:
        source = batches(progress.step)
        for step in track(steps, "training", config.steps, progress.step):
            batch = fabric.to_device(next(source))
            wrapped.train()
            losses = wrapped(batch, step)
            _check_finite(losses["loss"], step, batch, state)
            fabric.backward(losses["loss"])
            trainable.before_update(step, optimiser.param_groups)
            if config.clip_norm is not None:
                norm = _clipped(fabric, wrapped, wrapped_optimiser, config)
                _check_finite(norm, step, batch, state, "gradient norm")
            lr = max(group["lr"] for group in optimiser.param_groups)
            wrapped_optimiser.step()
            wrapped_optimiser.zero_grad(set_to_none=True)
            scheduler.step()
            trainable.after_step(step)
            progress.step = step + 1
            if step % config.log_every == 0 or progress.step == config.steps:
                _record(progress, "train", {**_scalars(losses), "lr": lr})
                _report(state, progress, config, time.monotonic() - began)
            if progress.step % config.validate_every == 0 or progress.step == config.steps:
                scores = _validated(trainable)
                _record(progress, "val", scores)
                _LOG.info("step %d: %s", progress.step, _line(scores))
                if config.is_better(scores[config.select], progress.best_score):
                    progress.best_score, progress.best_step = scores[config.select], progress.step
                    best = {k: v.detach().clone() for k, v in trainable.state_dict().items()}
            progress.seconds = time.monotonic() - began
            if stop.requested:
                raise Interrupted(f"stopped at step {progress.step}; checkpoint {save()}")
            if progress.step % config.checkpoint_every == 0 and progress.step < config.steps:
                save()
    _write_metrics(out / "metrics.csv", progress)
    if best is None or progress.best_score is None:
        raise TrainingError(
            f"no validation gave a finite {config.select} in {config.steps} steps",
            "look at metrics.csv and at the validation data",
        )
    trainable.load_state_dict(best)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return FitResult(progress.best_step, progress.best_score, progress.seconds, peak)


def _restore(
    trainable: Trainable,
    optimiser: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LambdaLR,
    state: Path,
    run_config: Mapping[str, Any],
) -> tuple[Progress, dict[str, Tensor] | None]:
    saved = checkpoint.load(state, run_config)
    if saved is None:
        return Progress(), None
    trainable.load_state_dict(saved["model"])
    optimiser.load_state_dict(saved["optimiser"])
    scheduler.load_state_dict(saved["scheduler"])
    return Progress(**saved["progress"]), saved["best"]


def _clipped(fabric: Fabric, module: Any, optimiser: Any, config: LoopConfig) -> Tensor:
    """Clip the gradient and return the norm that it had, which is finite or a reason to stop."""
    norm: Tensor = fabric.clip_gradients(
        module, optimiser, max_norm=config.clip_norm, error_if_nonfinite=False
    )
    # With 16-bit floats an overflow is no fault: the scaler leaves the step out.
    return norm.nan_to_num() if config.precision == "16-mixed" else norm


def _validated(trainable: Trainable) -> dict[str, float]:
    trainable.eval()
    with torch.no_grad():
        return trainable.validate()


def _scalars(losses: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in losses.items()}


def _record(progress: Progress, split: str, values: Mapping[str, float]) -> None:
    progress.rows.extend((progress.step, split, name, value) for name, value in values.items())


def _report(state: Path, progress: Progress, config: LoopConfig, seconds: float) -> None:
    losses = [row[3] for row in progress.rows if row[1:3] == ("train", "loss")]
    write_json(
        state / "progress.json",
        {
            "step": progress.step,
            "steps": config.steps,
            "loss": losses[-1],
            "seconds": round(seconds, 1),
            "best_step": progress.best_step,
            "best_score": progress.best_score,
        },
    )


def _line(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _check_finite(value: Tensor, step: int, batch: Batch, state: Path, what: str = "loss") -> None:
    if torch.isfinite(value).item():
        return
    ids = batch.get("ids")
    named = f", items {ids.tolist()}" if ids is not None else ""
    last = state / checkpoint.FILE
    raise TrainingError(
        f"the {what} is {float(value.detach())} at step {step}{named}",
        f"lower the learning rate or look at these items; last good checkpoint: {last}"
        if last.exists()
        else "lower the learning rate or look at these items; there is no checkpoint yet",
    )


def _write_metrics(path: Path, progress: Progress) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("step", "split", "name", "value"))
        writer.writerows((s, split, name, f"{v:.9g}") for s, split, name, v in progress.rows)


@dataclass
class _Stop:
    requested: bool = False


@contextmanager
def _stop_requests() -> Iterator[_Stop]:
    """Turn SIGTERM and SIGUSR1 into a flag for the length of the block."""
    stop = _Stop()

    def handler(*_: object) -> None:
        stop.requested = True

    signals = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.signal(s, handler) for s in signals]
    try:
        yield stop
    finally:
        for number, old in zip(signals, before, strict=True):
            signal.signal(number, old)
