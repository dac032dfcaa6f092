"""Forget finished runs: put their results aside, so that the workflow computes them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from voxseq.base.errors import VoxseqError
from voxseq.base.folders import move
from voxseq.base.locks import exclusive, owner_of
from voxseq.engine.markers import withdraw
from voxseq.engine.session import begin
from voxseq.engine.workspace import Workspace
from voxseq.plan import Plan, Run


def chosen(plan: Plan, patterns: Sequence[str]) -> list[Run]:
    """The runs that some words name.

    Args:
        plan: the runs there are.
        patterns: ids of runs, the beginning of ids up to a slash, such as a stage or
            ``finetune/la``, or patterns with ``*``, ``?`` and ``[…]``.

    Raises:
        VoxseqError: a word names no run.
    """
    found: dict[str, Run] = {}
    for pattern in patterns:
        word = pattern.rstrip("/")
        named = {
            run.id: run
            for run in plan.runs.values()
            if run.id == word or run.id.startswith(f"{word}/") or fnmatchcase(run.id, word)
        }
        if not named:
            raise VoxseqError(
                f"no run of scale {plan.scale} is called {pattern!r}",
                "`voxseq plan` lists the runs; a stage, the beginning of an id up to a slash, and "
                "patterns such as 'finetune/*/ours/*' name several",
            )
        found |= named
    return [run for run in plan.runs.values() if run.id in found]


def with_followers(plan: Plan, runs: Iterable[Run]) -> list[Run]:
    """Some runs and all that depend on them, directly or not."""
    reached = {run.id for run in runs}
    # Runs are listed in an order in which they can be done.
    for run in plan.runs.values():
        if reached.intersection(run.inputs):
            reached.add(run.id)
    return [run for run in plan.runs.values() if run.id in reached]


def forget(workspace: Workspace, runs: Sequence[Run]) -> Path | None:
    """Put aside everything that would save computing some runs again.

    That is their results, whether in place, complete but not yet in place, or in the attic, and
    their checkpoints.

    Returns:
        The folder with all of it, which nothing reads; ``None`` when there was nothing.

    Raises:
        VoxseqError: a workflow is at work, or a job holds or reads one of the runs; then nothing
            was moved.
    """
    base = workspace.root / ".voxseq/forgotten" / workspace.plan.scale
    aside = base / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    # Without a workflow no further job starts in the meantime.
    with begin(workspace):
        _refuse_what_is_held(workspace, runs)
        moved = [_put_aside(workspace, run, aside / run.id) for run in runs]
    return aside if any(moved) else None


def _refuse_what_is_held(workspace: Workspace, runs: Sequence[Run]) -> None:
    """A job that outlived its workflow may write or read the runs to be forgotten."""
    names = {run.id for run in runs}
    for run in workspace.plan.runs.values():
        if run.id in names or names.intersection(run.inputs):
            owner = owner_of(workspace.lock(run))
            if owner is not None:
                raise VoxseqError(
                    f"nothing was forgotten: {owner} works on {run.id}",
                    "wait for it" + (f", or stop it: kill {owner.pid}" if owner.pid else ""),
                )


def _put_aside(workspace: Workspace, run: Run, target: Path) -> bool:
    """Move everything of one run; returns whether there was anything."""
    work, attic = workspace.work(run), workspace.attic(run.fingerprint)
    state, marker = workspace.state(run), workspace.marker(run)
    # The file or folder that identifies this very run.
    places = {
        "results": (workspace.folder(run), marker),
        "finished": (work, work / marker.name),
        "attic": (attic, attic),
        "state": (state, state),
    }
    moved = False
    with exclusive(workspace.lock(run), f"forgetting {run.id}"), workspace._changing(run.stage):
        # First, so that no job claims results that are gone, not even for a moment.
        withdraw(workspace._jobs(run.stage), run.id)
        for name, (folder, sign) in places.items():
            if sign.exists():
                move(folder, target / name)
                moved = True
    return moved
