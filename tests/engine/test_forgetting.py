"""Runs are done again when they are forgotten, and nothing is lost by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.tiny_study import Actions, do_all, files_of, tiny_plan
from voxseq.base.errors import VoxseqError
from voxseq.base.locks import exclusive
from voxseq.engine.forgetting import chosen, forget, with_followers
from voxseq.engine.session import begin, tidy_up
from voxseq.engine.workspace import Workspace

PLAN = tiny_plan()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["download/a"], ["download/a"]),
        (["finetune"], ["finetune/a/ours/s0", "finetune/a/ours/s1"]),
        (["finetune/a/"], ["finetune/a/ours/s0", "finetune/a/ours/s1"]),
        (["finetune/*/s1", "tables/all"], ["finetune/a/ours/s1", "tables/all"]),
        (["tables/all", "tables"], ["tables/all"]),
        (["*"], list(PLAN.runs)),
    ],
)
def test_words_name_runs(words: list[str], names: list[str]) -> None:
    assert [run.id for run in chosen(PLAN, words)] == names


@pytest.mark.parametrize("word", ["pretrain", "finetune/a/our", "tables/al", "Download/a", "", "/"])
def test_a_word_that_names_nothing_is_refused(word: str) -> None:
    with pytest.raises(VoxseqError, match="voxseq plan") as caught:
        chosen(PLAN, ["download/a", word])
    assert repr(word) in caught.value.what


def test_what_follows_is_done_again_too(workspace: Workspace, actions: Actions) -> None:
    runs = with_followers(PLAN, chosen(PLAN, ["preprocess"]))
    assert [run.id for run in runs] == list(PLAN.runs)[1:]
    forget(workspace, runs)
    do_all(workspace)
    assert actions.done == list(PLAN.runs)[1:]
    assert tidy_up(workspace) == []


def test_of_a_job_only_the_forgotten_run_is_done_again(
    workspace: Workspace, actions: Actions
) -> None:
    forget(workspace, chosen(PLAN, ["finetune/a/ours/s1"]))
    (job,) = PLAN.of_stage("finetune")
    assert not (workspace.root / PLAN.marker(job)).exists()
    do_all(workspace)
    assert actions.done == ["finetune/a/ours/s1"]


def test_nothing_is_lost_and_nothing_comes_back_by_itself(
    workspace: Workspace, actions: Actions
) -> None:
    (run,) = chosen(PLAN, ["download/a"])
    before = files_of(workspace.folder(run))
    places = [forget(workspace, [run])]
    do_all(workspace)
    places.append(forget(workspace, [run]))
    do_all(workspace)
    assert actions.done == ["download/a"] * 2
    assert places[0] is not None
    assert places[0] != places[1]
    assert files_of(places[0] / "download/a/results") == before


def test_results_in_the_attic_and_checkpoints_are_forgotten(
    workspace: Workspace, actions: Actions
) -> None:
    other = Workspace(workspace.root, tiny_plan({"tables/all": 7}))
    do_all(other)
    assert actions.done == ["tables/all"]
    (run,) = chosen(PLAN, ["tables/all"])
    state = workspace.state(run) / "checkpoint.pt"
    state.parent.mkdir(parents=True)
    state.write_text("half")
    forget(workspace, [run])
    assert not state.exists()
    # The results in place are those of another configuration.
    assert other.is_finished(other.plan.runs["tables/all"])
    do_all(workspace)
    assert actions.done == ["tables/all"] * 2


def test_results_that_wait_to_be_put_in_place_are_forgotten(
    workspace: Workspace, actions: Actions
) -> None:
    """As a kill at the wrong moment leaves them."""
    (run,) = chosen(PLAN, ["tables/all"])
    workspace.work(run).parent.mkdir(parents=True, exist_ok=True)
    workspace.folder(run).rename(workspace.work(run))
    forget(workspace, [run])
    do_all(workspace)
    assert actions.done == ["tables/all"]


def test_there_may_be_nothing_to_forget(tmp_path: Path) -> None:
    assert forget(Workspace(tmp_path, PLAN), chosen(PLAN, ["*"])) is None


@pytest.mark.parametrize("held", ["download/a", "preprocess/task/a"])
def test_what_a_job_makes_or_reads_is_left_alone(workspace: Workspace, held: str) -> None:
    with (
        exclusive(workspace.lock(PLAN.runs[held]), held),
        pytest.raises(VoxseqError, match=f"nothing was forgotten.*works on {held}"),
    ):
        forget(workspace, chosen(PLAN, ["download", "tables"]))
    assert all(workspace.is_finished(run) for run in PLAN.runs.values())
    with exclusive(workspace.lock(PLAN.runs["tables/all"]), "tables/all"):
        forget(workspace, chosen(PLAN, ["preprocess"]))


def test_nothing_is_forgotten_beside_a_workflow(workspace: Workspace) -> None:
    with begin(workspace), pytest.raises(VoxseqError, match="another workflow is at work"):
        forget(workspace, chosen(PLAN, ["*"]))
    assert all(workspace.is_finished(run) for run in PLAN.runs.values())
