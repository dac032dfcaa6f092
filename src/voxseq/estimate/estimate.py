"""Expected cost of a plan: GPU hours, bytes and, for a number of GPUs, days.

Operations are counted in the real modules (:mod:`voxseq.estimate.count`); amounts of data come from
the catalogue and the assumptions in :mod:`voxseq.config.amounts`. Nothing is measured, and no data
are needed.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from voxseq.config import Config
from voxseq.estimate.counts import Counts
from voxseq.estimate.needs import Needs, needs
from voxseq.estimate.rates import Assumptions
from voxseq.estimate.run_cost import RunCost, RunCosts
from voxseq.plan.model import Plan, Run, Stage

JobKey = tuple[Stage, str]


@dataclass(frozen=True)
class Totals:
    """Sums over one stage or all; operations in 10^18, bytes as they are."""

    jobs: int
    runs: int
    exaflop: float
    gpu_hours: float
    downloaded: float
    written: float


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a plan.

    Attributes:
        plan: the plan.
        assumptions: device and packing.
        costs: cost of each run, by its id.
        needs: memory and reading of each pre-training, by its id.
    """

    plan: Plan
    assumptions: Assumptions
    costs: Mapping[str, RunCost]
    needs: Mapping[str, Needs]

    def runs(self, action: str) -> list[Run]:
        """The runs that do one thing, in the order of the plan."""
        return [run for run in self.plan.runs.values() if run.action == action]

    def hours(self, run: Run) -> float:
        """GPU hours of a run."""
        return self.assumptions.hours(self.costs[run.id])

    def job_hours(self) -> dict[JobKey, float]:
        """GPU hours of each job."""
        return {key: sum(map(self.hours, job.runs)) for key, job in self.plan.jobs.items()}

    def totals(self, stage: Stage | None = None) -> Totals:
        """Sums over one stage, or over all."""
        jobs = [job for job in self.plan.jobs.values() if stage in (None, job.stage)]
        costs = [self.costs[run.id] for job in jobs for run in job.runs]
        return Totals(
            len(jobs),
            len(costs),
            sum(cost.operations for cost in costs) / 1e18,
            sum(map(self.assumptions.hours, costs)),
            sum(cost.downloaded for cost in costs),
            sum(cost.written for cost in costs),
        )


def estimate(
    config: Config, plan: Plan, assumptions: Assumptions | None = None, kept: Path | None = None
) -> Estimate:
    """Estimate every run of ``plan``, which is that of ``config``.

    Args:
        config: the configuration.
        plan: its runs.
        assumptions: device and packing; None: the usual ones.
        kept: file in which counted operations are kept for the next time.
    """
    used = assumptions or Assumptions(tf32=config.execution.tf32)
    counts = Counts(kept)
    cost_of = RunCosts(config, used.packing, counts)
    known: dict[str, RunCost] = {}
    needed: dict[str, Needs] = {}
    costs, wanted = {}, {}
    for run in plan.runs.values():
        # Runs that differ in seed, ratio or weights alone cost the same.
        same = {k: v for k, v in run.settings.items() if k not in ("seed", "ratio", "pretrained")}
        large = run.action in ("scores", "tables", "figures", "sequences")
        key = run.action if large else json.dumps([run.action, same], sort_keys=True)
        if key not in known:
            known[key] = cost_of(run)
        costs[run.id] = known[key]
        if run.action == "pretrain":
            if key not in needed:
                needed[key] = needs(run.config, config, counts, used)
            wanted[run.id] = needed[key]
    counts.keep()
    return Estimate(plan, used, costs, wanted)


def wall_hours(plan: Plan, hours: Mapping[JobKey, float], gpus: int) -> float:
    """Hours until all jobs are done when each job has one of ``gpus`` devices to itself.

    Jobs start as soon as their inputs are there and a device is free, those with the longest way
    to the end first; other work takes no time.
    """
    ways = _longest_ways(plan, hours)
    order = TopologicalSorter({key: job.needs for key, job in plan.jobs.items()})
    order.prepare()
    ready: list[tuple[float, JobKey]] = []
    running: list[tuple[float, JobKey]] = []
    now = 0.0
    while order.is_active():
        for key in order.get_ready():
            heapq.heappush(ready, (-ways[key], key))
        while ready and len(running) < gpus:
            key = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + hours[key], key))
        now, done = heapq.heappop(running)
        order.done(done)
    return now


def _longest_ways(plan: Plan, hours: Mapping[JobKey, float]) -> dict[JobKey, float]:
    """Hours from the start of each job to the end of the last that waits for it."""
    ways = {key: hours[key] for key in plan.jobs}
    # Jobs are listed in an order in which they can be done.
    for key in reversed(list(plan.jobs)):
        for need in plan.jobs[key].needs:
            ways[need] = max(ways[need], hours[need] + ways[key])
    return ways
