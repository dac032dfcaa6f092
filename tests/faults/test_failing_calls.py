"""A call on a file of the workspace fails once, anywhere: nothing is lost, and it is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.helpers.failing import CODES, Fault, calls, disturb, published, spread
from tests.helpers.places import Place, Say

JOBS = (
    ("download", "amos22"),
    ("download", "deeplesion"),
    ("preprocess", "source.amos22"),
    ("preprocess", "task.task06_lung"),
    ("sequences", "all"),
    ("pretrain", "ours"),
    ("pretrain", "medcoss"),
    ("finetune", "ours.part0"),
    ("finetune", "unet3d.part0"),
    ("beyond", "finetune.probes.part0"),
    ("tables", "all"),
    ("figures", "all"),
)
#: Places in each job: 204 in all.
PLACES = 17
#: What says that something is finished, what a training resumes from, what is published.
DECISIVE = r"/run-[0-9a-f]+\.json|/jobs/|checkpoint\.pt|/results/"
#: What a job that goes on after a fault says of what there is.
KEPT = ("resuming at step", "earlier results restored", "is finished")


@pytest.fixture(autouse=True)
def _shim(prepared: Place) -> None:
    if prepared.zygote.shim is None:
        pytest.skip("no C compiler on Linux: calls of libraries cannot be made to fail")


@pytest.fixture
def workspace(complete: Place, tmp_path: Path) -> Iterator[Place]:
    yield complete.copy(tmp_path / "x")


def try_all(
    place: Place,
    whole: Place,
    stage: str,
    name: str,
    faults: Iterable[Fault],
    *,
    done: bool = False,
) -> tuple[int, list[str]]:
    """Let a job meet one fault after the other, each time from the beginning.

    With ``done`` it has nothing to do but to publish.

    Returns how many calls failed, and what was wrong after any of them.
    """
    tried, wrong = 0, []
    expected = whole.results(stage, name)
    for fault in faults:
        if not done:
            place.forget(stage, name)
        ended, found = disturb(place, fault, "job", stage, place.job(stage, name).name)
        if not ended.calls:
            break
        tried += 1
        kept = place.checkpoint(stage, name).exists()
        again = place.run(stage, name)
        if again.status or place.results(stage, name) != expected:
            found.append(f"then: {again.said}")
        elif kept and not any(words in again.output for words in KEPT):
            found.append("begun again")
        if published(place) != published(whole) or place.leftovers():
            found.append(f"left behind: {place.leftovers()}")
        if found:
            wrong.append(f"{fault} {ended.calls}: {found}\n{ended.said}")
    return tried, wrong


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "name"), JOBS)
def test_calls_spread_over_a_job(
    complete: Place, workspace: Place, scenario: Say, stage: str, name: str
) -> None:
    workspace.forget(stage, name)
    count = len(calls(workspace, "job", stage, workspace.job(stage, name).name))
    first = JOBS.index((stage, name))
    faults = (
        Fault(n, CODES[(first + i) % len(CODES)]) for i, n in enumerate(spread(count, PLACES))
    )
    tried, wrong = try_all(workspace, complete, stage, name, faults)
    assert wrong == []
    assert tried
    scenario(f"{stage} {name}: single calls on files failed", places=tried, calls=count)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "name"), [("sequences", "all"), ("pretrain", "ours"), ("finetune", "ours.part0")]
)
def test_every_call_on_a_marker_or_a_checkpoint(
    complete: Place, workspace: Place, scenario: Say, stage: str, name: str
) -> None:
    # Until there is no call with that number any more.
    faults = (Fault(n, CODES[n % len(CODES)], DECISIVE) for n in range(1, 10**6))
    tried, wrong = try_all(workspace, complete, stage, name, faults)
    assert wrong == []
    assert tried
    scenario(f"{stage} {name}: each call on a marker or a checkpoint failed", places=tried)


@pytest.mark.slow
def test_every_call_on_remembered_checksums(
    complete: Place, workspace: Place, scenario: Say
) -> None:
    """Where they cannot be written the work goes on."""
    faults = (Fault(n, CODES[n % len(CODES)], "/verified/") for n in range(1, 10**6))
    tried, wrong = try_all(workspace, complete, "sequences", "all", faults)
    assert wrong == []
    assert tried
    scenario("sequences all: each call on remembered checksums failed", places=tried)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["tables", "figures"])
def test_every_call_on_a_published_file(
    complete: Place, workspace: Place, scenario: Say, stage: str
) -> None:
    faults = (Fault(n, CODES[n % len(CODES)], "/results/") for n in range(1, 10**6))
    tried, wrong = try_all(workspace, complete, stage, "all", faults, done=True)
    assert wrong == []
    assert tried
    scenario(f"{stage} all: each call on a published file failed", places=tried)


@pytest.mark.slow
@pytest.mark.parametrize(
    "argv", [("plan",), ("prune",), ("verify",), ("where",), ("tables",)], ids=str
)
def test_commands_that_look_at_finished_results(
    complete: Place, workspace: Place, scenario: Say, argv: tuple[str, ...]
) -> None:
    before, wrong, tried = complete.results("tables", "all"), [], 0
    for i, n in enumerate(spread(len(calls(workspace, *argv)), 25)):
        ended, found = disturb(workspace, Fault(n, CODES[i % len(CODES)]), *argv)
        tried += len(ended.calls)
        wrong += [f"{n} {ended.calls}: {found}\n{ended.said}"] if found else []
    assert wrong == []
    assert workspace.results("tables", "all") == before
    scenario(f"voxseq {argv[0]}: single calls on files failed", places=tried)


@pytest.mark.slow
def test_some_calls_of_one_training(prepared: Place, tmp_path: Path, scenario: Say) -> None:
    """The short form: every kind of file of one training, and each error."""
    whole = prepared.copy(tmp_path / "whole")
    whole.do("pretrain", "ours")
    place = whole.copy(tmp_path / "x")
    place.forget("pretrain", "ours")
    count = len(calls(place, "job", "pretrain", "ours.s0", pattern=DECISIVE))
    faults = [Fault(n, CODES[i % len(CODES)], DECISIVE) for i, n in enumerate(spread(count, 12))]
    place.forget("pretrain", "ours")
    rest = len(calls(place, "job", "pretrain", "ours.s0"))
    faults += [Fault(n, CODES[i % len(CODES)]) for i, n in enumerate(spread(rest, 6))]
    tried, wrong = try_all(place, whole, "pretrain", "ours", faults)
    assert wrong == []
    assert tried > len(CODES)
    scenario("pretrain ours: single calls on files failed, the short form", places=tried)
