"""What a plan is expected to take: GPU hours, bytes and, for a number of GPUs, days.

The operations come from the configuration (:mod:`voxseq.estimate.pretrain_work`,
:mod:`voxseq.estimate.network_work`), the amounts of data from the catalogue and the assumptions in
:mod:`voxseq.config.amounts`. Nothing is measured here, and no data are needed.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from voxseq.config import Config
from voxseq.config.amounts import content, sequence_counts
from voxseq.estimate.pretrain_work import METHOD_WORK
from voxseq.estimate.run_cost import SINGLE_PRECISION, Packing, RunCost, run_cost
from voxseq.plan.model import STAGES, Plan, Run, Stage

JobKey = tuple[Stage, str]
_TERA = 1e12


@dataclass(frozen=True)
class Assumptions:
    """What the estimate rests on besides the configuration.

    Attributes:
        gpu: the device that is meant.
        peak_tflops: its published peak, dense, 16-bit, in 10^12 operations a second.
        utilisation: share of the peak that matrix products sustain over a training step.
        convolution_utilisation: the same for convolutions, which here have few channels.
        single_precision: rate of 32-bit matrix products as a share of 16-bit ones (19.5 of 312).
        convolution_single_precision: the same for convolutions, which PyTorch does in TF32.
        packing: bytes of stored voxels.
    """

    gpu: str = "NVIDIA A100, bf16"
    peak_tflops: float = 312.0
    utilisation: float = 0.35
    convolution_utilisation: float = 0.10
    single_precision: float = 0.0625
    convolution_single_precision: float = 0.5
    packing: Packing = field(default_factory=Packing)

    @property
    def tflops(self) -> float:
        """Sustained rate of matrix products."""
        return self.peak_tflops * self.utilisation

    @property
    def convolution_tflops(self) -> float:
        """Sustained rate of convolutions."""
        return self.peak_tflops * self.convolution_utilisation

    @classmethod
    def of_rate(cls, tflops: float) -> Assumptions:
        """Another device, given by the rate that its matrix products sustain.

        Convolutions keep their ratio to matrix products; the rate is that of any precision.
        """
        usual = cls()
        ratio = usual.convolution_utilisation / usual.utilisation
        return cls(f"given rate of {tflops:g} TFLOP/s", tflops, 1.0, ratio, 1.0, 1.0)

    def hours(self, cost: RunCost) -> float:
        """GPU hours of a run."""
        rate, convolution_rate = self.tflops, self.convolution_tflops
        if cost.precision == SINGLE_PRECISION:
            rate *= self.single_precision
            convolution_rate *= self.convolution_single_precision
        return (cost.matrix / rate + cost.convolution / convolution_rate) / _TERA / 3600


@dataclass(frozen=True)
class StageEstimate:
    """Sums over one stage; operations in 10^18, bytes as they are."""

    stage: str
    jobs: int
    runs: int
    exaflop: float
    gpu_hours: float
    downloaded: float
    written: float


@dataclass(frozen=True)
class Pretraining:
    """One pre-training.

    Attributes:
        run: its id.
        gigaflop: 10^9 operations of an item, forward, backward and its share of the validation.
        gpu_hours: on one GPU.
        items_per_second: items that must be ready each second, or the GPU waits.
        bytes_per_second: compressed voxels that have to be read for them.
        checkpoint: bytes, while it is under way.
    """

    run: str
    gigaflop: float
    gpu_hours: float
    items_per_second: float
    bytes_per_second: float
    checkpoint: float


@dataclass(frozen=True)
class Finetuning:
    """All runs of one network on one task, in every stage.

    Attributes:
        runs: their number.
        steps: of each.
        gpu_hours: of one whose whole network is trained.
    """

    task: str
    network: str
    runs: int
    steps: int
    gpu_hours: float


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a plan.

    Attributes:
        stages: in the order of the plan.
        pretrainings: every pre-training, in the order of the plan.
        finetunings: by task and network.
        hours: GPU hours of each job.
        sequences: training and validation sequences of each kind.
        assumed: data set → what of it is assumed and not the catalogue's.
        plain: pre-trainings whose method has no formula; see
            :func:`voxseq.estimate.pretrain_work.plain`.
    """

    scale: str
    assumptions: Assumptions
    stages: tuple[StageEstimate, ...]
    pretrainings: tuple[Pretraining, ...]
    finetunings: tuple[Finetuning, ...]
    hours: Mapping[JobKey, float]
    sequences: Mapping[str, int]
    assumed: Mapping[str, tuple[str, ...]]
    plain: tuple[str, ...] = ()

    @property
    def total(self) -> StageEstimate:
        """Sums over all stages."""
        rows = self.stages
        return StageEstimate(
            "total",
            sum(r.jobs for r in rows),
            sum(r.runs for r in rows),
            sum(r.exaflop for r in rows),
            sum(r.gpu_hours for r in rows),
            sum(r.downloaded for r in rows),
            sum(r.written for r in rows),
        )


def estimate(config: Config, plan: Plan, assumptions: Assumptions | None = None) -> Estimate:
    """Estimate every run of ``plan``, which is that of ``config``."""
    used = assumptions or Assumptions()
    costs = _costs(config, plan, used.packing)
    hours = {
        key: sum(used.hours(costs[run.id]) for run in job.runs) for key, job in plan.jobs.items()
    }
    stages = [_stage(name, plan, costs, used) for name in STAGES if plan.of_stage(name)]
    assumed = {
        name: found
        for name in sorted(r.config.dataset for r in _of(plan, "download"))
        if (found := content(name, config).assumed) and config.data.root is not None
    }
    pretrainings = _of(plan, "pretrain")
    return Estimate(
        plan.scale,
        used,
        tuple(stages),
        tuple(_pretraining(run, config, costs[run.id], used) for run in pretrainings),
        tuple(_finetunings(plan, costs, used)),
        hours,
        sequence_counts(config),
        assumed,
        tuple(run.id for run in pretrainings if run.config.method not in METHOD_WORK),
    )


def _costs(config: Config, plan: Plan, packing: Packing) -> dict[str, RunCost]:
    """Cost of every run; runs that differ in seed, ratio or weights alone cost the same."""
    known: dict[str, RunCost] = {}
    costs = {}
    for run in plan.runs.values():
        kept = {k: v for k, v in run.settings.items() if k not in ("seed", "ratio", "pretrained")}
        large = run.action in ("tables", "figures", "sequences")
        key = run.action if large else json.dumps([run.action, kept], sort_keys=True)
        if key not in known:
            known[key] = run_cost(run, config, packing)
        costs[run.id] = known[key]
    return costs


def _pretraining(run: Run, config: Config, cost: RunCost, assumptions: Assumptions) -> Pretraining:
    hours = assumptions.hours(cost)
    rate = cost.items / (3600 * hours)
    voxels = math.prod(config.sequences.volume_shape)
    return Pretraining(
        run.id,
        (cost.matrix + cost.convolution) / cost.items / 1e9,
        hours,
        rate,
        rate * voxels * assumptions.packing.ct,
        cost.checkpoint,
    )


def _finetunings(
    plan: Plan, costs: Mapping[str, RunCost], assumptions: Assumptions
) -> Iterator[Finetuning]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in _of(plan, "finetune"):
        groups.setdefault((run.config.task, run.config.network), []).append(run)
    for (task, network), runs in groups.items():
        whole = max(assumptions.hours(costs[run.id]) for run in runs)
        yield Finetuning(task, network, len(runs), runs[0].config.recipe.steps, whole)


def _of(plan: Plan, action: str) -> list[Run]:
    return [run for run in plan.runs.values() if run.action == action]


def _stage(
    name: Stage, plan: Plan, costs: Mapping[str, RunCost], assumptions: Assumptions
) -> StageEstimate:
    jobs = plan.of_stage(name)
    found = [costs[run.id] for job in jobs for run in job.runs]
    return StageEstimate(
        name,
        len(jobs),
        len(found),
        sum(c.matrix + c.convolution for c in found) / 1e18,
        sum(map(assumptions.hours, found)),
        sum(c.downloaded for c in found),
        sum(c.written for c in found),
    )


def wall_hours(plan: Plan, hours: Mapping[JobKey, float], gpus: int) -> float:
    """Hours until all jobs are done when each job has one of ``gpus`` devices to itself.

    Jobs start as soon as their inputs are there and a device is free, those with the longest way
    to the end first; other work takes no time.
    """
    ways = _longest_ways(plan, hours)
    waiting = {key: len(job.needs) for key, job in plan.jobs.items()}
    followers: dict[JobKey, list[JobKey]] = {key: [] for key in plan.jobs}
    for key, job in plan.jobs.items():
        for need in job.needs:
            followers[need].append(key)
    ready = [(-ways[key], key) for key, count in waiting.items() if not count]
    heapq.heapify(ready)
    running: list[tuple[float, JobKey]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < gpus:
            key = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + hours[key], key))
        now, done = heapq.heappop(running)
        for key in followers[done]:
            waiting[key] -= 1
            if not waiting[key]:
                heapq.heappush(ready, (-ways[key], key))
    return now


def _longest_ways(plan: Plan, hours: Mapping[JobKey, float]) -> dict[JobKey, float]:
    """Hours from the start of each job to the end of the last that waits for it."""
    ways = {key: hours[key] for key in plan.jobs}
    # Jobs are listed in an order in which they can be done.
    for key in reversed(list(plan.jobs)):
        for need in plan.jobs[key].needs:
            ways[need] = max(ways[need], hours[need] + ways[key])
    return ways
