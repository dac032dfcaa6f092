"""Part 3: a training that is stopped and resumed, and the same training twice."""

from __future__ import annotations

import signal
from collections.abc import Generator

import torch
from torch import Tensor

from benchmarks.gpu.material import (
    config_of,
    device_config,
    free_memory,
    optimiser_of,
    run_of,
    task_of,
    trained,
)
from benchmarks.gpu.report import Report
from benchmarks.gpu.sizes import Setting
from voxseq.base.errors import Interrupted
from voxseq.config.registry import pretrained
from voxseq.config.runs import PretrainRun
from voxseq.pretrain.run import PretrainTask, staged_batches
from voxseq.training.loop import Batch

#: Of PyTorch's error about an operation that has no deterministic way.
_NONE = "does not have a deterministic implementation"
_BATCH = 8


def measure(setting: Setting, report: Report) -> None:
    """Compare weights, with deterministic operations and without."""
    size = setting.size
    config = config_of(size, "small")
    methods = size.resumed or tuple(pretrained())
    cases = [(name, "32-true") for name in methods] + [("ours", "bf16-mixed")]
    # The deterministic ones first: cuBLAS reads its setting when it is first used.
    for deterministic in (True, False):
        for name, precision in cases:
            changes = {"precision": precision, "steps": size.steps, "batch_size": _BATCH}
            run = run_of(config, name).model_copy(update=changes)
            kind = "deterministic" if deterministic else "as usual"
            what = f"{name}, {precision}, {kind}"
            with report.guard(what):
                _compare(setting, report, run, what, deterministic)
            free_memory(setting.device)


def _compare(
    setting: Setting, report: Report, run: PretrainRun, what: str, deterministic: bool
) -> None:
    try:
        first = _weights(setting, run, f"{what}, first", deterministic)
    except RuntimeError as error:
        if not (deterministic and _NONE in str(error)):
            raise
        report.skip(what, str(error).split(". ")[0])
        return
    second = _weights(setting, run, f"{what}, second", deterministic)
    stopped = _weights(
        setting, run, f"{what}, stopped", deterministic, stop=setting.size.steps // 2
    )
    for name, other in (("twice", second), ("resumed", stopped)):
        different = _difference(first, other)
        # Without, sums may be in any order on a GPU; a CPU has one order.
        if deterministic or not setting.is_gpu:
            report.check(f"{what}: {name}", different == 0.0, different, "equal bits")
        else:
            report.value(f"{what}: {name}, largest difference of a weight", different)


def _weights(
    setting: Setting, run: PretrainRun, folder: str, deterministic: bool, stop: int | None = None
) -> dict[str, Tensor]:
    """Weights and buffers after a training.

    Args:
        setting: of the part.
        run: the training.
        folder: its name.
        deterministic: as ``execution.deterministic``.
        stop: step before which it is asked to stop; it is resumed then.
    """
    for attempt in range(1 if stop is None else 2):
        task = task_of(setting, "small", run)
        optimiser = optimiser_of(task, run)

        def batches(
            start: int,
            task: PretrainTask = task,
            optimiser: torch.optim.Optimizer = optimiser,
            stops: bool = stop is not None and attempt == 0,
        ) -> Generator[Batch, None, None]:
            source = staged_batches(task, optimiser, start, 0)
            for step in range(start, run.steps):
                if stops and step == stop:
                    signal.raise_signal(signal.SIGTERM)
                yield next(source)

        device = device_config(setting, deterministic=deterministic)
        try:
            trained(setting, task, run, batches, optimiser, folder=folder, device=device)
        except Interrupted:
            if attempt or stop is None:
                raise
    return {name: value.detach().cpu() for name, value in task.state_dict().items()}


def _difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest difference of two states; 0 for the same bits."""
    if all(torch.equal(value, other[name]) for name, value in one.items()):
        return 0.0
    return max(float((v.double() - other[n].double()).abs().max()) for n, v in one.items())
