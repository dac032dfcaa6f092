"""Folders, markers, the attic and publication, with tiny actions in place of the real ones."""

from __future__ import annotations

import json
import logging
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from voxseq import runs
from voxseq.errors import DataError, IntegrityError
from voxseq.fingerprint import digest
from voxseq.plan import Job, Plan, Run, Stage
from voxseq.runs import RunContext, Workspace, data_root

#: Runs of the tiny study: id → ids of its inputs. A stage's first word is its action as well.
GRID: dict[str, tuple[str, ...]] = {
    "download/a": (),
    "preprocess/task/a": ("download/a",),
    "finetune/a/ours/s0": ("preprocess/task/a",),
    "finetune/a/ours/s1": ("preprocess/task/a",),
    "tables/all": ("finetune/a/ours/s0", "finetune/a/ours/s1"),
}


def tiny_plan(
    values: Mapping[str, int] | None = None, grid: Mapping[str, tuple[str, ...]] = GRID
) -> Plan:
    """A plan whose runs have one number as configuration."""
    made: dict[str, Run] = {}
    groups: dict[tuple[Stage, str], list[Run]] = {}
    for name, inputs in grid.items():
        stage: Stage = name.split("/")[0]  # type: ignore[assignment]
        config = {"value": (values or {}).get(name, 0)}
        word = digest([name, config, [made[i].fingerprint for i in inputs]])
        key = name.split("/", 1)[1]
        job = key.rsplit("/", 1)[0] if stage == "finetune" else key
        made[name] = Run(name, stage, stage, config, inputs, word, job.replace("/", "."))
        groups.setdefault((stage, made[name].job), []).append(made[name])
    jobs = {
        (stage, name): Job(
            stage, name, stage, tuple(rs), (), digest([run.fingerprint for run in rs])
        )
        for (stage, name), rs in groups.items()
    }
    return Plan("tiny", "results/tiny", made, jobs)


class Actions:
    """What stands for the stage functions; remembers what was computed."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fail: str | None = None
        self.seen: dict[str, RunContext] = {}

    def execute(self, context: RunContext) -> None:
        self.done.append(context.run_id)
        self.seen[context.run_id] = context
        assert list(context.out.iterdir()) == []
        assert not list(context.out.glob("run-*.json"))
        (context.out / "part.txt").write_text("half")
        (context.state / "checkpoint.pt").write_text(f"{len(self.done)}")
        if context.run_id == self.fail:
            raise OSError(28, "No space left on device")
        inner = context.out / "tables"
        inner.mkdir()
        (inner / "table1.csv").write_text(f"{context.config['value']}\n")
        (context.out / "metrics.json").write_text(f"{context.config['value']}")
        (context.out / "plots").mkdir()
        (context.out / "plots/p.csv").write_text("x")
        (context.out / "cost.json").write_text(f"{len(self.done)}")


@pytest.fixture
def actions(monkeypatch: pytest.MonkeyPatch) -> Actions:
    made = Actions()
    module = types.ModuleType("tiny_actions")
    module.execute = made.execute  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tiny_actions", module)
    monkeypatch.setattr(runs, "ACTIONS", dict.fromkeys(runs.ACTIONS, "tiny_actions:execute"))
    monkeypatch.setattr(runs, "environment", lambda: {"python": "x"})
    monkeypatch.setattr(logging.getLogger("voxseq"), "level", logging.INFO)
    return made


def do_all(workspace: Workspace) -> None:
    for job in workspace.plan.jobs.values():
        if not (workspace.root / workspace.plan.marker(job)).exists():
            workspace.execute(job)


def run_of(workspace: Workspace, name: str) -> Run:
    return workspace.plan.runs[name]


def job_of(workspace: Workspace, stage: Stage) -> Job:
    return workspace.plan.of_stage(stage)[0]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_everything_is_done_once_in_order(tmp_path: Path, actions: Actions) -> None:
    workspace = Workspace(tmp_path, tiny_plan())
    do_all(workspace)
    assert actions.done == list(GRID)
    assert all(workspace.is_finished(run) for run in workspace.plan.runs.values())
    do_all(workspace)
    for job in workspace.plan.jobs.values():
        workspace.execute(job)
    assert actions.done == list(GRID)


def test_a_run_gets_its_configuration_and_the_folders_of_its_inputs(
    tmp_path: Path, actions: Actions
) -> None:
    workspace = Workspace(tmp_path, tiny_plan({"finetune/a/ours/s1": 7}), tmp_path / "data")
    do_all(workspace)
    context = actions.seen["finetune/a/ours/s1"]
    assert context.config == {"value": 7}
    assert context.out == tmp_path / "artifacts/tiny/finetune/a/ours/s1"
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
    workspace.execute(job_of(workspace, "download"))
    run, job = run_of(workspace, "download/a"), job_of(workspace, "download")
    marker = workspace.marker(run)
    assert written[-2:] == [marker.name, Path(workspace.plan.marker(job)).name]
    folder = workspace.folder(run)
    newest = max(p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file())
    assert marker.stat().st_mtime_ns == newest
    record = json.loads(marker.read_text())
    lasting = {n for n in files_of(folder) if Path(n).name not in runs.VOLATILE} - {marker.name}
    assert set(record["files"]) == lasting
    assert "config.json" in lasting
    assert "cost.json" not in lasting
    assert record["files"]["part.txt"]["bytes"] == 4
    assert json.loads((folder / "config.json").read_text())["config"] == run.config
    assert (folder / "log.txt").read_text()
    assert not workspace.state(run).exists()


def test_markers_are_the_same_bytes_in_every_workspace(tmp_path: Path, actions: Actions) -> None:
    for name in ("one", "two"):
        workspace = Workspace(tmp_path / name, tiny_plan())
        do_all(workspace)
    one, two = (files_of(tmp_path / n / "artifacts") for n in ("one", "two"))
    names = {n for n in one if "/run-" in n or "/jobs/" in n}
    assert len(names) == len(GRID) + 4
    assert {n: one[n] for n in names} == {n: two[n] for n in names}


def test_a_failing_run_leaves_no_marker_and_keeps_its_state(
    tmp_path: Path, actions: Actions
) -> None:
    workspace = Workspace(tmp_path, tiny_plan())
    actions.fail = "finetune/a/ours/s1"
    with pytest.raises(OSError, match="No space"):
        do_all(workspace)
    failed, job = run_of(workspace, actions.fail), job_of(workspace, "finetune")
    assert not workspace.is_finished(failed)
    assert not workspace.marker(failed).exists()
    assert not (tmp_path / workspace.plan.marker(job)).exists()
    assert (workspace.state(failed) / "checkpoint.pt").read_text() == "4"
    assert "No space left" in (workspace.state(failed) / "log.txt").read_text()
    assert workspace.is_finished(run_of(workspace, "finetune/a/ours/s0"))
    actions.fail = None
    do_all(workspace)
    assert actions.done.count("finetune/a/ours/s0") == 1
    assert actions.done.count("finetune/a/ours/s1") == 2
    assert not workspace.state(failed).exists()


def test_a_half_written_folder_is_never_accepted(tmp_path: Path, actions: Actions) -> None:
    workspace = Workspace(tmp_path, tiny_plan())
    run = run_of(workspace, "download/a")
    folder = workspace.folder(run)
    folder.mkdir(parents=True)
    (folder / "part.txt").write_text("half")
    assert not workspace.is_finished(run)
    workspace.execute(job_of(workspace, "download"))
    assert actions.done == ["download/a"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '{"files": 3}', '{"files": {"x": 3}}', "{}", "\x00"]
)
def test_a_damaged_marker_is_no_marker(tmp_path: Path, actions: Actions, text: str) -> None:
    workspace = Workspace(tmp_path, tiny_plan())
    run = run_of(workspace, "download/a")
    workspace.execute(job_of(workspace, "download"))
    workspace.marker(run).write_text(text)
    assert not workspace.is_finished(run)
    workspace.execute(job_of(workspace, "download"))
    assert workspace.is_finished(run)
    assert actions.done == ["download/a"] * 2


@pytest.mark.parametrize("damage", ["longer", "shorter", "missing", "a folder"])
def test_damage_of_an_input_is_noticed_before_work_starts(
    tmp_path: Path, actions: Actions, damage: str
) -> None:
    workspace = Workspace(tmp_path, tiny_plan())
    workspace.execute(job_of(workspace, "download"))
    path = workspace.folder(run_of(workspace, "download/a")) / "part.txt"
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        path.write_text("half and more" if damage == "longer" else "")
    assert not workspace.is_finished(run_of(workspace, "download/a"))
    with pytest.raises(IntegrityError) as caught:
        workspace.execute(job_of(workspace, "preprocess"))
    assert str(path) in str(caught.value)
    assert "snakemake --cores all download" in caught.value.hint
    assert actions.done == ["download/a"]
    workspace.execute(job_of(workspace, "download"))
    assert path.read_text() == "half"


def test_a_parameter_changed_and_changed_back_restores_without_work(
    tmp_path: Path, actions: Actions
) -> None:
    first = Workspace(tmp_path, tiny_plan())
    do_all(first)
    before = files_of(tmp_path / "artifacts")
    published = files_of(tmp_path / "results")
    second = Workspace(tmp_path, tiny_plan({"finetune/a/ours/s0": 5}))
    do_all(second)
    again = actions.done[len(GRID) :]
    assert again == ["finetune/a/ours/s0", "tables/all"]
    assert not first.is_finished(run_of(first, "finetune/a/ours/s0"))
    assert first.is_finished(run_of(first, "finetune/a/ours/s1"))
    actions.done.clear()
    for workspace in (first, second, first):
        do_all(workspace)
        assert all(workspace.is_finished(run) for run in workspace.plan.runs.values())
    assert actions.done == []
    assert files_of(tmp_path / "artifacts") == before
    assert files_of(tmp_path / "results") == published


@pytest.mark.parametrize("damage", ["flipped byte", "missing file", "no marker"])
def test_damaged_attic_content_is_computed_again(
    tmp_path: Path, actions: Actions, damage: str
) -> None:
    first = Workspace(tmp_path, tiny_plan())
    second = Workspace(tmp_path, tiny_plan({"download/a": 5}))
    do_all(first)
    do_all(second)
    run = run_of(first, "download/a")
    kept = first.attic(run.fingerprint)
    if damage == "flipped byte":
        (kept / "part.txt").write_text("hal_")  # of the same length
    elif damage == "missing file":
        (kept / "tables/table1.csv").unlink()
    else:
        next(kept.glob("run-*.json")).unlink()
    actions.done.clear()
    do_all(first)
    assert actions.done == ["download/a"]
    assert (first.folder(run) / "part.txt").read_text() == "half"
    do_all(second)
    do_all(first)
    assert actions.done == ["download/a"]


def test_unfinished_results_do_not_go_to_the_attic(tmp_path: Path, actions: Actions) -> None:
    first = Workspace(tmp_path, tiny_plan())
    first.execute(job_of(first, "download"))
    (first.folder(run_of(first, "download/a")) / "part.txt").write_text("cut")
    second = Workspace(tmp_path, tiny_plan({"download/a": 5}))
    second.execute(job_of(second, "download"))
    assert not (tmp_path / ".voxseq/attic").exists()


def test_a_job_marker_replaces_that_of_the_job_before(tmp_path: Path, actions: Actions) -> None:
    for value in (1, 2):
        workspace = Workspace(tmp_path, tiny_plan({"download/a": value}))
        workspace.execute(job_of(workspace, "download"))
        found = sorted((tmp_path / "artifacts/tiny/download/jobs").iterdir())
        assert found == [tmp_path / workspace.plan.marker(job_of(workspace, "download"))]
    record = json.loads(found[0].read_text())
    assert record["runs"] == {"download/a": run_of(workspace, "download/a").fingerprint}


def test_prune_moves_what_the_plan_does_not_name_and_nothing_else(
    tmp_path: Path, actions: Actions
) -> None:
    large = Workspace(tmp_path, tiny_plan())
    do_all(large)
    grid = {n: tuple(i for i in ins if "s1" not in i) for n, ins in GRID.items() if "s1" not in n}
    small = Workspace(tmp_path, tiny_plan(grid=grid))
    do_all(small)
    before = files_of(tmp_path / "artifacts")
    stages: tuple[Stage, ...] = ("download", "preprocess", "pretrain", "finetune", "tables")
    assert small.prune(stages) == ["a/ours/s1"]
    after = files_of(tmp_path / "artifacts")
    assert {n: before[n] for n in after} == after
    gone = {n.split("/ours/")[-1].split("/")[0] for n in set(before) - set(after)}
    assert gone == {"s1"}
    assert (tmp_path / "artifacts/tiny/pretrain").is_dir()
    assert not (tmp_path / "artifacts/tiny/finetune/a/ours/s1").exists()
    assert small.prune(stages) == []
    actions.done.clear()
    do_all(large)
    assert actions.done == []
    assert all(large.is_finished(run) for run in large.plan.runs.values())


def test_prune_removes_stale_job_markers(tmp_path: Path, actions: Actions) -> None:
    workspace = Workspace(tmp_path, tiny_plan())
    do_all(workspace)
    stale = tmp_path / "artifacts/tiny/finetune/jobs/a.gone-0123456789abcdef.json"
    stale.write_text("{}")
    workspace.prune(("finetune",))
    assert not stale.exists()
    assert (tmp_path / workspace.plan.marker(job_of(workspace, "finetune"))).exists()


def test_prune_removes_unfinished_leftovers_of_what_is_not_named(
    tmp_path: Path, actions: Actions
) -> None:
    workspace = Workspace(tmp_path, tiny_plan())
    do_all(workspace)
    left = tmp_path / "artifacts/tiny/finetune/a/gone/s0"
    left.mkdir(parents=True)
    (left / "part.txt").write_text("half")
    running = workspace.folder(run_of(workspace, "finetune/a/ours/s0")) / "extra.tmp"
    running.write_text("x")
    workspace.prune(("finetune",))
    assert not left.parent.exists()
    assert running.exists()


def test_prune_leaves_files_inside_wanted_runs_alone(tmp_path: Path, actions: Actions) -> None:
    workspace = Workspace(tmp_path, tiny_plan())
    do_all(workspace)
    inner = workspace.folder(run_of(workspace, "download/a")) / "raw"
    inner.mkdir()
    (inner / "run-1.json").write_text("{}")
    assert workspace.prune(("download",)) == []
    assert (inner / "run-1.json").exists()


def test_results_are_published_by_copy(tmp_path: Path, actions: Actions) -> None:
    workspace = Workspace(tmp_path, tiny_plan({"tables/all": 3}))
    do_all(workspace)
    target = tmp_path / "results/tiny"
    assert files_of(target) == {
        "tables/table1.csv": b"3\n",
        "plots/p.csv": b"x",
        "metrics.json": b"3",
    }
    source = workspace.folder(run_of(workspace, "tables/all"))
    for name in files_of(target):
        assert (target / name).stat().st_ino != (source / name).stat().st_ino


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_publishing_never_writes_through_a_link(
    tmp_path: Path, actions: Actions, link: str
) -> None:
    """DVC may link a file of the workspace to its cache."""
    do_all(Workspace(tmp_path, tiny_plan({"tables/all": 1})))
    cache = tmp_path / "cache"
    cache.mkdir()
    names = ("metrics.json", "tables/table1.csv", "plots/p.csv")
    for number, name in enumerate(names):
        path = tmp_path / "results/tiny" / name
        kept = cache / str(number)
        path.rename(kept)
        (path.hardlink_to if link == "hard" else path.symlink_to)(kept)
        kept.chmod(0o444)
    before = files_of(cache)
    do_all(Workspace(tmp_path, tiny_plan({"tables/all": 2})))
    assert files_of(cache) == before
    assert (tmp_path / "results/tiny/metrics.json").read_text() == "2"
    assert (tmp_path / "results/tiny/tables/table1.csv").read_text() == "2\n"
    assert not any((tmp_path / "results/tiny" / name).is_symlink() for name in names)


def test_a_stale_table_does_not_stay_published(tmp_path: Path, actions: Actions) -> None:
    do_all(Workspace(tmp_path, tiny_plan()))
    old = tmp_path / "results/tiny/tables/table9.csv"
    old.write_text("of an earlier version")
    do_all(Workspace(tmp_path, tiny_plan({"tables/all": 2})))
    assert not old.exists()


def test_results_linked_to_a_cache_are_cleared_without_touching_it(
    tmp_path: Path, actions: Actions
) -> None:
    first = Workspace(tmp_path, tiny_plan())
    do_all(first)
    path = first.folder(run_of(first, "download/a")) / "part.txt"
    kept = tmp_path / "kept"
    path.rename(kept)
    path.hardlink_to(kept)
    do_all(Workspace(tmp_path, tiny_plan({"download/a": 5})))
    assert kept.read_text() == "half"
    do_all(first)
    assert kept.read_text() == "half"
    assert path.stat().st_ino == kept.stat().st_ino


def test_places_follow_from_names_and_fingerprints(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, tiny_plan())
    run = run_of(workspace, "finetune/a/ours/s0")
    base = tmp_path / "artifacts/tiny/finetune"
    assert workspace.folder(run) == base / "a/ours/s0"
    assert workspace.marker(run) == base / f"a/ours/s0/run-{run.fingerprint}.json"
    assert workspace.state(run).is_relative_to(tmp_path / ".voxseq")
    assert workspace.state(run).name == run.fingerprint
    job = job_of(workspace, "finetune")
    assert tmp_path / workspace.plan.marker(job) == base / f"jobs/a.ours-{job.fingerprint}.json"


def test_the_data_folder_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(runs.DATA_VARIABLE, raising=False)
    assert data_root(None) is None
    folder = tmp_path / "my data $(x)"
    with pytest.raises(DataError, match="does not exist"):
        data_root(str(folder))
    folder.mkdir()
    assert data_root(str(folder)) == folder
    monkeypatch.setenv(runs.DATA_VARIABLE, str(tmp_path))
    assert data_root(str(folder)) == tmp_path
    assert data_root(None) is None
    monkeypatch.setenv(runs.DATA_VARIABLE, str(tmp_path / "no"))
    with pytest.raises(DataError, match=runs.DATA_VARIABLE):
        data_root(str(folder))


def test_the_environment_is_recorded() -> None:
    found = runs.environment()
    assert {"python", "torch", "numpy", "monai", "machine"} <= set(found)
    assert found["torch"][0].isdigit()


def test_every_action_is_a_function() -> None:
    for action in runs.ACTIONS:
        assert callable(runs._function(action))
