"""Two processes, or other hands, at the results of one plan."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny_study import (
    Actions,
    do,
    do_all,
    install,
    job_marker,
    job_of,
    run_of,
    tiny_plan,
)
from voxseq.base.errors import IntegrityError, ResourceError
from voxseq.engine.workspace import Workspace
from voxseq.plan.context import RunContext


def during(
    actions: Actions, monkeypatch: pytest.MonkeyPatch, name: str, deed: Callable[[], None]
) -> None:
    """Let something happen while a run is computed."""
    real = actions.execute

    def execute(context: RunContext) -> None:
        real(context)
        if context.run_id == name:
            deed()

    import tiny_actions  # type: ignore[import-not-found]

    monkeypatch.setattr(tiny_actions, "execute", execute)


def test_a_job_that_outlives_its_workflow_is_waited_for(
    empty: Workspace, actions: Actions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(empty, "download")
    started, may_end = threading.Event(), threading.Event()

    def pause() -> None:
        started.set()
        assert may_end.wait(timeout=60)

    during(actions, monkeypatch, "download/a", pause)
    threads = [threading.Thread(target=empty.execute, args=(job,)) for _ in range(2)]
    threads[0].start()
    assert started.wait(timeout=60)
    threads[1].start()
    threads[1].join(timeout=0.3)
    assert threads[1].is_alive()
    (owner,) = empty.owners()
    assert owner.what == "download/a"
    may_end.set()
    for thread in threads:
        thread.join(timeout=60)
    assert actions.done == ["download/a"]
    assert empty.is_finished(job.runs[0])
    assert empty.owners() == []


def test_results_of_replaced_inputs_are_not_accepted(
    empty: Workspace, tmp_path: Path, actions: Actions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call with another configuration replaces the store while a job of this one reads it."""
    other = Workspace(tmp_path, tiny_plan({"preprocess/task/a": 5}))
    do(empty, "download", "preprocess")
    during(actions, monkeypatch, "finetune/a/ours/s0", lambda: do(other, "preprocess"))
    with pytest.raises(IntegrityError, match="preprocess/task/a is needed and not usable"):
        do(empty, "finetune")
    assert not empty.is_finished(run_of(empty, "finetune/a/ours/s0"))
    monkeypatch.undo()
    install(monkeypatch)
    do_all(empty)
    assert all(empty.is_finished(run) for run in empty.plan.runs.values())


def test_a_job_does_not_claim_runs_that_were_replaced_meanwhile(
    empty: Workspace, tmp_path: Path, actions: Actions, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Workspace(tmp_path, tiny_plan({"finetune/a/ours/s0": 5}))
    do(empty, "download", "preprocess")

    def replace() -> None:
        run = run_of(other, "finetune/a/ours/s0")
        if not other.is_finished(run):
            other._provide(run)

    during(actions, monkeypatch, "finetune/a/ours/s1", replace)
    with pytest.raises(IntegrityError, match="finetune/a/ours/s0 were replaced"):
        do(empty, "finetune")
    assert not job_marker(empty, "finetune").exists()


@pytest.mark.parametrize("damage", ["run folder", "file", "marker"])
def test_jobs_whose_results_are_not_whole_are_done_again(
    workspace: Workspace, tmp_path: Path, actions: Actions, damage: str
) -> None:
    assert workspace.recheck() == []
    run = run_of(workspace, "finetune/a/ours/s1")
    if damage == "run folder":
        shutil.rmtree(workspace.folder(run))
    elif damage == "file":
        (workspace.folder(run) / "part.txt").write_text("")
    else:
        workspace.marker(run).unlink()
    assert workspace.recheck() == ["finetune/a.ours"]
    assert not job_marker(workspace, "finetune").exists()
    actions.done.clear()
    do_all(workspace)
    assert actions.done == ["finetune/a/ours/s1"]


def test_the_advice_about_a_damaged_input_works(empty: Workspace, tmp_path: Path) -> None:
    """Snakemake does the stage again, because its job no longer says that it is finished."""
    do(empty, "download", "preprocess")
    (empty.folder(run_of(empty, "preprocess/task/a")) / "part.txt").unlink()
    with pytest.raises(IntegrityError, match="preprocess/task/a") as caught:
        do(empty, "finetune")
    assert "does the stage preprocess once more" in caught.value.hint
    marker = job_marker(empty, "preprocess")
    assert not marker.exists()
    do_all(empty)
    assert marker.exists()


def test_links_to_a_cache_that_is_not_there_are_no_reason_to_compute(
    workspace: Workspace, tmp_path: Path
) -> None:
    marker = job_marker(workspace, "download")
    marker.unlink()
    marker.symlink_to(tmp_path / "no such cache")
    with pytest.raises(IntegrityError, match="is not there") as caught:
        workspace.recheck()
    assert "dvc checkout" in caught.value.hint


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system whose server has none."""

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("when", ["at work", "at its end"])
def test_without_locks_two_calls_do_a_run_and_one_counts(
    empty: Workspace,
    tmp_path: Path,
    actions: Actions,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    when: str,
) -> None:
    """The second call begins and ends while the first is at work."""
    job, calls = job_of(empty, "download"), []
    others: list[Path] = []

    def second_call() -> None:
        calls.append(1)
        if len(calls) > 1:
            others.append(actions.seen["download/a"].out)
            return
        first = actions.seen["download/a"]
        monkeypatch.setattr(os, "getpid", lambda: 99)
        empty.execute(job)
        assert first.out.exists()
        if when == "at work":
            (first.state / "next.pt").write_text("the other call has removed this folder")

    during(actions, monkeypatch, "download/a", second_call)
    empty.execute(job)
    assert "another call has finished it in the meantime" in caplog.text
    assert others[0].name == f"a~{socket.gethostname()}~99"
    assert empty.is_finished(run_of(empty, "download/a"))
    assert (tmp_path / empty.plan.marker(job)).exists()


@pytest.mark.usefixtures("no_locks")
def test_without_locks_what_another_call_has_removed_is_said(
    empty: Workspace, actions: Actions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove() -> None:
        shutil.rmtree(actions.seen["download/a"].out)
        (actions.seen["download/a"].out / "more").write_text("x")

    during(actions, monkeypatch, "download/a", remove)
    with pytest.raises(ResourceError) as caught:
        do(empty, "download")
    assert "more: is gone" in caught.value.what
    assert "another call" in caught.value.hint
    assert "check that disk" not in str(caught.value)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_nobody_removes_the_work_of_another_call(
    empty: Workspace, actions: Actions, monkeypatch: pytest.MonkeyPatch
) -> None:
    during(actions, monkeypatch, "download/a", lambda: empty.prune() and None)
    do(empty, "download")
    assert actions.done == ["download/a"]
