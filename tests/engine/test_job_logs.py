"""The jobs that failed in a call of the workflow, by their logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.tiny_study import do, job_of
from voxseq.engine.job_logs import JobLogs
from voxseq.engine.session import begin
from voxseq.engine.workspace import Workspace

FULL = "error: b/c.nii: the disk is full\n    0 MB are free\n  next: make room\n"


def write(workspace: Workspace, stage: str, text: str, time: int, folder: str = "") -> Path:
    """The log that the workflow has of a job."""
    job = job_of(workspace, stage)
    path = workspace.logs / (folder or stage) / f"{job.name}-{job.fingerprint}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time, time))
    return path.relative_to(workspace.root)


def test_failed_jobs_come_in_the_order_in_which_they_ended(empty: Workspace) -> None:
    logs = JobLogs(empty)
    write(empty, "finetune", f"10:00:00 failed: later\n{FULL}after\n", 3)
    log = write(empty, "preprocess", f"10:00:00 failed: b\n{FULL}", 2)
    first, second = logs.failed()
    assert str(first) == (
        "error: preprocess/task.a: b/c.nii: the disk is full\n"
        f"    0 MB are free\n  next: make room\n  log: {log}"
    )
    assert second.job == job_of(empty, "finetune")
    assert "after" not in second.error


def test_logs_of_earlier_calls_and_of_finished_jobs_do_not_count(empty: Workspace) -> None:
    write(empty, "finetune", FULL, 1)
    logs = JobLogs(empty)
    do(empty, "download")
    write(empty, "download", "download/a took 0.1 s\n", 2)
    assert logs.failed() == []
    write(empty, "finetune", FULL, 3)
    assert [found.job.stage for found in logs.failed()] == ["finetune"]


def test_jobs_of_another_call_at_work_do_not_count(empty: Workspace) -> None:
    logs = JobLogs(empty)
    write(empty, "finetune", "training: 3 of 9\n", 2)
    with begin(empty):
        assert logs.failed() == []
    assert [found.job.stage for found in logs.failed()] == ["finetune"]


def test_the_verification_of_a_finished_job_may_fail(empty: Workspace) -> None:
    logs = JobLogs(empty)
    do(empty, "download", "preprocess")
    log = write(empty, "preprocess", FULL, 2, folder="verify")
    write(empty, "download", "", 3, folder="verify")
    assert [found.log for found in logs.failed()] == [log]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Traceback\n  File\nValueError: 3\n\n", "its log ends with: ValueError: 3"),
        ("", "its log is empty"),
    ],
)
def test_a_job_that_names_no_error_is_shown_by_the_end_of_its_log(
    empty: Workspace, text: str, said: str
) -> None:
    logs = JobLogs(empty)
    write(empty, "download", text, 2)
    (found,) = logs.failed()
    assert said in found.error
    assert "next: read the log" in found.error
