"""How far each run of a plan is, from markers, locks and the records of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from voxseq.base.locks import owner_of
from voxseq.base.progress import RECORD, read_record
from voxseq.engine.journal import LOG
from voxseq.engine.workspace import Workspace
from voxseq.plan import Run

#: "stopped" runs resume: they were asked to stop, or their process was killed.
State = Literal["finished", "running", "failed", "stopped", "waiting"]


@dataclass(frozen=True)
class RunState:
    """How far one run is.

    Attributes:
        record: how far its work is, and how it ended; see :func:`voxseq.base.progress.recorded`.
        log: its own log; None where it has none yet.
    """

    run: Run
    state: State
    record: Mapping[str, Any] = field(default_factory=dict)
    log: Path | None = None

    @property
    def reason(self) -> str:
        """Why it failed or stopped; "" otherwise."""
        if self.state == "stopped":
            return str(self.record.get("reason", "its process was killed"))
        return str(self.record.get("reason", "")) if self.state == "failed" else ""


def state_of(workspace: Workspace, run: Run) -> RunState:
    """How far a run of the workspace's plan is.

    Raises:
        ResourceError: the machine failed while a marker was read.
    """
    if workspace.is_finished(run):
        return RunState(run, "finished")
    folder = workspace.state(run)
    if not folder.exists():
        return RunState(run, "waiting")
    log = folder / LOG
    record = read_record(folder / RECORD)
    # The lock is that of the run in any configuration, the state that of this one.
    if owner_of(workspace.lock(run)) is not None:
        state: State = "running"
    else:
        state = "failed" if record.get("state") == "failed" else "stopped"
    return RunState(run, state, record, log if log.exists() else None)


def states_of(workspace: Workspace) -> list[RunState]:
    """How far every run of the plan is, in the plan's order."""
    return [state_of(workspace, run) for run in workspace.plan.runs.values()]


def running(workspace: Workspace) -> list[RunState]:
    """The runs that are under way; quick, for who asks every few seconds."""
    begun = (run for run in workspace.plan.runs.values() if workspace.state(run).exists())
    return [found for run in begun if (found := state_of(workspace, run)).state == "running"]
