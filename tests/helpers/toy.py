"""A tiny training with everything that a checkpoint must hold."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from voxseq.base.random import numpy_generator, torch_generator
from voxseq.training.batches import stepwise
from voxseq.training.loggers import Followed
from voxseq.training.loop import Batch, FitResult, LoopConfig, Trainable, fit
from voxseq.training.rows import Arrays, Field, Rows
from voxseq.training.schedule import lr_factor

STEPS = 11
RUN_CONFIG: dict[str, Any] = {"seed": 5, "optimiser": {"lr": 0.05, "betas": [0.9, 0.99]}}


class Killed(BaseException):
    """Stands for the end of the process in the middle of a step."""


class Toy(Trainable):
    """Regression with dropout of its own stream, normalisation statistics and a moving average."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
        generator = torch_generator(seed, "weights")
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        self.register_buffer("average", torch.zeros(8, 6))
        self.register_buffer("done", torch.zeros(1, dtype=torch.int64))
        self.scores: dict[int, float] = {}
        self.validated: dict[int, dict[str, Tensor]] = {}
        self.steps_done: list[int] = []
        self.signal_at: int | None = None
        self.signal_number = signal.SIGTERM
        self.kill_at: int | None = None
        self.bad_at: int | None = None
        self.bad_gradient_at: int | None = None

    average: Tensor
    done: Tensor

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        if step == self.kill_at:
            raise Killed
        if step == self.signal_at:
            os.kill(os.getpid(), self.signal_number)
        keep = torch.rand(batch["x"].shape, generator=torch_generator(5, "dropout", step)) > 0.2
        error = self.layers(batch["x"] * keep).squeeze(1) - batch["y"]
        loss = (error**2).mean()
        if step == self.bad_at:
            loss = loss * float("nan")
        if step == self.bad_gradient_at:
            loss = loss + torch.sqrt(self.layers[0].weight.sum() * 0.0)
        return {"loss": loss, "error": error.abs().mean()}

    def after_step(self, step: int) -> None:
        self.steps_done.append(step)
        self.done += 1
        self.average.lerp_(self.layers[0].weight.detach(), 0.3)

    def validate(self) -> dict[str, float]:
        assert not self.training
        assert not torch.is_grad_enabled()
        generator = torch_generator(5, "validation")
        x = torch.randn(16, 6, generator=generator)
        loss = float(((self.layers(x).squeeze(1) - target(x)) ** 2).mean())
        self.validated[int(self.done)] = copy.deepcopy(self.state_dict())
        return {"loss": loss, "score": self.scores.get(int(self.done), -loss)}


def target(x: Tensor) -> Tensor:
    return x[:, 0] - 0.5 * x[:, 1] * x[:, 2]


def make_batch(step: int) -> Batch:
    x = torch.from_numpy(numpy_generator(5, "batch", step).normal(size=(8, 6))).float()
    return {"x": x, "y": target(x), "ids": torch.arange(8) + 8 * step}


class ToyRows(Rows):
    """The rows of :func:`make_batch`."""

    count = 8
    layout: ClassVar = {
        "x": Field((6,), "float32"),
        "y": Field((), "float32"),
        "ids": Field((), "int64"),
    }

    def fill(self, step: int, row: int, out: Arrays) -> None:
        for name, values in make_batch(step).items():
            out[name][...] = values[row].numpy()


@dataclass
class Outcome:
    """What is left of a finished training."""

    toy: Toy
    optimiser: torch.optim.Optimizer
    result: FitResult
    metrics: bytes

    def same_bits(self, other: Outcome) -> bool:
        """Whether weights, buffers, optimiser state, scores and metrics agree bit for bit."""
        return (
            equal(self.toy.state_dict(), other.toy.state_dict())
            and equal(self.optimiser.state_dict(), other.optimiser.state_dict())
            and self.metrics == other.metrics
            and self.result.best_step == other.result.best_step
            and self.result.best_score == other.result.best_score
        )


def equal(one: Any, two: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[k], two[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(equal(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    return bool(one == two)


def train(
    folder: Path,
    toy: Toy | None = None,
    *,
    workers: int = 0,
    run_config: dict[str, Any] | None = None,
    followed: Followed | None = None,
    **loop: Any,
) -> Outcome:
    """Train in ``folder``, or go on where a checkpoint lies there."""
    toy = toy or Toy()
    groups = [
        {"params": toy.layers[0].parameters(), "lr": 0.02},
        {"params": toy.layers[1:].parameters()},
    ]
    optimiser = torch.optim.AdamW(groups, lr=0.05, weight_decay=0.01)
    settings = {
        "steps": STEPS,
        "select": "loss",
        "mode": "min",
        "log_every": 2,
        "validate_every": 3,
        "checkpoint_every": 4,
        "clip_norm": 1.0,
        **loop,
    }

    def batches(start: int) -> Iterator[Batch]:
        return stepwise(ToyRows(), start, settings["steps"], workers)

    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    result = fit(
        toy,
        batches,
        optimiser,
        lr_factor("cosine", 2, settings["steps"]),
        LoopConfig(**settings),
        state=folder / "state",
        out=out,
        run_config=run_config or RUN_CONFIG,
        followed=followed,
    )
    return Outcome(toy, optimiser, result, (out / "metrics.csv").read_bytes())
