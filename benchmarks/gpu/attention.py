"""Part 5: ways of computing prefix attention, compiled or not."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from benchmarks.gpu.material import (
    Clock,
    config_of,
    free_memory,
    optimiser_of,
    run_of,
    task_of,
    trained,
)
from benchmarks.gpu.report import Report
from benchmarks.gpu.sizes import Setting
from voxseq.config.runs import PretrainRun
from voxseq.models.attention import additive, prefix_mask, prefix_segments
from voxseq.pretrain.methods import ours
from voxseq.pretrain.run import PretrainTask

#: Relative difference of the loss of the first step from that with a mask.
_LOSS = 1e-2
_compile = torch.compile
#: How tokens see each other, by the name of the way.
Ways = dict[str, Callable[[Tensor, int, torch.dtype], object]]


def _masked(prefix: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    return additive(prefix_mask(prefix, length), dtype)


def _segmented(prefix: Tensor, length: int, dtype: torch.dtype) -> object:
    del dtype
    return prefix_segments(prefix, length)


def _blocked(prefix: Tensor, length: int, dtype: torch.dtype) -> BlockMask:
    del dtype

    def sees(sample: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        del head
        return (key <= query) | (key <= prefix[sample])

    rows = length + 1
    return create_block_mask(sees, len(prefix), None, rows, rows, device=str(prefix.device))


_WAYS: Ways = {"mask": _masked, "two varlen": _segmented, "FlexAttention": _blocked}


def measure(setting: Setting, report: Report) -> None:
    """Steps of our method with each way; the plain ones first, since compiling takes long."""
    config = config_of(setting.size, "large")
    run = run_of(config, "ours").model_copy(update={"batch_size": setting.size.batch})
    task = task_of(setting, "large", run)
    start = {name: value.clone() for name, value in task.state_dict().items()}
    losses: dict[str, float] = {}
    for is_compiled in (False, True):
        for way in _WAYS:
            name = f"{way}, {'compiled' if is_compiled else 'plain'}"
            if way == "two varlen" and not setting.is_gpu:
                report.skip(name, "PyTorch has it for CUDA alone")
                continue
            with report.guard(name):
                task.load_state_dict(start)
                with _way(setting, task, way, is_compiled):
                    losses[name] = _timed(setting, report, task, run, name)
                golden = losses["mask, plain"]
                away = abs(losses[name] - golden) / abs(golden)
                report.at_most(f"{name}: loss of the first step", away, _LOSS)
            free_memory(setting.device)


@contextmanager
def _way(setting: Setting, task: PretrainTask, way: str, is_compiled: bool) -> Iterator[None]:
    """Let the blocks of our method attend in a way."""
    torch._dynamo.reset()
    with ExitStack() as changes:
        if not setting.is_gpu:
            # Code for a CPU takes minutes to make: only traced and differentiated.
            traced = partial(_compile, backend="aot_eager")
            changes.enter_context(patch.object(torch, "compile", traced))
        changes.enter_context(patch.object(ours, "prefix_visible", _WAYS[way]))
        if way == "FlexAttention":
            # A block that is compiled has it inside; by itself it is slow as it is.
            flex = flex_attention if is_compiled or not setting.is_gpu else _compile(flex_attention)
            changes.enter_context(
                patch.object(
                    torch.nn.functional,
                    "scaled_dot_product_attention",
                    lambda query, key, value, attn_mask: flex(
                        query, key, value, block_mask=attn_mask
                    ),
                )
            )
        if is_compiled:
            task.method.compile_blocks()
        try:
            yield
        finally:
            task.method.has_static_shapes = False
            for block in task.method.backbone.blocks:
                vars(block).pop("compute", None)


def _timed(
    setting: Setting, report: Report, task: PretrainTask, run: PretrainRun, name: str
) -> float:
    """Time the steps, and return the loss of the first."""
    size = setting.size
    if "FlexAttention" in name and not setting.is_gpu:
        report.skip(f"{name}: steps", "it has no backward pass on a CPU: the loss alone")
        with torch.no_grad():
            return float(task(task.prepare(task.rows(0)), 0)["loss"])
    clock = Clock(setting.device)
    count = size.warm_up + size.timed + 1
    trained(
        setting,
        task,
        run,
        clock.repeated(task, lambda: task.rows(0)),
        optimiser_of(task, run),
        folder=name,
        steps=count,
        log_every=1,
    )
    seconds = clock.steps[size.warm_up :]
    report.spread(f"{name}: step, ms", [1000 * s for s in seconds])
    report.spread(f"{name}: items/s", [run.batch_size / s for s in seconds])
    # Kernels are made when they are first needed.
    preparing = clock.steps[0] - statistics.median(seconds)
    report.value(f"{name}: first step beyond the others, s", preparing)
    if clock.allocated:
        report.value(f"{name}: allocated, GB", clock.allocated[-1] / 1e9)
    with (setting.scratch / name / "out/metrics.csv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return next(float(r["value"]) for r in rows if (r["split"], r["name"]) == ("train", "loss"))
