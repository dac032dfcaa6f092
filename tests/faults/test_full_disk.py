"""A disk that is full at any moment of any stage: a clear error, and work goes on afterwards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.places import METHODS, OTHERS, Place, Say
from tests.helpers.zygote import fill

#: Bytes left free, one after the other: each lets the work come a little further.
STEPS = (0, 4096, 20_000, 80_000, 160_000, 320_000, 640_000, 1_280_000)
MESSAGE = re.compile(r"error: .*: the disk is full, [0-9.]+ MB are free\n  next: make room there")
JOBS = (
    ("download", "amos22"),
    ("download", "deeplesion"),
    ("download", "nodule"),
    ("preprocess", "source.amos22"),
    ("preprocess", "task.task06_lung"),
    ("sequences", "all"),
    ("pretrain", "ours"),
    ("pretrain", "medcoss"),
    ("finetune", "ours.part0"),
    ("beyond", "finetune.probes.part0"),
    ("tables", "all"),
    ("figures", "all"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "name"), JOBS)
def test_a_full_disk(
    complete: Place, small_disk: Path, scenario: Say, stage: str, name: str
) -> None:
    place = complete.copy(small_disk / "x")
    place.forget(stage, name)
    marker = place.folder / place.plan.marker(place.job(stage, name))
    failed, filler = 0, small_disk / "filler"
    for left in STEPS:
        fill(filler, left)
        ended = place.run(stage, name)
        if ended.status == 0:
            break
        failed += 1
        ended.refused()
        assert MESSAGE.search(ended.output), ended.said
        assert not marker.exists()
        assert place.damage() == []
    assert failed
    filler.unlink()
    place.do(stage, name)
    assert place.results(stage, name) == complete.results(stage, name)
    assert place.leftovers() == []
    published = {"tables": "tables", "figures": "figures"}.get(stage)
    if published:
        one, two = (p.folder / p.plan.results / published for p in (place, complete))
        assert sorted(f.name for f in one.iterdir()) == sorted(f.name for f in two.iterdir())
    scenario(f"{stage} {name}: the disk was full", times=failed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "name"), [("pretrain", "ours"), ("preprocess", "source.amos22"), ("figures", "all")]
)
def test_a_limit_on_the_size_of_files(
    complete: Place, tmp_path: Path, scenario: Say, stage: str, name: str
) -> None:
    place = complete.copy(tmp_path / "x")
    place.forget(stage, name)
    for limit in (2000, 8000):
        ended = place.run(stage, name, limit_bytes=limit)
        ended.refused("would exceed the limit on the size of one file", "ulimit -f")
        assert place.damage() == []
    place.do(stage, name)
    assert place.results(stage, name) == complete.results(stage, name)
    scenario(f"{stage} {name}: files could not grow (ulimit -f), 2 times")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_fills_up_during_a_training(
    complete: Place, small_disk: Path, scenario: Say, workers: int
) -> None:
    """The first checkpoints find room, a later one does not; the last good one stays."""
    place = complete.copy(small_disk / "x")
    place.forget("pretrain", "ours")
    # Large enough for the checkpoint, not for a second one beside it.
    fill(small_disk / "filler", 500_000)
    ended = place.run("pretrain", "ours", workers=workers)
    ended.refused()
    assert MESSAGE.search(ended.output), ended.said
    assert place.checkpoint("pretrain", "ours").exists()
    (small_disk / "filler").unlink()
    again = place.do("pretrain", "ours", workers=workers)
    assert "resuming at step" in again.output
    assert place.results("pretrain", "ours") == complete.results("pretrain", "ours")
    scenario(f"pretrain ours, {workers} workers: the disk filled up between two checkpoints")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("stage", "name"), [*(("pretrain", method) for method in METHODS), *OTHERS[:-1]]
)
def test_a_disk_that_is_full_from_some_step_on(
    complete: Place, small_disk: Path, scenario: Say, stage: str, name: str, workers: int
) -> None:
    place, filler = complete.copy(small_disk / "x"), small_disk / "filler"
    place.forget(stage, name)
    steps = (0, 2, 5) if stage == "pretrain" else (0, 1, 3)
    for step in steps:
        request = {"place": "step", "step": step, "act": "no room", "filler": str(filler)}
        ended = place.run(stage, name, workers=workers, **request)
        ended.refused()
        assert MESSAGE.search(ended.output), ended.said
        filler.unlink()
    place.do(stage, name, workers=workers)
    assert place.results(stage, name) == complete.results(stage, name)
    assert place.leftovers() == []
    scenario(f"{stage} {name}, {workers} workers: the disk was full from steps {steps} on")
