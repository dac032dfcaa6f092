"""Workspaces, and processes in them that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers import ROOT
from voxseq.base.checksums import read_checksums
from voxseq.base.files import write_json
from voxseq.config import load_config, merge, read_yaml
from voxseq.engine.markers import problem
from voxseq.plan import Job, Plan, build_plan

#: Says in one line what a test did and found.
Say = Callable[..., None]
#: Seconds that a scheduler waits at least between SIGTERM and SIGKILL.
PATIENCE = 20
METHODS = ("simclr", "moco_v3", "dino", "pcrlv2", "mae3d", "medcoss", "ours")
#: One network of each kind: with an encoder of ours, U-Net, batch normalisation, a probe.
OTHERS = (
    ("finetune", "ours.part0"),
    ("finetune", "unet3d.part0"),
    ("finetune", "resnet.part0"),
    ("beyond", "finetune.probes.part0"),
)
#: Status of a process that stopped when it was asked to.
RETRY = 75
HERE = Path(__file__).parent
SRC = ROOT / "src"


def study(**changes: Any) -> dict[str, Any]:
    """The configuration of the study of these tests, every key given."""
    overlays = [
        read_yaml(ROOT / "workflow/scales/smoke.yaml"),
        read_yaml(HERE / "study_of_faults.yaml"),
    ]
    config = load_config(ROOT / "params.yaml", [*overlays, changes])
    return config.model_dump(mode="json")


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: exit status; negative for the signal that ended it.
        seconds: it ran.
        stopping: seconds between the signal and its end.
        output: what it printed.
        calls: on files, that failed by order of the test.
    """

    status: int
    seconds: float
    stopping: float | None
    output: str
    calls: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """Its last words, for a failed assertion."""
        return self.output[-2000:]

    def refused(self, *words: str) -> None:
        """It ended with an error of ours that has these words."""
        assert self.status == 2, self.said
        assert "Traceback" not in self.output
        for word in words:
            assert word in self.output, self.said

    def stopped(self, number: int) -> None:
        """A signal ended it: SIGKILL, or a request to stop that was heeded in time."""
        assert self.status == (-number if number == signal.SIGKILL else RETRY), self.said
        assert self.stopping is not None
        assert self.stopping < PATIENCE
        assert "Traceback" not in self.output


class Zygote:
    """Starts commands of voxseq as processes of their own, at once; see zygote.py.

    Attributes:
        folder: for output; not in the workspaces, whose disks may be full.
        ended: how many processes ended in which way.
        slowest: seconds from a request to stop to the end.
        shim: what lets calls on files fail; ``None`` where there is no compiler.
    """

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.slowest = 0.0
        environment = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
        environment.pop("VOXSEQ_DATA", None)
        self.folder = Path(tempfile.mkdtemp(prefix="voxseq-zygote-"))
        self.shim = _shim(self.folder)
        if self.shim is not None:
            environment["LD_PRELOAD"] = str(self.shim)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._answer()

    def run(self, root: Path, *argv: str, **request: Any) -> Ended:
        """Run ``voxseq *argv`` in ``root``; see zygote.py for what can happen to it."""
        assert self._process.stdin is not None
        log = self.folder / "out.txt"
        log.write_text("")
        self._process.stdin.write(
            json.dumps({"root": str(root), "argv": argv, "log": str(log), **request}) + "\n"
        )
        self._process.stdin.flush()
        answer = self._answer()
        calls = tuple(answer.pop("calls"))
        ended = Ended(**answer, output=log.read_text(errors="replace"), calls=calls)
        self._count(ended, request)
        return ended

    def _count(self, ended: Ended, request: dict[str, Any]) -> None:
        self.ended["started"] += 1
        if request.get("act") == "lose me":
            self.ended["lost a worker"] += 1
        elif ended.status == -signal.SIGKILL == -request.get("signal", 0):
            self.ended["killed by SIGKILL"] += 1
        elif ended.status == RETRY:
            self.ended["stopped with status 75"] += 1
            self.slowest = max(self.slowest, ended.stopping or 0.0)
        elif "the disk is full" in ended.output:
            self.ended["ended by a full disk"] += 1

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        shutil.rmtree(self.folder)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def _shim(folder: Path) -> Path | None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    made = folder / "shim.so"
    words = ("-shared", "-fPIC", "-O1", "-w", "-o", str(made), str(HERE / "shim.c"), "-ldl")
    subprocess.run([compiler, *words], check=True)
    return made


@dataclass(frozen=True)
class Place:
    """A workspace with a configuration."""

    folder: Path
    zygote: Zygote
    config: dict[str, Any] = field(default_factory=study)

    @property
    def plan(self) -> Plan:
        """What is to be done."""
        return build_plan(load_config(self.params))

    @property
    def params(self) -> Path:
        """The configuration's file."""
        path = self.folder / "resolved.json"
        if not path.exists():
            write_json(path, self.config)
        return path

    def job(self, stage: str, name: str) -> Job:
        """One job of the plan; its name may lack the seed, which is 0."""
        jobs = {job.name: job for job in self.plan.of_stage(stage)}  # type: ignore[arg-type]
        row, _, part = name.partition(".part")
        seeded = f"{row}.s0.part{part}" if part else f"{name}.s0"
        return jobs[name] if name in jobs else jobs[seeded]

    def command(self, *argv: str, **request: Any) -> Ended:
        """A command of voxseq with this configuration as a process of its own."""
        return self.zygote.run(self.folder, *argv, "--params", str(self.params), **request)

    def run(self, stage: str, name: str, *, workers: int = 0, **request: Any) -> Ended:
        """``voxseq job`` as a process of its own."""
        kind = "finetune" if stage in ("finetune", "beyond") else stage
        overlay = self.zygote.folder / f"workers{workers}.json"
        write_json(overlay, {"execution": {kind: {"workers": workers}}} if workers else {})
        job = self.job(stage, name).name
        words = ("job", stage, job, "--params", str(self.params), "--overlay", str(overlay))
        return self.zygote.run(self.folder, *words, **request)

    def do(self, stage: str, name: str, **request: Any) -> Ended:
        """The same, and it must succeed."""
        ended = self.run(stage, name, **request)
        assert ended.status == 0, ended.said
        return ended

    def copy(self, folder: Path, **changes: Any) -> Place:
        """The same workspace once more, in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        if changes:
            (folder / "resolved.json").unlink()
        return Place(folder, self.zygote, merge(self.config, changes))

    def forget(self, stage: str, name: str) -> None:
        """Remove a job's results."""
        job = self.job(stage, name)
        (self.folder / self.plan.marker(job)).unlink(missing_ok=True)
        for run in job.runs:
            shutil.rmtree(self.folder / self.plan.artefacts / run.id, ignore_errors=True)

    def results(self, stage: str, name: str) -> dict[str, bytes]:
        """Files of a job's runs."""
        found = {}
        for run in self.job(stage, name).runs:
            base = self.folder / self.plan.artefacts / run.id
            found |= {
                str(path.relative_to(self.folder)): path.read_bytes()
                for path in base.rglob("*")
                if path.is_file()
            }
        assert found
        return found

    def leftovers(self) -> list[str]:
        """Half-written files anywhere in the workspace."""
        return sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*.tmp"))

    def damage(self) -> list[str]:
        """What is wrong with finished runs, by their checksums."""
        markers = (self.folder / self.plan.artefacts).rglob("run-*.json")
        return [found for path in markers if (found := problem(path, None, read_checksums))]

    def checkpoint(self, stage: str, name: str) -> Path:
        """Where a job's first unfinished run keeps its checkpoint."""
        for run in self.job(stage, name).runs:
            folder = self.folder / ".voxseq/state" / self.plan.scale / run.id / run.fingerprint
            if (folder / "checkpoint.pt").exists():
                return folder / "checkpoint.pt"
        return self.folder / "no checkpoint"
