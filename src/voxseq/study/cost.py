"""What a study takes on this machine: time, memory of a device, and disk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from voxseq.config import Config
from voxseq.config.finetune import SegmentationRecipe
from voxseq.config.runs import FinetuneRun
from voxseq.estimate.count import META
from voxseq.estimate.counts import COUNTS
from voxseq.estimate.estimate import Estimate, estimate, wall_hours
from voxseq.estimate.memory import Ledger, without_values
from voxseq.models.networks import build_network
from voxseq.plan import Plan, build_plan
from voxseq.study.machine import Machine

#: Stages that read every image of a data set.
_READING = ("download", "preprocess", "sequences")
#: Bytes of the libraries in a process.
_LIBRARIES = 0.8e9
#: Share of a GPU's memory that a training can use.
_USABLE = 0.9


@dataclass(frozen=True)
class Cost:
    """Expected cost of a study.

    Attributes:
        seconds: until all is done on the machine.
        pretraining: seconds of one pre-training on its own; 0 without one.
        finetuning: seconds of one fine-tuning; 0 without one.
        device: bytes that the largest training needs on its device.
        disk: bytes that stay.
        runs: trainings.
    """

    seconds: float
    pretraining: float
    finetuning: float
    device: float
    disk: float
    runs: int

    def memory(self, machine: Machine) -> float:
        """Bytes of the GPU that the largest training takes, or of the machine, with libraries."""
        return self.device if machine.gpu else self.device + _LIBRARIES

    def fits(self, machine: Machine) -> bool:
        """Whether the trainings that run side by side fit the machine's memory."""
        usable = _USABLE * machine.memory if machine.gpu else machine.memory / machine.trainings
        return self.memory(machine) <= usable


def cost_of(config: Config, machine: Machine, reading: float) -> Cost:
    """Expected cost of a study.

    Args:
        config: of the study.
        machine: that is to do it.
        reading: seconds in which one core reads all its images once.
    """
    plan = build_plan(config)
    found = estimate(config, plan, kept=COUNTS)
    seconds = {run.id: machine.seconds(found.costs[run.id]) for run in plan.runs.values()}
    for run in plan.runs.values():
        if run.stage in _READING:
            seconds[run.id] += reading
    hours = {key: sum(seconds[run.id] for run in job.runs) / 3600 for key, job in plan.jobs.items()}
    pretrainings = [seconds[run.id] for run in found.runs("pretrain")]
    finetunings = [seconds[run.id] for run in found.runs("finetune")]
    return Cost(
        3600 * wall_hours(plan, hours, machine.trainings),
        max(pretrainings, default=0.0),
        max(finetunings, default=0.0),
        _device(plan, found),
        found.totals().written,
        len(pretrainings) + len(finetunings),
    )


def _device(plan: Plan, found: Estimate) -> float:
    """Bytes of the largest training on its device."""
    largest = max((need.device for need in found.needs.values()), default=0.0)
    seen = set()
    for run in found.runs("finetune"):
        own: FinetuneRun = run.config
        key = (own.task, own.network)
        if key not in seen:
            seen.add(key)
            largest = max(largest, finetuning_bytes(own, _shape_of(own, found)))
    return largest


def _shape_of(own: FinetuneRun, found: Estimate) -> tuple[int, int, int]:
    """Voxels of what a fine-tuning's network sees at a time."""
    if isinstance(own.recipe, SegmentationRecipe):
        return own.recipe.roi
    (prepared,) = {
        run.config.task.data.resize
        for run in found.runs("preprocess")
        if run.id.split("/")[1:3] == ["task", own.task]
    }
    shape: tuple[int, int, int] = prepared
    return shape


def finetuning_bytes(own: FinetuneRun, shape: tuple[int, int, int]) -> float:
    """Bytes of a fine-tuning on its device, counted by tensors without values.

    Args:
        own: the run.
        shape: voxels of a crop or image.
    """
    recipe, fake = own.recipe, FakeTensorMode(allow_non_fake_inputs=True)
    with META:
        network = build_network(
            own.network,
            own.encoder,
            classes=recipe.outputs,
            features=recipe.decoder_features if isinstance(recipe, SegmentationRecipe) else 1,
            seed=own.seed,
            settings=own.network_settings,
            in_channels=own.channels,
        )
    without_values(network, fake)
    if isinstance(recipe, SegmentationRecipe):
        rows = recipe.volumes_per_batch * recipe.crops_per_volume
    else:
        rows = recipe.batch_size
    ledger = Ledger(fake)
    ledger.hold(network.parameters())
    weights = ledger.live
    with fake:
        images = torch.empty(rows, own.channels, *shape)
    ledger.hold([images])
    with ledger:
        loss = network(images).float().log_softmax(dim=1).sum()
        loss.backward()
    # Beside gradients, which the step has counted: two moments, and the best weights.
    return float(ledger.peak + 3 * weights)
