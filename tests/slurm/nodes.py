"""What is done to pre-trainings over two nodes, and whether all came as it should.

`nodes.py disturb WORKSPACE LOG` waits for its moments, acts, and notes where which process ran.
`nodes.py check ONE TWO JOBS LOG` compares the workspaces of one process and of two, and reads what
squeue says of the jobs (see nodes.sh) and what was noted.
"""

from __future__ import annotations

import csv
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from disturb import (
    Disturbance,
    Process,
    beside_each_other,
    frozen_training,
    processes_of,
    scancel,
)

NODES = {"node1", "node2"}
#: By method the largest difference of two losses, as a part of them. Sums of rows are in another
#: order, which the temperature of SimCLR's loss magnifies.
METHODS = {"ours": 1e-5, "mae3d": 1e-5, "simclr": 1e-4}
#: A bias before its batch norms has a gradient of nothing but rounding, of which Adam makes steps;
#: they show where the norms take means of earlier batches.
SPLITS = {"ours": {"train", "val"}, "mae3d": {"train", "val"}, "simclr": {"train"}}
#: What each job asks of Slurm: nodes, tasks, cores of a task, memory and GPUs of a node.
ASKED = ("2", "2", "1", "3000M", "gres:gpu:1")


def main() -> int:
    """Status 1 when a disturbance did not come about, or something is not as it should be."""
    what, *words = sys.argv[1:]
    paths = [Path(word).resolve() for word in words]
    if what == "disturb":
        workspace, log = paths
        disturbances = {
            "warned": warned(workspace, "ours"),
            "process killed": killed(workspace, "mae3d"),
            "ranks": ranks(workspace),
        }
        return beside_each_other(disturbances, log)
    one, two, jobs, log = paths
    problems = [
        *_ended(jobs.read_text().splitlines()),
        *_placed(log.read_text().splitlines()),
        *[problem for method in METHODS for problem in _other_losses(one, two, method)],
        *[problem for method in ("ours", "mae3d") for problem in _not_resumed(two, method)],
    ]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def warned(workspace: Path, job: str) -> Disturbance:
    """A training gets the signal that comes before the end of its time, on both nodes."""
    process = yield from frozen_training(workspace, "pretrain", job)
    yield f"scancel --signal=USR1 of Slurm job {process.slurm_job}"
    yield from scancel("--signal=USR1", process.slurm_job)
    while process.waits_for(signal.SIGUSR1):
        yield None
    with suppress(ProcessLookupError):
        process.send(signal.SIGCONT)


def killed(workspace: Path, job: str) -> Disturbance:
    """One of two processes is lost, as when a node fails."""
    process = yield from frozen_training(workspace, "pretrain", job)
    yield f"kill -9 of process {process.pid} on {process.environment['SLURMD_NODENAME']}"
    process.send(signal.SIGKILL)


def ranks(workspace: Path) -> Disturbance:
    """Note each process of a training once, until the last training has ended."""
    seen: set[int] = set()
    while not _is_finished(workspace):
        for method in METHODS:
            for pid in set(processes_of(workspace, "pretrain", method)) - seen:
                with suppress(OSError, KeyError):
                    said = Process(pid).environment
                    words = (said[name] for name in ("SLURM_JOB_ID", "SLURMD_NODENAME", "RANK"))
                    yield f"rank {method} {' '.join(words)} of {said['WORLD_SIZE']}"
                    seen.add(pid)
        yield None


def _is_finished(workspace: Path) -> bool:
    return len(list(workspace.glob("artifacts/nodes/pretrain/jobs/*.json"))) == len(METHODS)


def _ended(lines: list[str]) -> list[str]:
    """Problems of the Slurm jobs of the trainings."""
    attempts: dict[str, list[list[str]]] = defaultdict(list)
    for line in lines:
        *said, comment = line.split()
        for method in METHODS:
            if comment.startswith(f"rule_pretrain_method_wildcards_{method}_"):
                attempts[method].append(said)
    # The second attempt gets twice the memory.
    expected = {
        "ours": [["COMPLETED", "1", *ASKED]],
        "mae3d": [["FAILED", "0", *ASKED], ["COMPLETED", "0", *ASKED[:3], "6000M", ASKED[4]]],
        "simclr": [["COMPLETED", "0", *ASKED]],
    }
    found = {method: [said[1:] for said in attempts[method]] for method in METHODS}
    return [
        f"{method}: the Slurm jobs are {found[method]}, and should be {expected[method]}"
        for method in METHODS
        if found[method] != expected[method]
    ]


def _placed(notes: list[str]) -> list[str]:
    """Problems of where the processes of the trainings ran."""
    placed: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for note in notes:
        words = note.split()
        if "rank" in words:
            method, _, node, rank, _, size = words[words.index("rank") + 1 :]
            placed[method].add((node, f"{rank} of {size}"))
    return [
        f"{method}: its processes were {sorted(placed[method])}"
        for method in METHODS
        if {node for node, _ in placed[method]} != NODES
        or {rank for _, rank in placed[method]} != {"0 of 2", "1 of 2"}
    ]


def _other_losses(one: Path, two: Path, method: str) -> Iterator[str]:
    """Losses that are not those of one process."""
    expected, found = _losses(one, method), _losses(two, method)
    if found.keys() != expected.keys() or not expected:
        yield f"{method}: {len(found)} losses of two processes, {len(expected)} of one"
        return
    apart = [abs(found[key] / value - 1) for key, value in expected.items()]
    print(f"{method}: {len(apart)} losses, at most {max(apart):.1e} of them apart")
    if not max(apart) <= METHODS[method]:
        yield f"{method}: losses are {max(apart)} of them apart"


def _losses(workspace: Path, method: str) -> dict[tuple[str, str], float]:
    """Losses of a training by step and split."""
    (path,) = workspace.glob(f"artifacts/nodes/pretrain/{method}/s0/metrics.csv")
    with path.open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["name"] == "loss"]
    kept = SPLITS[method]
    return {(r["split"], r["step"]): float(r["value"]) for r in rows if r["split"] in kept}


def _not_resumed(workspace: Path, method: str) -> list[str]:
    logs = workspace.glob(f".voxseq/records/nodes/pretrain/{method}/s0/*/log.txt")
    if any("resuming at step" in log.read_text() for log in logs):
        return []
    return [f"{method}: did not resume from a checkpoint"]


if __name__ == "__main__":
    sys.exit(main())
