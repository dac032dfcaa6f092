"""The jobs that failed in a call of the workflow, from the logs in which they say why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from voxseq.base.failures import read_named
from voxseq.engine.session import at_work
from voxseq.engine.workspace import Workspace
from voxseq.plan import Job

#: The last words of `voxseq job`; lines that belong to them are indented.
_ERROR = re.compile(r"^error: (.+(?:\n[ \t].*)*)", re.MULTILINE)


@dataclass(frozen=True)
class FailedJob:
    """A job that failed.

    Attributes:
        job: what it was to do.
        log: its log.
        error: what went wrong and the next step.
    """

    job: Job
    log: Path
    error: str

    def __str__(self) -> str:
        return f"error: {self.job.stage}/{self.job.name}: {self.error}\n  log: {self.log}"


class JobLogs:
    """Logs of the jobs of a workspace, as they are before a call of the workflow."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._before = {log: time for time, log, _ in self._written()}

    def failed(self) -> list[FailedJob]:
        """The jobs that have failed since, in the order in which they ended.

        A job that was tried again is among them only if its last attempt failed. None is
        while another call is at work: that one does the jobs, and this one was refused.
        """
        if at_work(self._workspace):
            return []
        since = (found for found in self._written() if self._before.get(found[1]) != found[0])
        failed = []
        for _, log, job in sorted(since, key=lambda found: found[0]):
            with read_named(log):
                said = log.read_text(encoding="utf-8", errors="replace")
            # A finished job has a log of its verification, too, which has no marker.
            if (error := _ERROR.search(said)) or not self._has_marker(job):
                shown = log.relative_to(self._workspace.root)
                failed.append(FailedJob(job, shown, error[1] if error else _without_error(said)))
        return failed

    def _written(self) -> Iterator[tuple[int, Path, Job]]:
        """Time, path and job of every log that is there."""
        for job in self._workspace.plan.jobs.values():
            for folder in (job.stage, "verify"):
                log = self._workspace.logs / folder / f"{job.name}-{job.fingerprint}.log"
                with suppress(FileNotFoundError):
                    yield log.stat().st_mtime_ns, log, job

    def _has_marker(self, job: Job) -> bool:
        return (self._workspace.root / self._workspace.plan.marker(job)).exists()


def _without_error(said: str) -> str:
    """The error of a job that names none, such as one that was killed."""
    lines = said.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    ending = f"; its log ends with: {last}" if last else ", and its log is empty"
    return (
        f"it ended without an error message{ending}\n"
        "  next: read the log; a job that was killed may have had too little memory"
    )
