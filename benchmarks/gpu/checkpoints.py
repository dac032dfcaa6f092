"""Part 8: how long a training stands still for its checkpoint."""

from __future__ import annotations

import statistics
import time

from benchmarks.gpu.material import Clock, config_of, optimiser_of, run_of, task_of, trained
from benchmarks.gpu.report import Report
from benchmarks.gpu.sizes import Setting
from voxseq.training import checkpoint

#: Seconds that the loop may stand still.
_STALL = 0.5
#: A checkpoint has the weights, however large the batch is.
_BATCH = 8


def measure(setting: Setting, report: Report) -> None:
    """Write a checkpoint of our method in the middle of its steps, and read it."""
    size = setting.size
    config = config_of(size, "large")
    run = run_of(config, "ours").model_copy(update={"batch_size": _BATCH})
    task = task_of(setting, "large", run)
    clock = Clock(setting.device)
    saved = size.warm_up + size.timed
    trained(
        setting,
        task,
        run,
        clock.repeated(task, lambda: task.rows(0)),
        optimiser_of(task, run),
        folder="training",
        steps=saved + 2,
        checkpoint_every=saved,
    )
    plain = statistics.median(clock.steps[size.warm_up : saved - 1])
    stall = clock.steps[saved - 1] - plain
    state = setting.scratch / "training/state"
    report.value("step, ms", 1000 * plain)
    report.value("checkpoint, GB", (state / checkpoint.FILE).stat().st_size / 1e9)
    began = time.perf_counter()
    found = checkpoint.load(state, run.model_dump(mode="json"))
    report.value("read, s", time.perf_counter() - began)
    step = found and found["progress"]["step"]
    report.check("step of the checkpoint", step == saved, step, str(saved))
    if setting.is_gpu:
        report.at_most("stall, s", stall, _STALL)
    else:
        report.value("stall, s", stall)
