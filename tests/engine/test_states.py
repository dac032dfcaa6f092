"""How far runs are: from markers, locks and the records that runs keep."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.tiny_study import GRID, Actions, do, do_all, job_of, run_of
from voxseq.base.errors import Interrupted, ResourceError
from voxseq.base.files import write_json
from voxseq.base.locks import exclusive
from voxseq.base.progress import RECORD
from voxseq.engine import live
from voxseq.engine.journal import seconds_of_runs
from voxseq.engine.live import RunsShown
from voxseq.engine.states import running, state_of, states_of
from voxseq.engine.workspace import Workspace

RUN = "finetune/a/ours/s0"
UNDER_WAY = {"state": "running", "doing": "training", "done": 3, "total": 9, "seconds_left": 61.0}


def begun(workspace: Workspace, record: object) -> Path:
    """Leave the state of a run under way; returns the file of its lock."""
    folder = workspace.state(run_of(workspace, RUN))
    write_json(folder / RECORD, record)
    (folder / "log.txt").touch()
    return workspace.lock(run_of(workspace, RUN))


def test_before_and_after_the_work(empty: Workspace) -> None:
    assert [found.state for found in states_of(empty)] == ["waiting"] * len(GRID)
    do_all(empty)
    assert [found.state for found in states_of(empty)] == ["finished"] * len(GRID)
    assert running(empty) == []


def test_a_failed_run_says_why_and_where_its_log_is(empty: Workspace, actions: Actions) -> None:
    do(empty, "download", "preprocess")
    actions.fail = RUN
    with pytest.raises(ResourceError):
        empty.execute(job_of(empty, "finetune"))
    found = state_of(empty, run_of(empty, RUN))
    assert found.state == "failed"
    assert "the disk is full" in found.reason
    assert found.log is not None
    assert "failed: " in found.log.read_text()
    actions.fail = None
    empty.execute(job_of(empty, "finetune"))
    assert state_of(empty, run_of(empty, RUN)).state == "finished"


def test_a_stopped_and_a_killed_run_resume(
    empty: Workspace, actions: Actions, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(empty, "download", "preprocess")

    def stop(*_: object) -> None:
        raise Interrupted("stopped at step 3; checkpoint x")

    monkeypatch.setattr(Workspace, "call", stop)
    with pytest.raises(Interrupted):
        empty.execute(job_of(empty, "finetune"))
    found = state_of(empty, run_of(empty, RUN))
    assert (found.state, found.reason) == ("stopped", "stopped at step 3; checkpoint x")
    begun(empty, UNDER_WAY)
    found = state_of(empty, run_of(empty, RUN))
    assert (found.state, found.reason) == ("stopped", "its process was killed")


@pytest.mark.parametrize("record", [UNDER_WAY, {"state": "failed", "reason": "of before"}, []])
def test_who_holds_the_lock_is_at_work(empty: Workspace, record: object) -> None:
    with exclusive(begun(empty, record), RUN):
        (found,) = running(empty)
    assert found.run.id == RUN
    assert found.reason == ""
    assert running(empty) == []


def test_the_history_tells_how_long_runs_took(workspace: Workspace) -> None:
    with workspace.history.open("a") as handle:
        handle.write('{"half a line\n[1]\n{"fingerprint": "x", "seconds": "long"}\n')
    found = seconds_of_runs(workspace.history)
    assert set(found) == {run.fingerprint for run in workspace.plan.runs.values()}
    assert all(seconds >= 0 for seconds in found.values())
    assert seconds_of_runs(workspace.root / "nothing") == {}


@pytest.fixture
def shown(empty: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], str]:
    """What a run under way looks like in a terminal, or in a log."""
    monkeypatch.setattr(live, "LOOK", 0.01)
    monkeypatch.setattr(live, "LINE", 0.0)
    for name, value in (("COLUMNS", "120"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)

    def show(terminal: bool) -> str:
        stream, logger = io.StringIO(), logging.Logger("workflow")
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
        monkeypatch.setattr("sys.stderr", stream)
        handler = logging.StreamHandler(stream)
        logger.addHandler(handler)
        display = RunsShown(empty, logger)
        with exclusive(begun(empty, {**UNDER_WAY, "loss": 0.25}), RUN):
            display.start()
            while "3/9" not in stream.getvalue() and "3 of 9" not in stream.getvalue():
                assert display._thread is not None
                assert display._thread.is_alive()
            logger.info("from the workflow")
            display.stop()
        assert handler.stream is stream
        display.stop()
        return stream.getvalue()

    return show


@pytest.mark.parametrize("terminal", [True, False])
def test_runs_under_way_are_shown(shown: Callable[[bool], str], terminal: bool) -> None:
    said = shown(terminal)
    assert "from the workflow" in said
    if terminal:
        assert "samples/s" in said
        # The cursor is back at once, in case the process is killed.
        assert said.count("\x1b[?25h") >= 1
        assert said.index("\x1b[?25h") < said.index("3/9")
    else:
        assert f"voxseq: {RUN}: training, 3 of 9, loss 0.25, 61 s left\n" in said
        assert "\x1b" not in said
