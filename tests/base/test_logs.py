"""What is made of Snakemake's own messages."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from voxseq.base.logs import SnakemakeWords

DRY = "This was a dry-run (flag -n). The order of jobs does not reflect the order of execution."
FAILED = "WorkflowError:\nAt least one job did not complete successfully."


def told(words: SnakemakeWords, *messages: tuple[str, dict[str, Any]]) -> list[str]:
    """What is shown of some messages."""
    shown = []
    for text, extra in messages:
        record = logging.makeLogRecord({"msg": text, **extra})
        if words.filter(record):
            shown.append(record.getMessage())
    return shown


def words(*, brief: bool = True, owner: object = None, forced: bool = False) -> SnakemakeWords:
    return SnakemakeWords(brief=brief, owner=lambda: owner, forced=lambda: forced)


DRY_RUN = (
    ("Building DAG of jobs...", {}),
    ("table", {"event": "run_info"}),
    ("job", {"event": "job_info"}),
    ("table", {"event": "run_info"}),
    ("Reasons:\n    x", {}),
    (DRY, {}),
)


def test_a_dry_run_is_the_table_of_jobs() -> None:
    first, table, last = told(words(), *DRY_RUN)
    assert (first, table) == ("Building DAG of jobs...", "table")
    assert "voxseq plan" in last


def test_a_dry_run_of_a_study_names_its_file() -> None:
    study = SnakemakeWords(
        brief=True,
        owner=lambda: None,
        forced=lambda: False,
        overlays=[Path("studies/mine.yaml")],
    )
    last = told(study, *DRY_RUN)[-1]
    assert "`voxseq plan --overlay studies/mine.yaml`" in last
    assert "`snakemake -n --quiet reason --configfile studies/mine.yaml`" in last


@pytest.mark.parametrize(
    "text", ["Removing temporary output x.", "Would remove temporary output x"]
)
def test_notes_that_only_the_workflow_reads_are_not_shown(text: str) -> None:
    assert told(words(brief=False), (text, {})) == []


def test_whoever_asks_for_more_is_shown_what_snakemake_shows() -> None:
    assert told(words(brief=False), *DRY_RUN) == [text for text, _ in DRY_RUN]


@pytest.mark.parametrize("brief", [True, False])
def test_a_dry_run_by_force_says_how_runs_are_done_again(brief: bool) -> None:
    assert "voxseq forget" in told(words(brief=brief, forced=True), *DRY_RUN)[-1]


CANCEL = ("Terminating processes on user request, this might take some time.", {})
END = ("Will exit after finishing currently running jobs (scheduler).", {})
ERROR = ("Error in rule x:", {"event": "job_error"})
LAST = (FAILED, {"event": "error", "exception": "WorkflowError"})


@pytest.mark.parametrize("messages", [(CANCEL, LAST), (CANCEL, ERROR, LAST), (END, LAST)])
def test_a_request_to_stop_is_no_failure(messages: tuple[tuple[str, dict[str, Any]], ...]) -> None:
    shown = told(words(brief=False), *messages)
    assert len(shown) == 2
    assert "The same command resumes" in shown[1]


@pytest.mark.parametrize("messages", [(ERROR, LAST), (END, ERROR, LAST), (ERROR, END, LAST)])
def test_a_failure_is_one(messages: tuple[tuple[str, dict[str, Any]], ...]) -> None:
    assert told(words(brief=False), *messages) == [text for text, _ in messages]


def test_the_owner_of_the_folder_is_named_and_nothing_has_to_be_unlocked() -> None:
    message = ("It can be removed with the --unlock argument.", {"exception": "LockException"})
    (shown,) = told(words(owner="process 7 on here"), message)
    assert "process 7 on here" in shown
    assert "--unlock" not in shown
    assert told(words(owner=None), message) == [message[0]]
