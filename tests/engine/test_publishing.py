"""The results folder against what was published, with tiny actions in place of the real ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.tiny_study import Actions, do, do_all, files_of, run_of, tiny_plan
from voxseq.base.errors import IntegrityError
from voxseq.engine.publishing import require_declared, state_of_results
from voxseq.engine.session import tidy_up
from voxseq.engine.workspace import Workspace
from voxseq.plan.outputs import COSTS, published

RESULTS = "results/tiny"


def remove_all(results: Path) -> None:
    shutil.rmtree(results)


def remove_one(results: Path) -> None:
    (results / "metrics.json").unlink()


def remove_costs(results: Path) -> None:
    shutil.rmtree(results / "cost")


def edit(results: Path) -> None:
    (results / "tables/table1.md").write_text("<<<<<<< HEAD")


def edit_a_character(results: Path) -> None:
    path = results / "tables/table1.md"
    path.write_text(path.read_text().replace("0", "1"))


def put_a_broken_link(results: Path) -> None:
    (results / "tables/table1.md").unlink()
    (results / "tables/table1.md").symlink_to("nowhere")


def add(results: Path) -> None:
    (results / "tables/table4.md").write_text("of an ablation that is no longer in the study")


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (remove_all, "missing"),
        (remove_one, "missing"),
        (remove_costs, "missing"),
        (edit, "edited"),
        (edit_a_character, "edited"),
        (put_a_broken_link, "missing"),
        (add, "surplus"),
    ],
)
def test_what_differs_is_named_and_published_anew_without_work(
    workspace: Workspace, actions: Actions, spoil: Callable[[Path], None], word: str
) -> None:
    results = workspace.root / RESULTS
    before, done = files_of(results), list(actions.done)
    assert state_of_results(workspace) == []
    assert tidy_up(workspace) == []
    spoil(results)
    (said,) = state_of_results(workspace)
    assert said.startswith(f"tables: {word}: ")
    (said,) = tidy_up(workspace)
    assert said.startswith(f"published anew in {RESULTS}: {word}: ")
    assert files_of(results) == before
    assert actions.done == done
    assert tidy_up(workspace) == state_of_results(workspace) == []


def test_what_somebody_wrote_there_is_kept(workspace: Workspace) -> None:
    results, kept = workspace.root / RESULTS, workspace.root / ".voxseq/replaced/tiny"
    mine = {"tables/table1.md": b"my words", "plots/notes.txt": b"my notes"}
    for name, text in mine.items():
        (results / name).write_bytes(text)
    (results / "README.md").write_text("beside the folders that voxseq fills")
    (line,) = tidy_up(workspace, is_dry=True)
    assert line.startswith(f"to be published anew in {RESULTS}: ")
    assert (results / "plots/notes.txt").read_bytes() == b"my notes"
    (line,) = tidy_up(workspace)
    assert line.endswith("; earlier ones are in .voxseq/replaced/tiny")
    assert files_of(kept) == mine
    assert (results / "README.md").exists()
    assert not (results / "plots/notes.txt").exists()


def test_damaged_results_are_not_published(workspace: Workspace, actions: Actions) -> None:
    run = run_of(workspace, "tables/all")
    path = workspace.folder(run) / "tables/table1.md"
    path.write_text("x" * path.stat().st_size)
    (workspace.root / RESULTS / "tables/table1.md").unlink()
    said = tidy_up(workspace)
    assert said == ["to be done again, because results are not whole: tables/all"]
    before = len(actions.done)
    do_all(workspace)
    assert actions.done[before:] == ["tables/all"]
    assert tidy_up(workspace) == []


def test_a_stage_that_writes_more_than_it_declares_does_not_finish(
    workspace: Workspace, actions: Actions
) -> None:
    actions.surplus = "tables/table4.md"
    other = Workspace(workspace.root, tiny_plan({"tables/all": 5}))
    with pytest.raises(IntegrityError, match=r"table4\.md was written and is not declared"):
        do_all(other)
    assert not other.is_finished(run_of(other, "tables/all"))
    assert workspace.is_finished(run_of(workspace, "tables/all"))


def test_results_of_other_parameters_are_left_and_said(workspace: Workspace) -> None:
    before = files_of(workspace.root / RESULTS)
    other = Workspace(workspace.root, tiny_plan({"tables/all": 5}))
    (said,) = state_of_results(other)
    assert said.startswith("tables: not made with the present parameters; `snakemake ")
    (said,) = state_of_results(other, (Path("studies/mine.yaml"),))
    assert said.endswith("; `voxseq run mine tables` does it")
    assert tidy_up(other) == []
    assert files_of(other.root / RESULTS) == before


def test_a_finished_job_publishes_what_is_missing(workspace: Workspace, actions: Actions) -> None:
    before, done = files_of(workspace.root / RESULTS), list(actions.done)
    shutil.rmtree(workspace.root / RESULTS)
    do(workspace, "tables")
    assert files_of(workspace.root / RESULTS) == before
    assert actions.done == done


@pytest.mark.parametrize("change", ["missing", "surplus"])
def test_a_stage_that_breaks_its_word_is_named(
    workspace: Workspace, tmp_path: Path, change: str
) -> None:
    run = run_of(workspace, "tables/all")
    out = tmp_path / "out"
    for name in set(published(run)) - set(COSTS["tables"]):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("x")
    require_declared(run, out)
    if change == "missing":
        (out / "tables/table1.md").unlink()
    else:
        (out / "tables/table4.md").write_text("x")
    with pytest.raises(IntegrityError, match=r"table[14]\.md"):
        require_declared(run, out)
    require_declared(replace(run, stage="finetune"), out)
