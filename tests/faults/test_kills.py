"""Trainings in real processes that are killed, stopped and started again: the same bits."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.places import METHODS, OTHERS, Place, Say

JOBS = (*(("pretrain", name) for name in METHODS), *OTHERS)
Cut = Callable[[str, str], Place]


@pytest.fixture
def cut(straight: Place, tmp_path: Path) -> Cut:
    """A copy of the finished workspace in which one job is still to be done."""

    def make(stage: str, name: str) -> Place:
        place = straight.copy(tmp_path / "x")
        place.forget(stage, name)
        return place

    return make


def finished_as(place: Place, straight: Place, stage: str, name: str) -> None:
    """The job's files are those of the undisturbed run, and nothing else is left."""
    assert place.results(stage, name) == straight.results(stage, name)
    assert not place.checkpoint(stage, name).exists()
    assert place.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", ["KILL", "TERM", "USR1"])
@pytest.mark.parametrize(("stage", "name"), JOBS[:-1])
def test_a_training_that_is_killed_or_stopped_ends_with_the_same_files(
    straight: Place, cut: Cut, scenario: Say, stage: str, name: str, how: str, workers: int
) -> None:
    place, number = cut(stage, name), getattr(signal, f"SIG{how}")
    times, slowest = 0, 0.0
    # Smoke recipes have four steps of fine-tuning, the study eight of pre-training.
    for step in (1, 3, 6) if stage == "pretrain" else (1, 3):
        ended = place.run(stage, name, workers=workers, place="step", step=step, signal=number)
        ended.stopped(number)
        if how != "KILL":
            assert f"stopped at step {step + 1}; checkpoint" in ended.output
            assert place.checkpoint(stage, name).exists()
            slowest = max(slowest, ended.stopping or 0.0)
        times += 1
    place.do(stage, name, workers=workers)
    finished_as(place, straight, stage, name)
    scenario(f"{stage} {name}: SIG{how} {times} times, {workers} workers", slowest=slowest)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["update", "save"])
@pytest.mark.parametrize("name", ["ours", "medcoss"])
def test_killed_inside_a_step_or_inside_a_checkpoint(
    straight: Place, cut: Cut, scenario: Say, name: str, where: str
) -> None:
    place = cut("pretrain", name)
    for step in (0, 1, 0):
        ended = place.run("pretrain", name, place=where, step=step, signal=signal.SIGKILL)
        ended.stopped(signal.SIGKILL)
    if where == "save":
        assert place.leftovers()
    place.do("pretrain", name)
    finished_as(place, straight, "pretrain", name)
    scenario(f"pretrain {name}: SIGKILL in the middle of {where}, 3 times")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["TERM", "KILL"])
@pytest.mark.parametrize(
    ("stage", "name", "where", "step"),
    [
        ("pretrain", "ours", "validation", 0),
        ("pretrain", "pcrlv2", "validation", 1),
        ("pretrain", "dino", "validation", 2),
        ("finetune", "ours.part0", "validation", 0),
        ("finetune", "resnet.part0", "validation", 1),
        ("pretrain", "ours", "batch", 4),
        ("pretrain", "medcoss", "batch", 4),
        ("pretrain", "medcoss", "stage", 4),
        ("finetune", "ours.part0", "batch", 1),
        ("finetune", "ours.part0", "scoring", 0),
        ("finetune", "unet3d.part0", "scoring", 0),
        ("beyond", "finetune.probes.part0", "probe", 0),
    ],
    ids=str,
)
def test_stopped_where_no_step_is_under_way(
    straight: Place, cut: Cut, scenario: Say, stage: str, name: str, where: str, step: int, how: str
) -> None:
    place, number = cut(stage, name), getattr(signal, f"SIG{how}")
    for workers in (0, 2):
        ended = place.run(stage, name, workers=workers, place=where, step=step, signal=number)
        ended.stopped(number)
        if where == "validation":
            # Asked to stop, it goes on behind the step that the validation followed.
            assert place.checkpoint(stage, name).exists() or how == "KILL"
            break
    place.do(stage, name)
    finished_as(place, straight, stage, name)
    scenario(f"{stage} {name}: SIG{how} during {where}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "name", "workers"),
    [("pretrain", "medcoss", 2), ("pretrain", "ours", 0), ("finetune", "ours.part0", 2)],
)
def test_killed_at_random_moments_many_times(
    straight: Place, cut: Cut, scenario: Say, stage: str, name: str, workers: int
) -> None:
    place, chance = cut(stage, name), random.Random(5)
    length = place.do(stage, name, workers=workers).seconds
    place.forget(stage, name)
    killed = 0
    for _ in range(12):
        after, group = chance.uniform(0.05, 0.9) * length, chance.random() < 0.5
        request = {"signal": signal.SIGKILL, "after": after, "group": group}
        ended = place.run(stage, name, workers=workers, **request)
        if ended.status == 0:
            # What earlier processes did was enough.
            finished_as(place, straight, stage, name)
            place.forget(stage, name)
            continue
        ended.stopped(signal.SIGKILL)
        killed += 1
    assert killed
    place.do(stage, name, workers=workers)
    finished_as(place, straight, stage, name)
    scenario(f"{stage} {name}: SIGKILL at random moments, {workers} workers", kills=killed)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["TERM", "USR1"])
def test_a_signal_to_all_processes_of_a_job(
    straight: Place, cut: Cut, scenario: Say, how: str
) -> None:
    """Schedulers signal the workers that prepare batches as well."""
    place, number, times = cut("pretrain", "pcrlv2"), getattr(signal, f"SIG{how}"), 0
    length = place.do("pretrain", "pcrlv2", workers=2).seconds
    place.forget("pretrain", "pcrlv2")
    for part in (0.3, 0.5, 0.7, 0.9):
        request = {"signal": number, "after": part * length, "group": True}
        ended = place.run("pretrain", "pcrlv2", workers=2, **request)
        if ended.status == 0:
            break
        ended.stopped(number)
        times += 1
    assert times
    place.do("pretrain", "pcrlv2", workers=2)
    finished_as(place, straight, "pretrain", "pcrlv2")
    scenario(f"pretrain pcrlv2: SIG{how} to the whole group of processes", times=times)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["TERM", "USR1", "KILL"])
@pytest.mark.parametrize(
    ("stage", "name"),
    [("download", "deeplesion"), ("preprocess", "source.deeplesion"), ("sequences", "all")],
)
def test_the_preparation_of_data_stops_and_is_done_again(
    straight: Place, cut: Cut, scenario: Say, stage: str, name: str, how: str
) -> None:
    place, number = cut(stage, name), getattr(signal, f"SIG{how}")
    times = 0
    for after in (0.15, 0.25, 0.4):
        ended = place.run(stage, name, signal=number, after=after)
        if ended.status == 0:
            place.forget(stage, name)
            continue
        ended.stopped(number)
        job = place.job(stage, name)
        assert not (place.folder / place.plan.marker(job)).exists()
        times += 1
    assert times
    place.do(stage, name)
    assert place.results(stage, name) == straight.results(stage, name)
    scenario(f"{stage} {name}: SIG{how} while it works", times=times)


@pytest.mark.slow
def test_the_number_of_workers_and_a_second_run_change_no_bit(
    straight: Place, cut: Cut, scenario: Say
) -> None:
    place = cut(*JOBS[0])
    for stage, name in JOBS[:-1]:
        for workers in (0, 1, 2):
            place.forget(stage, name)
            place.do(stage, name, workers=workers)
            finished_as(place, straight, stage, name)
    scenario(f"{len(JOBS) - 1} trainings again with 0, 1 and 2 workers: the same bits")
