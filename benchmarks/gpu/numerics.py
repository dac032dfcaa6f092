"""Part 1: the same numbers on the device as on the CPU, and in 16 bits nearly the same."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.gpu.material import cases, config_of, optimiser_of, run_of, task_of
from benchmarks.gpu.report import Report
from benchmarks.gpu.sizes import Setting
from voxseq.config import Config
from voxseq.config.execution import DeviceConfig
from voxseq.config.registry import pretrained
from voxseq.models import patches
from voxseq.pretrain.batching import views_of, volumes_of
from voxseq.pretrain.methods import medcoss
from voxseq.pretrain.run import PretrainTask
from voxseq.training.device import set_arithmetic
from voxseq.training.distributed import Processes
from voxseq.training.loop import Batch

BATCH = 8
LOSS, GRADIENTS = 1e-5, 1e-4
LOSS_16, COSINE = 1e-2, 0.999
#: Cosine of gradients in 16 bits where views are compared. A batch norm takes away what the samples
#: have in common, which is nearly all of it before the first step, and rounding stays. Measured on
#: a CPU: 0.94 (MoCo v3), 0.99 (SimCLR), 1.00 (DINO, which has none); with 8 samples 0.85 and less.
COSINES = {"simclr": 0.9, "moco_v3": 0.9, "dino": 0.99, "pcrlv2": 0.9}
SAMPLES = {"simclr": 32, "moco_v3": 32, "pcrlv2": 32}
VOXELS = 1e-6
#: Places in a volume are rounded to 24 bits before voxels are read there, and PCRLv2 divides by
#: the spread of a view.
VIEWS = 1e-5
#: Without noise, of which each device has its own. Small views have more than 2³ tokens: for as
#: few, PyTorch on a CPU reads what nobody has written into a convolution's gradient in 16 bits.
_CHANGED = {"pcrlv2": {"noise": 0.0, "local_shape": (12, 12, 12)}}


@dataclass
class Step:
    """What a step gives.

    Attributes:
        loss: of the batch.
        gradient: of all weights, one behind the other, float64 on the CPU.
        targets: of the regression, on the CPU; none where the method makes none.
        inputs: floating entries of the batch as the method's loss gets them, on the CPU.
    """

    loss: float
    gradient: Tensor
    targets: list[Tensor]
    inputs: dict[str, Tensor]


def measure(setting: Setting, report: Report) -> None:
    """Compare volumes, views, losses, gradients and targets."""
    set_arithmetic(DeviceConfig())
    for which, config in cases(setting):
        for name in ("ours", "mae3d"):
            with report.guard(f"volumes of {name}, {which}"):
                run = run_of(config, name)
                task = task_of(setting, which, run.model_copy(update={"batch_size": BATCH}))
                _volumes(setting, report, f"volumes of {name}, {which}", task)
    config = config_of(setting.size, "small")
    for name in pretrained():
        with report.guard(name):
            _method(setting, report, config, name)


def _volumes(setting: Setting, report: Report, name: str, task: PretrainTask) -> None:
    rows = task.rows(0)
    header, config = task.rows.sampler.header, task.rows.sampler.config
    here = volumes_of(rows, header, config)
    there = volumes_of(task.transfer(rows, torch.device(setting.device)), header, config)
    report.at_most(name, _largest(here, there), VOXELS)


def _method(setting: Setting, report: Report, config: Config, name: str) -> None:
    run = run_of(config, name, changed=_CHANGED.get(name))
    run = run.model_copy(update={"batch_size": SAMPLES.get(name, BATCH)})

    def step(device: str, precision: str, batch: Batch) -> Step:
        own = run.model_copy(update={"precision": precision})
        task = task_of(setting, "small", own)
        return _step(task, batch, device, precision, optimiser_of(task, own))

    task = task_of(setting, "small", run)
    rows, header = task.rows(0), task.rows.sampler.header
    volumes = volumes_of(rows, header, task.rows.sampler.config)
    batch = views_of(rows, volumes, header, task.method.batching)
    moved = views_of(rows, volumes.to(setting.device), header, task.method.batching)
    different = max(_largest(batch[key], moved[key].cpu()) for key in batch)
    report.at_most(f"{name}: views", different, VIEWS)

    golden = step("cpu", "32-true", batch)
    exact = step(setting.device, "32-true", batch)
    half = step(setting.device, "bf16-mixed", batch)
    report.value(f"{name}: loss", golden.loss)
    report.at_most(f"{name}: loss, fp32", _relative(exact.loss, golden.loss), LOSS)
    away = (exact.gradient - golden.gradient).norm() / golden.gradient.norm()
    report.at_most(f"{name}: gradients, fp32", float(away), GRADIENTS)
    report.at_most(f"{name}: loss, bf16", _relative(half.loss, exact.loss), LOSS_16)
    cosine = torch.nn.functional.cosine_similarity(half.gradient, exact.gradient, dim=0)
    limit = COSINES.get(name, COSINE)
    report.at_least(f"{name}: cosine of gradients, bf16", float(cosine), limit)
    # What targets are made of, and those that are normalised, must be the same bits.
    same = all(torch.equal(value, half.inputs[key]) for key, value in exact.inputs.items())
    same = same and len(exact.targets) == len(half.targets)
    same = same and all(map(torch.equal, exact.targets, half.targets))
    report.check(f"{name}: targets, bf16", same, same, "equal bits")


def _step(
    task: PretrainTask,
    batch: Batch,
    device: str,
    precision: str,
    optimiser: torch.optim.Optimizer,
) -> Step:
    """Loss and gradients of step 0, with the wrapper that the loop puts around a module."""
    fabric = Processes().fabric(precision, DeviceConfig.model_validate({"device": device}))
    wrapped, _ = fabric.setup(task, optimiser)
    targets: list[Tensor] = []
    inputs: dict[str, Tensor] = {}
    real, loss_of = patches.normalised_targets, task.method.training_loss

    def spied_targets(tokens: Tensor) -> Tensor:
        made = real(tokens)
        targets.append(made.detach().cpu())
        return made

    def spied_loss(given: Batch, *others: object) -> dict[str, Tensor]:
        inputs.update({k: v.detach().cpu() for k, v in given.items() if v.is_floating_point()})
        losses: dict[str, Tensor] = loss_of(given, *others)  # type: ignore[arg-type]
        return losses

    with ExitStack() as spies:
        for module in (patches, medcoss):
            spies.enter_context(patch.object(module, "normalised_targets", spied_targets))
        spies.enter_context(patch.object(task.method, "training_loss", spied_loss))
        wrapped.train()
        loss = wrapped({name: value.to(device) for name, value in batch.items()}, 0)["loss"]
        fabric.backward(loss)
    gradients = [p.grad.flatten() for p in task.parameters() if p.grad is not None]
    gradient = torch.cat([g.double().cpu() for g in gradients])
    return Step(float(loss.detach()), gradient, targets, inputs)


def _largest(one: Tensor, other: Tensor) -> float:
    """Largest difference of two tensors."""
    return float((one.double() - other.cpu().double()).abs().max())


def _relative(found: float, expected: float) -> float:
    """Difference as a share of a loss; PCRLv2's is a sum of terms of both signs, near 0."""
    return abs(found - expected) / max(abs(expected), 1.0)
