"""Killing engines and their jobs at random moments, with SIGKILL."""

from __future__ import annotations

import random
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.helpers.study import COMMANDS, Study

#: What is killed. A killed parent's children run on, but for "everything", as when the power fails.
KINDS = ("workflow", "job", "dvc", "everything", "everything with dvc")
#: What an engine says when a job or a stage begins or ends, and how much of it is waited for.
SAID = re.compile(r"^(?:Job \d+:|Finished jobid|Running stage)", re.MULTILINE)
EVENTS = 7
REFUSED = "another workflow is at work"


@dataclass
class Tally:
    """What happened."""

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    calls: int = 0
    refused: int = 0
    torn: int = 0

    @property
    def total(self) -> int:
        return sum(self.kills.values())


@dataclass
class Killer:
    """Calls engines in one study and kills them.

    Attributes:
        seen: every process that was started and may still be alive.
    """

    study: Study
    rng: random.Random
    tally: Tally
    seen: list[psutil.Process] = field(default_factory=list)

    def until_finished(self, kills: int) -> None:
        """Call and kill until the study is finished or there were so many kills; then finish it."""
        while self.tally.total < kills:
            if self.one(self.rng.choice(KINDS)):
                break
        else:
            self.wait()
            self.study.run(self.rng.choice(list(COMMANDS)))
        self.wait()

    def one(self, kind: str) -> bool:
        """One call that is killed, unless it is quicker; returns whether all is finished."""
        engine = "dvc" if "dvc" in kind else "snakemake"
        self._mend_lock()
        log = self.study.root.parent / f"call-{self.tally.calls}.log"
        self.tally.calls += 1
        process = self.study.start(*COMMANDS[engine], log=log)
        self.seen.append(psutil.Process(process.pid))
        if self._moment(process, log):
            return self._judge(process, log, had_killed_job=False)
        if kind == "job":
            return self._kill_job(process, log)
        children = psutil.Process(process.pid).children(recursive=True)
        self.seen += children
        process.kill()
        process.wait()
        if kind.startswith("everything"):
            _kill(children)
            self.wait()
            self.study.assert_whole()
        self.tally.kills[kind] += 1
        if kind == "dvc":
            # What it started goes on, and a second workflow has to see that.
            return self._call_beside_survivors(children)
        return False

    def _moment(self, process: subprocess.Popen[bytes], log: Path) -> bool:
        """Wait for a moment at random; returns whether the call ended before.

        Counted in what the call says, so that it is as random on a slow machine: that many jobs or
        stages have begun or ended, and then up to two seconds more.
        """
        events = self.rng.randint(0, EVENTS)
        while len(SAID.findall(log.read_text(errors="replace"))) < events:
            if process.poll() is not None:
                return True
            time.sleep(0.05)
        return _ends(process, self.rng.uniform(0, 2))

    def _kill_job(self, process: subprocess.Popen[bytes], log: Path) -> bool:
        """Kill one job and let its workflow go on."""
        killed = False
        while not killed and process.poll() is None:
            children = psutil.Process(process.pid).children(recursive=True)
            jobs = [child for child in children if _is_job(child)]
            if jobs:
                _kill([self.rng.choice(jobs)])
                self.tally.kills["job"] += 1
                killed = True
            time.sleep(0.05)
        process.wait()
        return self._judge(process, log, had_killed_job=killed)

    def _call_beside_survivors(self, survivors: list[psutil.Process]) -> bool:
        self.tally.calls += 1
        done = self.study.attempt(*COMMANDS["snakemake"])
        if done.status == 0:
            return True
        assert REFUSED in done.said, done.said[-5000:]
        self.tally.refused += 1
        _kill([p for p in survivors if not _is_job(p)])
        return False

    def _judge(self, process: subprocess.Popen[bytes], log: Path, *, had_killed_job: bool) -> bool:
        """Whether a call that ended by itself finished the study; it fails for a reason only."""
        if process.returncode == 0:
            return True
        said = log.read_text(errors="replace")
        assert had_killed_job or REFUSED in said, said[-5000:]
        return False

    def _mend_lock(self) -> None:
        """DVC writes dvc.lock in place; one that was cut short is made anew."""
        lock = self.study.root / "dvc.lock"
        if lock.exists() and not lock.read_text().endswith("\n"):
            self.tally.torn += 1
            self.wait()
            self.study.voxseq("record")

    def wait(self) -> None:
        """Wait until nothing that was started here runs any more."""
        for process in self.seen:
            try:
                process.wait(timeout=1800)
            except psutil.NoSuchProcess:
                continue
        self.seen.clear()

    def stop(self) -> None:
        """Kill all that is left."""
        _kill(self.seen)


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _is_job(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "voxseq" in words and "job" in words


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
