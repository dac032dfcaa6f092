"""Part 2: processes that fill rows beside a process that uses the device."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Generator

from benchmarks.gpu.material import config_of, optimiser_of, run_of, task_of, trained
from benchmarks.gpu.report import Report
from benchmarks.gpu.sizes import Setting
from voxseq.base.errors import ResourceError
from voxseq.pretrain.methods.medcoss import MedCoSSBatching
from voxseq.pretrain.run import staged_batches
from voxseq.training.batches import stepwise
from voxseq.training.copies import travelling
from voxseq.training.loop import Batch

#: The published method with two stages: the second is drawn from what the first has left.
_METHOD = "medcoss"
_WORKERS, _STEPS, _BATCH = 2, 8, 4
#: More steps than a worker has rows prepared for.
_MANY, _KILLED_AT = 200, 2


def measure(setting: Setting, report: Report) -> None:
    """Train through the change of stage with each way of starting workers; then lose a worker."""
    for method in ("fork", "forkserver"):
        with report.guard(f"two stages, {method}"):
            multiprocessing.set_start_method(method, force=True)
            _two_stages(setting, report, method)
    multiprocessing.set_start_method("fork", force=True)
    with report.guard("lost worker"):
        _lost_worker(setting, report)


def _two_stages(setting: Setting, report: Report, start_method: str) -> None:
    config = config_of(setting.size, "small")
    run = run_of(config, _METHOD).model_copy(update={"steps": _STEPS, "batch_size": _BATCH})
    task = task_of(setting, "small", run)
    optimiser = optimiser_of(task, run)
    result = trained(
        setting,
        task,
        run,
        lambda start: staged_batches(task, optimiser, start, _WORKERS),
        optimiser,
        folder=start_method,
    )
    name = f"two stages, {start_method}"
    report.check(name, result.best_step == _STEPS, result.best_step, f"{_STEPS} steps")
    batching = task.method.batching
    assert isinstance(batching, MedCoSSBatching)
    report.value(f"{name}: items of the rehearsal buffer", len(batching.rehearsed))


def _lost_worker(setting: Setting, report: Report) -> None:
    config = config_of(setting.size, "small")
    run = run_of(config, "ours").model_copy(update={"steps": _MANY, "batch_size": _BATCH})
    task = task_of(setting, "small", run)
    killed: list[int] = []

    def batches(start: int) -> Generator[Batch, None, None]:
        source = travelling(stepwise(task.rows, start, _MANY, _WORKERS), task)
        for number in itertools.count():
            if number == _KILLED_AT:
                worker = multiprocessing.active_children()[0]
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGKILL)
                killed.append(worker.pid)
            yield next(source)

    said = "nothing"
    try:
        trained(setting, task, run, batches, optimiser_of(task, run), folder="lost")
    except ResourceError as error:
        said = str(error)
    report.check("lost worker", bool(killed) and str(killed[0]) in said, said, "its number")
