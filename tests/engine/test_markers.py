"""Markers that are damaged, and markers that cannot be read at the moment."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.failing import fail_open
from tests.helpers.tiny_study import Actions, do, files_of, job_marker, job_of, run_of, tiny_plan
from voxseq.base.checksums import read_checksums
from voxseq.base.errors import ResourceError
from voxseq.engine import markers
from voxseq.engine.session import tidy_up
from voxseq.engine.workspace import Workspace

CODES = (errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.EPERM, errno.EREMOTEIO)


def marker_of(workspace: Workspace, name: str) -> Path:
    return workspace.marker(run_of(workspace, name))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    "reader", ["is finished", "input", "job marker", "tidy up", "prune", "verify", "restore"]
)
def test_a_passing_error_removes_nothing(
    workspace: Workspace, actions: Actions, monkeypatch: pytest.MonkeyPatch, reader: str, code: int
) -> None:
    marker = marker_of(workspace, "download/a")
    other = Workspace(workspace.root, tiny_plan({"download/a": 5}))
    if reader == "restore":
        for job in other.plan.of_stage("download"):
            other.execute(job)
        marker = workspace.attic(run_of(workspace, "download/a").fingerprint) / marker.name
    claim = job_marker(workspace, "download")
    actions.done.clear()
    before = files_of(workspace.root)
    fail_open(monkeypatch, claim if reader == "job marker" else marker, code)

    def read() -> None:
        if reader in ("is finished", "restore"):
            do(workspace, "download")
        elif reader == "input":
            workspace._input("download/a", thorough=True)
        elif reader == "job marker":
            markers.withdraw(claim.parent, "another/run")
        elif reader == "tidy up":
            tidy_up(workspace)
        elif reader == "prune":
            other.prune()
        else:
            markers.verified(marker, None, read_checksums)

    if reader == "prune":
        grid = {"preprocess/task/a": ()}
        other = Workspace(workspace.root, tiny_plan(grid=grid))
    with pytest.raises(ResourceError) as caught:
        read()
    assert "cannot be read" in caught.value.what
    assert ".json" in caught.value.what
    assert "start again" in caught.value.hint
    after = files_of(workspace.root)
    lost = {n for n in before if n not in after} - {n for n in before if "/locks/" in n}
    assert not {n for n in lost if "run-" in n or reader != "prune"}
    assert actions.done == []
    read()
    assert actions.done == []


@pytest.mark.parametrize(
    "change",
    [
        {"files": {}},
        {"files": {"part.txt": {"bytes": 4, "sha256": "0"}}},
        {"files": None},
        {"files": [["config.json", 3]]},
        {"files": {"config.json": None}},
        {"fingerprint": "0" * 16},
        {"fingerprint": None},
        {"fingerprint": ["x"]},
        {"run": None},
        {"run": "another/run"},
        {"inputs": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("missing", [False, True])
def test_a_marker_must_be_of_its_own_run(
    workspace: Workspace, change: dict[str, Any], missing: bool
) -> None:
    run = run_of(workspace, "download/a")
    path = workspace.marker(run)
    record = {**json.loads(path.read_text()), **change}
    if missing:
        del record[next(iter(change))]
    path.write_text(json.dumps(record))
    assert not workspace.is_finished(run)


NESTED = ["[" * 100_000, '{"files":' * 100_000]


DAMAGED = ["", "{", "{}", "[]", "3", "null", "\xff", "\0", '{"files": 3}', '{"files": {"x": 3}}']


@pytest.mark.parametrize("text", [*NESTED, *DAMAGED, '{"files": {}}'])
def test_results_of_a_damaged_marker_are_kept_aside(
    workspace: Workspace, actions: Actions, text: str
) -> None:
    run, job = run_of(workspace, "download/a"), job_of(workspace, "download")
    path = workspace.marker(run)
    path.write_bytes(text.encode("latin-1"))
    assert "cannot be read" in str(markers.verified(path, None, read_checksums))
    (said,) = tidy_up(workspace)
    assert "to be done again" in said
    actions.done.clear()
    workspace.execute(job)
    assert actions.done == ["download/a"]
    assert workspace.is_finished(run)
    aside = workspace.attic(run.fingerprint)
    assert (aside / "part.txt").read_text() == "half"
    assert (aside / path.name).read_bytes() == text.encode("latin-1")


@pytest.mark.parametrize("text", NESTED)
def test_a_damaged_marker_of_a_job_says_nothing(workspace: Workspace, text: str) -> None:
    path = job_marker(workspace, "download")
    path.write_text(text)
    markers.withdraw(path.parent, "another/run")
    assert not path.exists()


@pytest.mark.parametrize("name", ["", "../x", "a\0b", "\ud800", "n" * 300, "/etc/passwd", "tables"])
def test_impossible_names_in_a_marker(workspace: Workspace, name: str) -> None:
    run = run_of(workspace, "download/a")
    path = workspace.marker(run)
    record = json.loads(path.read_text())
    record["files"][name] = {"bytes": True, "sha256": {}}
    path.write_text(json.dumps(record))
    assert not workspace.is_finished(run)
