"""Workflow session: lock the working directory and recover from killed runs.

The Snakefile calls these. Several scales may be at work at once: they share no artefacts.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from voxseq.base.errors import ResourceError, VoxseqError
from voxseq.base.failures import failures_named, require_writable
from voxseq.base.files import read_text, write_text
from voxseq.base.folders import remove
from voxseq.base.locks import LockHeldError, Owner, owner_of, take
from voxseq.engine.dvc import let_dvc_follow
from voxseq.engine.publishing import publish_anew
from voxseq.engine.workspace import Workspace


def _lock(workspace: Workspace) -> Path:
    return workspace.root / ".voxseq/locks" / workspace.plan.scale / "workflow.lock"


def at_work(workspace: Workspace) -> Owner | None:
    """The workflow that does jobs of this scale in this folder at the moment."""
    return owner_of(_lock(workspace))


def begin(workspace: Workspace) -> IO[str]:
    """Keep other workflows out until this process ends, whatever way it ends.

    Returns:
        The lock, which has to be kept.

    Raises:
        VoxseqError: another one is at work here.
        ResourceError: the machine failed.
    """
    try:
        return take(_lock(workspace), f"workflow of scale {workspace.plan.scale}")
    except LockHeldError as held:
        raise VoxseqError(
            f"another workflow is at work in this folder: {held.owner}",
            # A process that has just begun may not have written its number yet.
            "wait for it" + (f", or stop it: kill {held.owner.pid}" if held.owner.pid else ""),
        ) from None


def tidy_up(workspace: Workspace, *, is_dry: bool = False) -> list[str]:
    """Recover from killed calls and manual changes, unless a workflow is at work here.

    Args:
        workspace: the folder and its plan.
        is_dry: replace no file that was edited by hand.

    Returns:
        The repairs, in words.

    Raises:
        IntegrityError: results are links into a cache of DVC that is not there.
        ResourceError: nothing can be written here, or the machine failed.
        VoxseqError: the folder of artefacts is a link that leads nowhere.
    """
    with failures_named(workspace.root / workspace.plan.artefacts):
        owner = at_work(workspace)
        if owner is not None:
            return [f"another workflow is at work in this folder: {owner}"]
        let_dvc_follow(workspace.root, workspace.plan)
        for place in (workspace.root / ".voxseq", workspace.root / workspace.plan.artefacts):
            # Snakemake's own message about a full disk is no help.
            require_writable(place)
        _require_temporary_files()
        said = []
        # A killed call may have left some, and much may have happened since.
        remove(workspace.verifications)
        if _remove_stale_locks(workspace):
            said.append("removed a lock of Snakemake whose owner is dead")
        said += publish_anew(workspace, only_missing=is_dry)
        if again := workspace.recheck():
            said.append(f"to be done again, because results are not whole: {', '.join(again)}")
        if ahead := _date_anew(workspace):
            said.append(f"markers with a date in the future, dated anew: {ahead}")
        return [*said, *(f"an earlier call's job still runs: {o}" for o in workspace.owners())]


def _require_temporary_files() -> None:
    """Snakemake's scheduler and many libraries write some, and end in a traceback otherwise."""
    # Python passes over a folder that is full, but others write where the variable says.
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    for folder in named or [tempfile.gettempdir()]:
        try:
            require_writable(Path(folder))
        except ResourceError as error:
            raise ResourceError(
                error.what,
                "make room there, or name another folder for temporary files: export TMPDIR=…",
            ) from None


def _remove_stale_locks(workspace: Workspace) -> bool:
    """Remove Snakemake's own locks of this scale: it cannot tell whether their owner is alive."""
    found = False
    for path in (workspace.root / ".snakemake/locks").glob("*.lock"):
        with suppress(FileNotFoundError):
            if f"{workspace.plan.artefacts}/" in read_text(path):
                path.unlink()
                found = True
    return found


def _date_anew(workspace: Workspace) -> int:
    """Give markers of jobs with a date in the future the present one; returns how many.

    A clock was set back, or they come from another machine. Snakemake would refuse what follows
    from them. New files are written: the old ones may be links into DVC's cache.
    """
    now, ahead = time.time(), 0
    for job in workspace.plan.jobs.values():
        path = workspace.root / workspace.plan.marker(job)
        if path.exists() and max(path.stat().st_mtime, path.lstat().st_mtime) > now:
            write_text(path, read_text(path))
            ahead += 1
    return ahead
