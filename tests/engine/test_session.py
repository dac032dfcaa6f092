"""One workflow at a time, and what is put right before it starts."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny_study import tiny_plan
from voxseq.base.errors import ResourceError, VoxseqError
from voxseq.base.locks import exclusive
from voxseq.engine.session import at_work, begin, tidy_up
from voxseq.engine.workspace import Workspace


def snakemake_lock(workspace: Workspace, name: str, *lines: str) -> Path:
    path = workspace.root / ".snakemake/locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_second_workflow_is_told_of_the_first(workspace: Workspace) -> None:
    assert at_work(workspace) is None
    with begin(workspace):
        with pytest.raises(VoxseqError, match=f"process {os.getpid()}") as caught:
            begin(workspace)
        assert f"kill {os.getpid()}" in caught.value.hint
        (said,) = tidy_up(workspace)
        assert "another workflow is at work" in said
    begin(workspace).close()


def test_nobody_is_told_to_kill_a_process_that_is_not_known(workspace: Workspace) -> None:
    """``kill 0`` would stop the shell that it is typed in."""
    with begin(workspace):
        lock = workspace.root / ".voxseq/locks/tiny/workflow.lock"
        lock.write_text("")
        with pytest.raises(VoxseqError, match="unknown host") as caught:
            begin(workspace)
        assert "kill" not in caught.value.hint


def test_another_scale_is_no_obstacle(workspace: Workspace) -> None:
    plan = tiny_plan()
    other = Workspace(workspace.root, type(plan)("other", "results/other", plan.runs, plan.jobs))
    with begin(workspace), begin(other):
        assert at_work(other) is not None


def test_locks_of_snakemake_go_when_their_owner_is_dead(workspace: Workspace) -> None:
    mine = snakemake_lock(workspace, "0.output.lock", "x", "artifacts/tiny/download/jobs/a-1.json")
    others = snakemake_lock(workspace, "1.output.lock", "artifacts/tiny2/download/jobs/a-1.json")
    with begin(workspace):
        tidy_up(workspace)
        assert mine.exists()
    assert tidy_up(workspace) == ["removed a lock of Snakemake whose owner is dead"]
    assert not mine.exists()
    assert others.exists()
    assert tidy_up(workspace) == []


def test_jobs_of_an_earlier_call_are_named(workspace: Workspace) -> None:
    run = workspace.plan.runs["finetune/a/ours/s0"]
    with exclusive(workspace.lock(run), run.id):
        (said,) = tidy_up(workspace)
    assert run.id in said
    assert str(os.getpid()) in said


def test_what_is_not_whole_is_named(workspace: Workspace) -> None:
    run = workspace.plan.runs["download/a"]
    (workspace.folder(run) / "part.txt").unlink()
    assert tidy_up(workspace) == ["to be done again, because results are not whole: download/a"]
    assert tidy_up(workspace) == []


def test_a_clock_that_was_set_back_is_no_obstacle(workspace: Workspace) -> None:
    job = next(iter(workspace.plan.jobs.values()))
    marker = workspace.root / workspace.plan.marker(job)
    cached, content = workspace.root / "cached", marker.read_text()
    cached.hardlink_to(marker)
    os.utime(marker, (4e9, 4e9))
    assert tidy_up(workspace) == ["markers with a date in the future, dated anew: 1"]
    assert marker.stat().st_mtime <= time.time()
    assert marker.read_text() == content
    assert cached.stat().st_mtime == 4e9
    assert tidy_up(workspace) == []


def test_a_folder_that_cannot_be_written_is_named(workspace: Workspace) -> None:
    folder = workspace.root / workspace.plan.artefacts
    shutil.rmtree(folder)
    folder.write_text("a file in its place")
    with pytest.raises(ResourceError, match=f"{folder}: cannot be read or written"):
        tidy_up(workspace)


def test_a_disk_without_room_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(ResourceError, match=r"\.voxseq: the disk is full"):
        tidy_up(workspace)


@pytest.mark.parametrize("variable", ["TMPDIR", "TEMP", "TMP"])
def test_a_folder_for_temporary_files_without_room_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (workspace.root / "a file").write_text("")
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(workspace.root / "a file"))
    with pytest.raises(ResourceError, match="a file") as caught:
        tidy_up(workspace)
    assert "TMPDIR=" in caught.value.hint
