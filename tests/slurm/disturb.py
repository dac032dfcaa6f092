"""What goes wrong while the study runs on Slurm: jobs and the controller are killed on the way.

`disturb.py WORKSPACE LOG` waits for its moments, acts, and ends with status 0 when everything
happened. run.sh starts it beside Snakemake, in the environment of the cluster.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Seconds the controller is away: several rounds in which the plugin asks in vain.
AWAY = 45
#: Seconds within which the controller has certainly written its state.
SAVED = 20
#: Seconds for which the node is watched afterwards.
WATCH = 180
#: Seconds after which a disturbance that did not come about is given up.
PATIENCE = 3600

#: A disturbance: it goes on at each call, and gives what there is to note.
Disturbance = Iterator[str | None]


def main() -> int:
    """Run all disturbances beside each other."""
    workspace, log = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    disturbances = {
        "job killed": killed(workspace, "pretrain", "mae3d.s0"),
        "time limit": time_limit(workspace, "pretrain", "ours.s0"),
        "job cancelled": cancelled(workspace, "ablation", "pretrain.no_sequences.s0"),
        "controller killed": controller(workspace),
    }
    return beside_each_other(disturbances, log)


def beside_each_other(disturbances: dict[str, Disturbance], log: Path) -> int:
    """Let all go on in turn; status 0 when everything happened, 1 when something did not."""
    pending = dict(disturbances)
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


def killed(workspace: Path, stage: str, job: str) -> Disturbance:
    """A training is killed without warning after its first checkpoint."""
    process = yield from frozen_training(workspace, stage, job)
    yield f"scancel --signal=KILL of Slurm job {process.slurm_job}"
    yield from scancel("--signal=KILL", process.slurm_job)


def cancelled(workspace: Path, stage: str, job: str) -> Disturbance:
    """A training is cancelled; it gets SIGTERM, and SIGKILL when KillWait has passed."""
    process = yield from frozen_training(workspace, stage, job)
    yield f"scancel of Slurm job {process.slurm_job}"
    yield from scancel(process.slurm_job)


def time_limit(workspace: Path, stage: str, job: str) -> Disturbance:
    """A training is so slow that its time runs out: Slurm's warning arrives, and it goes on."""
    process = yield from frozen_training(workspace, stage, job)
    began = time.monotonic()
    while process.waits_for(signal.SIGUSR1):
        yield None
    yield f"warning of Slurm job {process.slurm_job} after {time.monotonic() - began:.0f} s"
    with suppress(ProcessLookupError):
        process.send(signal.SIGCONT)


def controller(workspace: Path) -> Disturbance:
    """The controller is killed while jobs run, and comes back later."""
    process = yield from frozen(workspace, "finetune", "ours.s0.part0")
    # The controller writes its state every few seconds; jobs that are younger would be lost.
    while since_last_submission() < SAVED:
        yield from waited(1)
    pid = int((Path(os.environ["SLURM_CONF"]).parent / "slurmctld.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    process.send(signal.SIGCONT)
    yield f"kill -9 of slurmctld ({pid})"
    yield from waited(AWAY)
    subprocess.run(["bash", "-c", ". cluster.sh; controller_start"], cwd=HERE, check=True)
    yield "slurmctld is back"
    # It may have forgotten that a job was started; then it starts the job twice, distrusts the
    # node and leaves the rest to the administrator.
    last = time.monotonic() + WATCH
    while time.monotonic() < last:
        if "drain" in slurm("sinfo", "--noheader", "--format=%T"):
            slurm("scontrol", "update", f"NodeName={node()}", "State=RESUME")
            yield "the node was set aside and is put back"
        yield from waited(5)


class Process:
    """A voxseq process inside a Slurm job."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        pairs = (entry.decode().split("=", 1) for entry in entries if b"=" in entry)
        self.environment = dict(pairs)
        self.slurm_job = self.environment["SLURM_JOB_ID"]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        os.kill(self.pid, number)

    def is_stopped(self) -> bool:
        """Whether SIGSTOP has taken effect.

        Raises:
            FileNotFoundError: the process is gone.
        """
        return self._status()["State"].strip().startswith("T")

    def waits_for(self, number: signal.Signals) -> bool:
        """Whether the stopped process is there and the signal has not been sent to it."""
        with suppress(FileNotFoundError, ProcessLookupError):
            is_pending = int(self._status()["ShdPnd"], 16) >> (number - 1) & 1
            return self.is_stopped() and not is_pending
        return False

    def _status(self) -> dict[str, str]:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return dict(line.split(":", 1) for line in lines)


def frozen_training(workspace: Path, stage: str, job: str) -> Generator[None, None, Process]:
    """Wait for the job's training to write a checkpoint; stop the process there."""
    # The job of a pre-training holds one run, of the same name.
    pattern = f"*/{stage}/{job.replace('.', '/')}/*/checkpoint*"
    while not list((workspace / ".voxseq/state").glob(pattern)):
        yield None
    return (yield from frozen(workspace, stage, job))


def frozen(workspace: Path, stage: str, job: str) -> Generator[None, None, Process]:
    """Wait for the job and stop its process."""
    while True:
        for pid in processes_of(workspace, stage, job):
            with suppress(ProcessLookupError, FileNotFoundError):
                process = Process(pid)
                process.send(signal.SIGSTOP)
                while not process.is_stopped():
                    time.sleep(0.01)
                return process
        yield None


def processes_of(workspace: Path, stage: str, job: str) -> Iterator[int]:
    """Numbers of the processes ``voxseq job STAGE JOB`` in this workspace."""
    wanted = [word.encode() for word in ("-m", "voxseq", "job", stage, job)]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            # Those who launch it have the same words further behind.
            said = path.read_bytes().split(b"\0")[1:6]
            if said == wanted and path.with_name("cwd").resolve() == workspace:
                yield int(path.parent.name)


def waited(seconds: float) -> Iterator[None]:
    """Let the other disturbances go on for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield None


def since_last_submission() -> float:
    """Seconds since the youngest job came into the queue."""
    said = slurm("squeue", "--noheader", "--states=all", "--format=%V").split()
    return time.time() - max(datetime.fromisoformat(moment).timestamp() for moment in said)


def slurm(*words: str) -> str:
    """What a command of Slurm's says; nothing while the controller is away."""
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def node() -> str:
    """Name of the one node."""
    return socket.gethostname().split(".")[0]


def scancel(*words: str) -> Iterator[None]:
    """Cancel or signal a job, again and again while the controller is away."""
    while subprocess.run(["scancel", *words], capture_output=True, check=False).returncode:
        yield None


if __name__ == "__main__":
    sys.exit(main())
