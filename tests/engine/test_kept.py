"""What happens to results that the plan no longer names, and what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny_study import (
    GRID,
    Actions,
    do,
    do_all,
    files_of,
    install,
    job_marker,
    job_of,
    run_of,
    tiny_plan,
)
from voxseq.base.errors import ResourceError
from voxseq.base.locks import exclusive
from voxseq.engine import workspace as runs
from voxseq.engine.workspace import Workspace
from voxseq.plan import Job, Plan, Stage
from voxseq.plan.outputs import lasting, published


def changed(workspace: Workspace, **values: int) -> Workspace:
    """The same folder under other parameters: ids of runs → their numbers."""
    return Workspace(workspace.root, tiny_plan(values))


def test_a_parameter_changed_and_changed_back_restores_without_work(
    workspace: Workspace, tmp_path: Path, actions: Actions
) -> None:
    first = workspace
    before = files_of(tmp_path / "artifacts")
    tables = files_of(tmp_path / "results/tiny/tables")
    second = changed(first, **{"finetune/a/ours/s0": 5})
    do_all(second)
    assert actions.done == ["finetune/a/ours/s0", "tables/all"]
    assert not first.is_finished(run_of(first, "finetune/a/ours/s0"))
    assert first.is_finished(run_of(first, "finetune/a/ours/s1"))
    actions.done.clear()
    for one in (first, second, first):
        do_all(one)
        assert all(one.is_finished(run) for run in one.plan.runs.values())
    assert actions.done == []
    assert files_of(tmp_path / "artifacts") == before
    assert files_of(tmp_path / "results/tiny/tables") == tables


@pytest.mark.parametrize("damage", ["flipped byte", "missing file", "no marker"])
def test_damaged_attic_content_is_computed_again(
    workspace: Workspace, actions: Actions, damage: str
) -> None:
    first, second = workspace, changed(workspace, **{"download/a": 5})
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
    do(first, "download")
    (first.folder(run_of(first, "download/a")) / "part.txt").write_text("cut")
    second = Workspace(tmp_path, tiny_plan({"download/a": 5}))
    do(second, "download")
    assert not (tmp_path / ".voxseq/attic").exists()


def test_a_job_marker_replaces_that_of_the_job_before(tmp_path: Path, actions: Actions) -> None:
    for value in (1, 2):
        workspace = Workspace(tmp_path, tiny_plan({"download/a": value}))
        do(workspace, "download")
        found = sorted((tmp_path / "artifacts/tiny/download/jobs").iterdir())
        assert found == [tmp_path / workspace.plan.marker(job_of(workspace, "download"))]
    record = json.loads(found[0].read_text())
    assert record["runs"] == {"download/a": run_of(workspace, "download/a").fingerprint}


def test_prune_moves_what_the_plan_does_not_name_and_nothing_else(
    workspace: Workspace, tmp_path: Path, actions: Actions
) -> None:
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
    do_all(workspace)
    assert actions.done == []
    assert all(workspace.is_finished(run) for run in workspace.plan.runs.values())


def test_prune_of_one_stage(workspace: Workspace) -> None:
    """Stale markers and unfinished leftovers go; what is inside a run's folder stays."""
    base = workspace.root / "artifacts/tiny/finetune"
    stale, left = base / "jobs/a.gone-0123456789abcdef.json", base / "a/gone/s0"
    stale.write_text("{}")
    left.mkdir(parents=True)
    (left / "part.txt").write_text("half")
    inner = workspace.folder(run_of(workspace, "finetune/a/ours/s0")) / "raw"
    inner.mkdir()
    for name in ("run-1.json", "extra.tmp"):
        (inner / name).write_text("{}")
    assert workspace.prune(("finetune",)) == []
    assert not stale.exists()
    assert not left.parent.exists()
    assert len(list(inner.iterdir())) == 2
    assert job_marker(workspace, "finetune").exists()


def test_results_are_published_by_copy(tmp_path: Path, actions: Actions) -> None:
    workspace = Workspace(tmp_path, tiny_plan({"tables/all": 3}))
    do_all(workspace)
    target = tmp_path / "results/tiny"
    run = run_of(workspace, "tables/all")
    assert set(files_of(target)) == set(published(run))
    assert (target / "tables/table1.csv").read_text() == "3\n"
    assert (target / "cost/cost.csv").read_text() == "5"
    source = workspace.folder(run)
    for name in lasting("tables", run.config):
        assert (target / name).stat().st_ino != (source / name).stat().st_ino
        # As DVC leaves the files that it links to its cache.
        (source / name).chmod(0o444)
        (target / name).unlink()
    old = target / "tables/table9.csv"
    old.write_text("of an earlier version")
    do(workspace, "tables")
    assert (target / "tables/table1.csv").stat().st_mode & 0o200
    assert not old.exists()


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_publishing_never_writes_through_a_link(
    tmp_path: Path, actions: Actions, link: str
) -> None:
    """DVC may link a file of the workspace to its cache."""
    do_all(Workspace(tmp_path, tiny_plan({"tables/all": 1})))
    cache = tmp_path / "cache"
    cache.mkdir()
    names = ("metrics.json", "tables/table1.csv", "plots/finetuning.csv")
    for number, name in enumerate(names):
        path = tmp_path / "results/tiny" / name
        kept = cache / str(number)
        path.rename(kept)
        (path.hardlink_to if link == "hard" else path.symlink_to)(kept)
        kept.chmod(0o444)
    before = files_of(cache)
    do_all(Workspace(tmp_path, tiny_plan({"tables/all": 2})))
    assert files_of(cache) == before
    assert (tmp_path / "results/tiny/metrics.json").read_text() == "2\n"
    assert (tmp_path / "results/tiny/tables/table1.csv").read_text() == "2\n"
    assert not any((tmp_path / "results/tiny" / name).is_symlink() for name in names)


def test_results_linked_to_a_cache_are_cleared_without_touching_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = workspace.folder(run_of(workspace, "download/a")) / "part.txt"
    kept = tmp_path / "kept"
    path.rename(kept)
    path.hardlink_to(kept)
    do_all(changed(workspace, **{"download/a": 5}))
    assert kept.read_text() == "half"
    do_all(workspace)
    assert kept.read_text() == "half"
    assert path.stat().st_ino == kept.stat().st_ino


def regrouped(plan: Plan) -> Plan:
    """The same runs in jobs of one run each, as with another ``runs_per_job``."""
    jobs = {
        (run.stage, f"single.{name.replace('/', '.')}"): Job(
            run.stage, f"single.{name.replace('/', '.')}", run.action, (run,), (), run.fingerprint
        )
        for name, run in plan.runs.items()
    }
    return Plan(plan.scale, plan.results, plan.runs, jobs)


@pytest.mark.parametrize("regroup", [False, True])
def test_no_job_claims_runs_that_another_configuration_replaced(
    workspace: Workspace, actions: Actions, monkeypatch: pytest.MonkeyPatch, regroup: bool
) -> None:
    """A job of the changed configuration is killed between its runs; then the change is undone."""
    before = workspace
    plan = tiny_plan({"finetune/a/ours/s0": 9})
    after = Workspace(before.root, regrouped(plan) if regroup else plan)
    actions.fail = "finetune/a/ours/s1"
    monkeypatch.setattr(Workspace, "_mark", lambda *_: pytest.fail("not reached"))
    run = run_of(after, "finetune/a/ours/s0")
    job = next(job for job in after.plan.jobs.values() if run in job.runs)
    with pytest.raises(pytest.fail.Exception):
        after.execute(job)
    monkeypatch.undo()
    install(monkeypatch)
    marker = job_marker(before, "finetune")
    assert before.is_finished(run_of(before, "finetune/a/ours/s0")) or not marker.exists()
    do_all(before)
    assert all(before.is_finished(run) for run in before.plan.runs.values())


def test_finished_results_stay_until_others_take_their_place(
    workspace: Workspace, actions: Actions
) -> None:
    actions.fail = "finetune/a/ours/s0"
    with pytest.raises(ResourceError):
        do_all(changed(workspace, **{"finetune/a/ours/s0": 9}))
    assert workspace.is_finished(run_of(workspace, "finetune/a/ours/s0"))
    assert job_marker(workspace, "finetune").exists()


def test_prune_withdraws_claims_before_it_moves_what_they_are_about(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {name: inputs for name, inputs in GRID.items() if "/s" not in name and name[0] != "t"}
    small = Workspace(tmp_path, tiny_plan(grid=grid))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "move", killed)
    with pytest.raises(KeyboardInterrupt):
        small.prune(("finetune",))
    assert not job_marker(workspace, "finetune").exists()


def test_prune_takes_away_unfinished_work_and_keeps_finished(workspace: Workspace) -> None:
    run = run_of(workspace, "finetune/a/ours/s0")
    unfinished, running = (workspace.work(run).with_name(name) for name in ("x~s0", "y~s0"))
    for work in (unfinished, running):
        work.mkdir(parents=True)
        (work / "part.txt").write_text("half")
    workspace.folder(run).replace(workspace.work(run))
    with exclusive(workspace.lock(run).with_name("y~s0.lock"), "y"):
        workspace.prune(("finetune",))
    assert not unfinished.exists()
    assert running.exists()
    assert (workspace.attic(run.fingerprint) / workspace.marker(run).name).exists()


def test_results_complete_but_not_in_place_are_not_computed_again(
    empty: Workspace, actions: Actions, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(empty, "download")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runs, "move", killed)
        with pytest.raises(KeyboardInterrupt):
            empty.execute(job)
    assert not empty.is_finished(job.runs[0])
    empty.execute(job)
    assert empty.is_finished(job.runs[0])
    assert actions.done == ["download/a"]
    assert not empty.state(job.runs[0]).exists()


def test_every_computed_run_has_its_line_of_history(workspace: Workspace, tmp_path: Path) -> None:
    do_all(Workspace(tmp_path, tiny_plan({"tables/all": 1})))
    do_all(workspace)
    lines = [json.loads(line) for line in workspace.history.read_text().splitlines()]
    assert [line["run"] for line in lines] == [*GRID, "tables/all"]
    assert lines[0]["fingerprint"] == run_of(workspace, "download/a").fingerprint


def test_a_line_of_history_that_cannot_be_written_is_no_failure(
    empty: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    empty.history.mkdir(parents=True)
    do_all(empty)
    assert all(empty.is_finished(run) for run in empty.plan.runs.values())
    assert "history.jsonl lacks tables/all" in caplog.text


def test_one_run_takes_the_place_of_those_of_all_seeds_and_the_other_way_round(
    tmp_path: Path, actions: Actions
) -> None:
    grids = ({"download/a": ()}, {"download/a/s0": (), "download/a/s1": ()})
    shared, seeds = (Workspace(tmp_path, tiny_plan(grid=grid)) for grid in grids)
    for workspace in (shared, seeds, shared, seeds):
        do_all(workspace)
        workspace.recheck()
    assert actions.done == ["download/a", "download/a/s0", "download/a/s1"]
    assert all(seeds.is_finished(run) for run in seeds.plan.runs.values())
    assert files_of(tmp_path / "artifacts/tiny/download/a").keys() == {
        f"s{seed}/{name}"
        for seed, run in enumerate(seeds.plan.runs.values())
        for name in ("config.json", "part.txt", "tables/table1.csv", seeds.marker(run).name)
    }
