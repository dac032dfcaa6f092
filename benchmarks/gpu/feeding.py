"""Part 6: the data path, by itself and with the steps that it feeds."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing

from benchmarks.gpu.material import (
    config_of,
    free_memory,
    observed,
    optimiser_of,
    run_of,
    task_of,
    trained,
)
from benchmarks.gpu.report import Report
from benchmarks.gpu.sizes import Setting
from voxseq.config.runs import PretrainRun
from voxseq.pretrain.run import PretrainTask, staged_batches
from voxseq.training.batches import stepwise
from voxseq.training.held import block_bytes
from voxseq.training.loop import Batch
from voxseq.training.pace import Pace
from voxseq.training.rows import row_bytes

#: Sequences, whole images of the smallest step, and those of the most views.
METHODS = ("ours", "mae3d", "dino")
#: Share of a training that the process may wait for data.
_WAITS = 0.05
_ROUNDS = 3


def measure(setting: Setting, report: Report) -> None:
    """Items a second with each number of workers."""
    size = setting.size
    config = config_of(size, "large")
    for name in METHODS:
        run = run_of(config, name).model_copy(update={"batch_size": size.batch})
        task = task_of(setting, "large", run)
        row = row_bytes(task.rows)
        report.value(f"{name}: bytes of a row", row)
        for workers in size.workers:
            what = f"{name}, {workers} workers"
            block = block_bytes(size.batch, row, workers)
            report.value(f"{what}: shared memory, GB", block / 1e9)
            with report.guard(f"{what}, alone"):
                _alone(setting, report, task, what, workers)
        for workers in size.workers:
            what = f"{name}, {workers} workers, with the step"
            with report.guard(what):
                _with_the_step(setting, report, task, run, what, workers)
        del task
        free_memory(setting.device)


def _alone(setting: Setting, report: Report, task: PretrainTask, what: str, workers: int) -> None:
    """Rates at which rows are filled while nobody computes."""
    size = setting.size
    began = time.perf_counter()
    rates = []
    with closing(stepwise(task.rows, 0, _ROUNDS * size.fed + 2, workers)) as source:
        next(source)
        report.value(f"{what}, alone: first batch, s", time.perf_counter() - began)
        # What was prepared meanwhile.
        next(source)
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            for _ in range(size.fed):
                next(source)
            rates.append(size.fed * size.batch / (time.perf_counter() - began))
    report.spread(f"{what}, alone: items/s", rates)


def _with_the_step(
    setting: Setting,
    report: Report,
    task: PretrainTask,
    run: PretrainRun,
    what: str,
    workers: int,
) -> None:
    """Rate of a training that is fed, and how long it waits."""
    size = setting.size
    optimiser, pace = optimiser_of(task, run), Pace()

    def batches(start: int) -> Generator[Batch, None, None]:
        return observed(staged_batches(task, optimiser, start, workers), pace, size.warm_up)

    count = size.warm_up + _ROUNDS * size.fed
    trained(setting, task, run, batches, optimiser, folder=what, steps=count)
    report.value(f"{what}: items/s", pace.samples / pace.seconds)
    share = pace.waited / pace.seconds
    if setting.is_gpu:
        report.at_most(f"{what}: share of waiting", share, _WAITS)
    else:
        report.value(f"{what}: share of waiting", share)
