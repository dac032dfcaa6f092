"""Folders, markers and inputs of runs, with tiny actions in place of the real ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny_study import GRID, Actions, do, do_all, files_of, job_of, run_of, tiny_plan
from voxseq.base.errors import DataError, IntegrityError, ResourceError
from voxseq.config.place import DATA_VARIABLE, data_root
from voxseq.engine import journal
from voxseq.engine import workspace as runs
from voxseq.engine.workspace import Workspace


def test_everything_is_done_once_in_order(workspace: Workspace, actions: Actions) -> None:
    assert list(actions.seen) == list(GRID)
    assert actions.count == len(GRID)
    assert all(workspace.is_finished(run) for run in workspace.plan.runs.values())
    for job in workspace.plan.jobs.values():
        workspace.execute(job)
    assert actions.done == []


def test_a_run_gets_its_configuration_and_the_folders_of_its_inputs(
    tmp_path: Path, actions: Actions
) -> None:
    workspace = Workspace(tmp_path, tiny_plan({"finetune/a/ours/s1": 7}), tmp_path / "data")
    do_all(workspace)
    context = actions.seen["finetune/a/ours/s1"]
    assert context.config == {"value": 7}
    assert context.out == tmp_path / "artifacts/tiny/.work/finetune/a~ours~s1"
    assert context.inputs == {"preprocess/task/a": tmp_path / "artifacts/tiny/preprocess/task/a"}
    assert context.data_root == tmp_path / "data"


def test_the_marker_is_written_last_and_names_every_lasting_file(
    tmp_path: Path, actions: Actions, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        written.append(Path(target).name)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    workspace = Workspace(tmp_path, tiny_plan())
    do(workspace, "download")
    run, job = run_of(workspace, "download/a"), job_of(workspace, "download")
    marker = workspace.marker(run)
    assert written[-3:] == [marker.name, "a", Path(workspace.plan.marker(job)).name]
    folder = workspace.folder(run)
    newest = max(p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file())
    assert marker.stat().st_mtime_ns == newest
    record = json.loads(marker.read_text())
    assert set(record["files"]) == set(files_of(folder)) - {marker.name}
    assert set(record["files"]) == {"config.json", "part.txt", "tables/table1.csv"}
    assert record["files"]["part.txt"]["bytes"] == 4
    assert json.loads((folder / "config.json").read_text())["config"] == run.config
    assert "download/a took" in (workspace.record(run) / "log.txt").read_text()
    assert not workspace.state(run).exists()


def test_results_are_the_same_bytes_in_every_workspace(tmp_path: Path, actions: Actions) -> None:
    for name in ("one", "two"):
        workspace = Workspace(tmp_path / name, tiny_plan())
        do_all(workspace)
    one, two = (files_of(tmp_path / n / "artifacts") for n in ("one", "two"))
    assert len([n for n in one if "/run-" in n or "/jobs/" in n]) == len(GRID) + 4
    assert one == two


def test_a_failing_run_leaves_no_marker_and_keeps_its_state(
    empty: Workspace, tmp_path: Path, actions: Actions
) -> None:
    actions.fail = "finetune/a/ours/s1"
    with pytest.raises(ResourceError, match="the disk is full"):
        do_all(empty)
    failed, job = run_of(empty, actions.fail), job_of(empty, "finetune")
    assert not empty.is_finished(failed)
    assert not empty.marker(failed).exists()
    assert not (tmp_path / empty.plan.marker(job)).exists()
    assert (empty.state(failed) / "checkpoint.pt").read_text() == "4"
    assert "No space left" in (empty.state(failed) / "log.txt").read_text()
    assert empty.is_finished(run_of(empty, "finetune/a/ours/s0"))
    actions.fail = None
    do_all(empty)
    assert actions.done.count("finetune/a/ours/s0") == 1
    assert actions.done.count("finetune/a/ours/s1") == 2
    assert not empty.state(failed).exists()


def test_a_half_written_folder_is_never_accepted(empty: Workspace, actions: Actions) -> None:
    run = run_of(empty, "download/a")
    folder = empty.folder(run)
    folder.mkdir(parents=True)
    (folder / "part.txt").write_text("half")
    assert not empty.is_finished(run)
    do(empty, "download")
    assert actions.done == ["download/a"]


@pytest.mark.parametrize("damage", ["longer", "shorter", "missing", "a folder"])
def test_damage_of_an_input_is_noticed_before_work_starts(
    empty: Workspace, actions: Actions, damage: str
) -> None:
    do(empty, "download")
    path = empty.folder(run_of(empty, "download/a")) / "part.txt"
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        path.write_text("half and more" if damage == "longer" else "")
    assert not empty.is_finished(run_of(empty, "download/a"))
    with pytest.raises(IntegrityError) as caught:
        do(empty, "preprocess")
    assert str(path) in str(caught.value)
    assert "does the stage download once more" in caught.value.hint
    assert actions.done == ["download/a"]
    do(empty, "download")
    assert path.read_text() == "half"


def test_places_follow_from_names_and_fingerprints(empty: Workspace, tmp_path: Path) -> None:
    run = run_of(empty, "finetune/a/ours/s0")
    base = tmp_path / "artifacts/tiny/finetune"
    assert empty.folder(run) == base / "a/ours/s0"
    assert empty.marker(run) == base / f"a/ours/s0/run-{run.fingerprint}.json"
    assert empty.state(run).is_relative_to(tmp_path / ".voxseq")
    assert empty.state(run).name == run.fingerprint
    job = job_of(empty, "finetune")
    assert tmp_path / empty.plan.marker(job) == base / f"jobs/a.ours-{job.fingerprint}.json"


def test_the_data_folder_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    assert data_root(None) is None
    folder = tmp_path / "my data $(x)"
    with pytest.raises(DataError, match="does not exist"):
        data_root(str(folder))
    folder.mkdir()
    assert data_root(str(folder)) == folder
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert data_root(str(folder)) == tmp_path
    assert data_root(None) is None
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "no"))
    with pytest.raises(DataError, match=DATA_VARIABLE):
        data_root(str(folder))


def test_the_environment_is_recorded() -> None:
    found = journal.environment()
    assert {"python", "torch", "numpy", "monai", "machine"} <= set(found)
    assert found["torch"][0].isdigit()


def test_a_record_takes_the_place_of_what_a_killed_call_left(tmp_path: Path) -> None:
    state, record = tmp_path / "state", tmp_path / "record"
    state.mkdir()
    record.mkdir()
    (state / "log.txt").write_text("said")
    (record / ".environment.json.abcdefgh.tmp").write_text("half")
    journal.keep_record(state, record)
    assert {path.name for path in record.iterdir()} == {"environment.json", "log.txt"}


def test_every_action_is_a_function() -> None:
    for place in (*runs.ACTIONS.values(), runs.MAKE_COSTS):
        assert callable(runs._function(place))
