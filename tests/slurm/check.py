"""Whether every disturbance had the consequence that it should have.

`check.py WORKSPACE JOBS`: JOBS holds a line of squeue for each Slurm job, with its number, state,
resources, GPUs, number of restarts and the comment in which the plugin names rule and wildcards.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """A job of Slurm's, one attempt of a job of the workflow."""

    number: int
    state: str
    resources: dict[str, str]
    requested: str
    restarts: int
    comment: str

    @classmethod
    def read(cls, line: str) -> Job:
        number, state, resources, requested, restarts, comment = line.split()
        pairs = dict(pair.split("=") for pair in resources.split(","))
        return cls(int(number), state, pairs, requested, int(restarts), comment)

    @property
    def memory_mb(self) -> float:
        memory = self.resources["mem"]
        return float(memory[:-1]) * {"M": 1, "G": 1024}[memory[-1]]


RESUMED = ("pretrain/mae3d", "pretrain/ours", "ablation/pretrain/no_sequences")


def main() -> int:
    """Print what is wrong; status 1 when anything is."""
    workspace = Path(sys.argv[1])
    jobs = sorted((Job.read(x) for x in Path(sys.argv[2]).read_text().splitlines()), key=_number)
    problems = [
        *_checked("pretrain_method_wildcards_mae3d.s0_", jobs, "CANCELLED", "FAILED"),
        *_checked("pretrain_method_wildcards_ours.s0_", jobs, "COMPLETED", gone_back=True),
        *_checked("pretrain_variant_wildcards_pretrain.no_sequences.s0_", jobs, "CANCELLED"),
        *_checked("verify_volumes", jobs, "COMPLETED"),
        *_checked("make_figures", jobs, "FAILED", "OUT_OF_MEMORY"),
        *_resumed(workspace, *(f"{name}/s0" for name in RESUMED)),
        *[
            f"Slurm job {job.number} ({job.comment}) asked for {job.requested} as GPUs"
            for job in jobs
            if job.comment.startswith("rule_pretrain") != (job.requested == "gres:gpu:1")
        ],
    ]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _number(job: Job) -> int:
    return job.number


def _checked(rule: str, jobs: list[Job], *first: str, gone_back: bool = False) -> list[str]:
    """Problems of one job of the workflow: how its first attempt ended, and its last."""
    attempts = [job for job in jobs if job.comment.startswith(f"rule_{rule}")]
    if not attempts:
        return [f"{rule}: no Slurm job"]
    problems = []
    if attempts[0].state not in first:
        problems.append(f"{rule}: the first attempt is {attempts[0].state}")
    if attempts[-1].state != "COMPLETED":
        problems.append(f"{rule}: the last attempt is {attempts[-1].state}")
    if gone_back and (len(attempts) > 1 or not attempts[0].restarts):
        problems.append(f"{rule}: the same job did not go back into the queue")
    problems += [
        f"{rule}: Slurm job {after.number} did not get more memory"
        for before, after in pairwise(attempts)
        if after.memory_mb <= before.memory_mb
    ]
    return problems


def _resumed(workspace: Path, *runs: str) -> list[str]:
    """Problems of trainings that should have gone on from their checkpoints."""
    records = workspace / ".voxseq/records/slurm"
    return [
        f"{run}: did not resume from a checkpoint"
        for run in runs
        if not any(
            "resuming at step" in log.read_text() for log in records.glob(f"{run}/*/log.txt")
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
