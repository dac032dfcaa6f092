"""What goes wrong while the study runs on Slurm: jobs and the controller are killed on the way.

`disturb.py WORKSPACE LOG` waits for each training, acts, and ends with status 0 when everything
happened. run.sh starts it beside Snakemake, in the folder of the cluster's scripts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
#: Seconds the controller is away: several rounds in which the plugin asks in vain.
AWAY = 45
#: Seconds after which a disturbance that did not come about is given up.
PATIENCE = 1800


def main() -> int:
    """Run all disturbances beside each other."""
    workspace, log = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    pending = {
        "job killed": killed(workspace, "pretrain", "mae3d"),
        "time limit": time_limit(workspace, "pretrain", "ours"),
        "job cancelled": cancelled(workspace, "ablation", "pretrain.no_sequences"),
        "controller killed": controller(workspace),
    }
    end = time.monotonic() + PATIENCE
    with log.open("w", buffering=1) as out:
        while pending and time.monotonic() < end:
            for name, steps in list(pending.items()):
                try:
                    note = next(steps)
                except StopIteration:
                    del pending[name]
                    note = "done"
                if note:
                    print(f"{time.strftime('%H:%M:%S')} {name}: {note}", file=out)
            time.sleep(0.05)
        for name in pending:
            print(f"did not happen: {name}", file=out)
    return 1 if pending else 0


def killed(workspace: Path, stage: str, job: str) -> Iterator[str | None]:
    """A training is killed without warning after its first checkpoint."""
    process = yield from frozen_training(workspace, stage, job)
    yield f"scancel --signal=KILL of Slurm job {process.slurm_job}"
    yield from scancel("--signal=KILL", process.slurm_job)


def cancelled(workspace: Path, stage: str, job: str) -> Iterator[str | None]:
    """A training is cancelled; it gets SIGTERM, and SIGKILL when KillWait has passed."""
    process = yield from frozen_training(workspace, stage, job)
    yield f"scancel of Slurm job {process.slurm_job}"
    yield from scancel(process.slurm_job)


def time_limit(workspace: Path, stage: str, job: str) -> Iterator[str | None]:
    """A training is so slow that its time runs out: Slurm's warning arrives, and it goes on."""
    process = yield from frozen_training(workspace, stage, job)
    began = time.monotonic()
    while process.waits_for(signal.SIGUSR1):
        yield None
    yield f"warning of Slurm job {process.slurm_job} after {time.monotonic() - began:.0f} s"
    with suppress(ProcessLookupError):
        process.send(signal.SIGCONT)


def controller(workspace: Path) -> Iterator[str | None]:
    """The controller is killed while jobs run, and comes back later."""
    while process_of(workspace, "finetune", "ours.part0") is None:
        yield None
    pid = int((Path(os.environ["SLURM_CONF"]).parent / "slurmctld.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    yield f"kill -9 of slurmctld ({pid})"
    back = time.monotonic() + AWAY
    while time.monotonic() < back:
        yield None
    subprocess.run(["bash", "-c", ". cluster.sh; controller_start"], cwd=HERE, check=True)


class Training:
    """A voxseq process inside a Slurm job."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        environment = dict(e.split(b"=", 1) for e in entries if b"=" in e)
        self.slurm_job = environment[b"SLURM_JOB_ID"].decode()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        os.kill(self.pid, number)

    def waits_for(self, number: signal.Signals) -> bool:
        """Whether the stopped process is there and the signal has not been sent to it."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        fields = dict(line.split(":", 1) for line in status.splitlines())
        is_stopped = fields["State"].strip().startswith("T")
        return is_stopped and not int(fields["ShdPnd"], 16) >> (number - 1) & 1


def frozen_training(workspace: Path, stage: str, job: str) -> Iterator[str | None]:
    """Wait for the job's training to write a checkpoint; stop the process there."""
    # The job of a pre-training holds one run, of the same name.
    state = workspace / ".voxseq/state/slurm" / stage / job.replace(".", "/")
    while True:
        found = list(state.glob("*/checkpoint*"))
        pid = process_of(workspace, stage, job) if found else None
        if pid is not None:
            with suppress(ProcessLookupError, FileNotFoundError):
                process = Training(pid)
                process.send(signal.SIGSTOP)
                return process
        yield None


def process_of(workspace: Path, stage: str, job: str) -> int | None:
    """Process number of ``voxseq run STAGE JOB`` in this workspace."""
    wanted = b"\0".join([b"-m", b"voxseq", b"run", stage.encode(), job.encode(), b""])
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if wanted in path.read_bytes() and path.with_name("cwd").resolve() == workspace:
                return int(path.parent.name)
    return None


def scancel(*words: str) -> Iterator[None]:
    """Cancel or signal a job, again and again while the controller is away."""
    while subprocess.run(["scancel", *words], capture_output=True, check=False).returncode:
        yield None


if __name__ == "__main__":
    sys.exit(main())
