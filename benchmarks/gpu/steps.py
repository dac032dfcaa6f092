"""Part 4: steps at the paper's size, with their data on the device."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.gpu.machine import peak, product_rates
from benchmarks.gpu.material import (
    Clock,
    config_of,
    free_memory,
    optimiser_of,
    plan_path,
    run_of,
    seconds_of,
    task_of,
    trained,
)
from benchmarks.gpu.report import Report
from benchmarks.gpu.sizes import Setting
from voxseq.base.files import read_json
from voxseq.config import Config
from voxseq.config.registry import pretrained

#: Share by which the memory of a step may differ from what ``voxseq plan`` says.
_MEMORY = 0.15
_VIEWS = 3


def measure(setting: Setting, report: Report) -> None:
    """Rate and memory of the steps of every method."""
    product = statistics.median(product_rates(setting, "bf16"))
    report.value("product in bf16, TFLOP/s", product / 1e12)
    plan = read_json(plan_path(setting.data))
    config = config_of(setting.size, "large")
    for name in pretrained():
        with report.guard(name):
            _method(setting, report, config, name, plan[name], product)
        free_memory(setting.device)


def _method(
    setting: Setting,
    report: Report,
    config: Config,
    name: str,
    expected: dict[str, Any],
    product: float,
) -> None:
    size = setting.size
    items = size.batches.get(name, size.batch)
    run = run_of(config, name).model_copy(update={"batch_size": items})
    task = task_of(setting, "large", run)
    clock = Clock(setting.device)
    count = size.warm_up + size.timed + 1
    rows = task.rows(0)
    batches = clock.repeated(task, lambda: rows)
    trained(setting, task, run, batches, optimiser_of(task, run), folder=name, steps=count)
    seconds = clock.steps[size.warm_up :]
    report.value(f"{name}: items of a step", items)
    report.spread(f"{name}: step, ms", [1000 * s for s in seconds])
    rate = report.spread(f"{name}: items/s", [items / s for s in seconds])
    reached = rate * expected["operations"]
    report.value(f"{name}: TFLOP/s", reached / 1e12)
    report.value(f"{name}: share of a product in bf16", reached / product)
    by_data_sheet = peak(setting)
    if by_data_sheet is not None:
        report.value(f"{name}: share of the data sheet's peak", reached / by_data_sheet)
    raw = task.transfer(rows, next(task.parameters()).device)
    views = seconds_of(setting.device, lambda: task.prepare(raw), _VIEWS)
    report.spread(f"{name}: views of a step, ms", [1000 * s for s in views])
    _memory(report, name, expected["bytes"], raw["voxels"].nbytes, clock)


def _memory(report: Report, name: str, planned: float | None, raw: int, clock: Clock) -> None:
    """Memory of the device beside that of the plan.

    Args:
        report: of the part.
        name: of the method.
        planned: bytes of a step and of the optimiser.
        raw: bytes of the batch as it is read.
        clock: of the steps.
    """
    if not clock.allocated:
        report.skip(f"{name}: memory of the device", "a CPU's allocator does not count")
        return
    allocated = clock.allocated[-1]
    report.value(f"{name}: allocated, GB", allocated / 1e9)
    report.value(f"{name}: reserved, GB", clock.reserved[-1] / 1e9)
    if planned is None:
        report.skip(f"{name}: memory beside the plan's", "the plan counts no memory of it")
        return
    report.value(f"{name}: planned, GB", (planned + raw) / 1e9)
    away = abs(allocated / (planned + raw) - 1)
    report.at_most(f"{name}: memory, share away from the plan's", away, _MEMORY)
