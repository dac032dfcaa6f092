"""Short trainings of every method by several processes, for the tests that compare loss curves.

A process is started as torchrun starts it; what it trains is real (task, loop, checkpoints), on
phantoms in memory.
"""

from __future__ import annotations

import csv
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from tests.helpers.methods import ENCODER, SEQUENCES, small_settings
from tests.helpers.training import PhantomSampler
from voxseq.config.runs import PretrainRun
from voxseq.pretrain import run
from voxseq.pretrain.base import PretrainMethod
from voxseq.training import distributed
from voxseq.training.loop import fit
from voxseq.training.optimiser import adamw

STEPS = 14
BATCH = 8


@dataclass(frozen=True)
class Plan:
    """What is trained and where."""

    method: str
    folder: Path
    steps: int = STEPS
    accumulate: int = 1
    recompute: bool = False
    precision: str = "32-true"
    workers: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


def setup(plan: Plan) -> PretrainRun:
    made = PretrainRun(
        method=plan.method,
        settings=small_settings(plan.method, **plan.settings),
        encoder=ENCODER,
        sequences=SEQUENCES,
        kinds=("spatial",),
        steps=plan.steps,
        batch_size=BATCH,
        seed=7,
        validate_every=STEPS // 2,
        validation_sequences=8,
        log_every=1,
        checkpoint_every=10,
    )
    # Double precision is for tests alone: no configuration may have it.
    return made.model_copy(update={"precision": plan.precision})


def train_plan(
    plan: Plan,
    watch: Callable[[run.PretrainTask, int], None] | None = None,
    look: Callable[[run.PretrainTask, dict[str, torch.Tensor]], None] | None = None,
) -> run.PretrainTask:
    """Train in this process, together with those that have joined.

    Args:
        plan: what.
        watch: called before each forward pass with its task and step.
        look: the same, with its task and batch.
    """
    out, state = plan.folder / "out", plan.folder / "state"
    out.mkdir(parents=True, exist_ok=True)
    made = setup(plan)
    data = PhantomSampler(24)
    method = run.build_method(made)
    method.begin(plan.steps, data)
    if plan.recompute:
        method.recompute()
    here = distributed.processes()
    shard = distributed.BatchShard(here.rank, here.world_size)
    task = run.PretrainTask(method, data, made, shard, state=state)
    if watch is not None:
        task.register_forward_pre_hook(lambda module, arguments: watch(module, arguments[1]))
    if look is not None:
        task.register_forward_pre_hook(lambda module, arguments: look(module, arguments[0]))
    if plan.precision == "64-true":
        validate_in_double(method)
    keep_first_gradient(task, out, is_kept=here.is_first)
    config = made.settings.optimiser
    optimiser = adamw(method.parameter_groups(config), config)
    fit(
        task,
        lambda start: run.staged_batches(task, optimiser, start, plan.workers),
        optimiser,
        run.staged_lr_factor(made.settings.optimiser, method.stages(plan.steps)),
        run.loop_config(
            made,
            method.selection,
            accumulate=plan.accumulate,
        ),
        state=state,
        out=out,
        run_config={"method": plan.method},
    )
    return task


def validate_in_double(method: PretrainMethod) -> None:
    """Widen what a validation is given, as Fabric does with what a training is given."""
    loss = method.validation_loss

    def widened(batch: Mapping[str, torch.Tensor], generator: torch.Generator) -> Any:
        double = {n: v.double() if v.is_floating_point() else v for n, v in batch.items()}
        return loss(double, generator)

    method.validation_loss = widened  # type: ignore[method-assign]
    method.encoder.register_forward_pre_hook(lambda _, given: (given[0].double(),))


def keep_first_gradient(task: run.PretrainTask, out: Path, *, is_kept: bool) -> None:
    """Write the gradient's norm by parameter at step 0, before it is clipped.

    Adam hides a gradient that is too large or too small by a factor; this does not.
    """
    before_update = task.before_update

    def kept(step: int, groups: Any) -> None:
        if step == 0:
            weights = [(n, p.grad) for n, p in task.named_parameters() if p.grad is not None]
            norms = {name: float(gradient.norm()) for name, gradient in weights}
            if is_kept:
                (out / "gradient.json").write_text(json.dumps(norms))
        before_update(step, groups)

    task.before_update = kept  # type: ignore[method-assign]


def curve(folder: Path, split: str = "train", name: str = "loss") -> list[float]:
    """A column of a training's metrics."""
    with (folder / "out/metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    return [float(r["value"]) for r in rows if (r["split"], r["name"]) == (split, name)]


def gradient(folder: Path) -> dict[str, float]:
    """Norms of the first gradient by parameter; see :func:`keep_first_gradient`."""
    norms: dict[str, float] = json.loads((folder / "out/gradient.json").read_text())
    return norms


def note(folder: Path, text: str) -> None:
    """Leave a word of this process beside its training."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"rank{distributed.processes().rank}").write_text(text)


def noted(folder: Path) -> list[str]:
    """The words of all processes, in the order of their ranks."""
    return [path.read_text() for path in sorted(folder.glob("rank*"))]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def together(size: int, function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in ``size`` processes that have joined.

    They are forked from a process that has imported everything, once for all tests, and has no
    threads: a fork of this one might inherit a lock.
    """
    multiprocessing.set_forkserver_preload([__name__, "torch._dynamo"])
    given = (size, free_port(), function, arguments)
    multiprocessing.start_processes(_joined, given, nprocs=size, start_method="forkserver")


def _joined(rank: int, size: int, port: int, function: Callable[..., None], args: Any) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    torch.set_num_threads(1)
    distributed.init_processes()
    try:
        function(*args)
    finally:
        distributed.close_processes()


def train_plans(plans: list[Plan]) -> None:
    for plan in plans:
        train_plan(plan)
