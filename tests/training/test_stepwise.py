"""Batches as a function of the step, whoever computes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from toy import equal, make_batch

from voxseq.errors import ResourceError
from voxseq.faults import faults_named
from voxseq.locks import owner_of
from voxseq.training import batches as module
from voxseq.training.batches import lost_workers_named, stepwise
from voxseq.training.seeding import entropy, numpy_generator, torch_generator


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_give_the_same_batches_in_the_same_order(workers: int) -> None:
    batches = list(stepwise(make_batch, 3, 12, workers))
    assert equal(batches, [make_batch(step) for step in range(3, 12)])


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_later_gives_the_rest(workers: int) -> None:
    rest = list(stepwise(make_batch, 7, 9, workers))
    assert equal(rest, [make_batch(7), make_batch(8)])
    assert list(stepwise(make_batch, 9, 9, workers)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_stream_is_left_alone(workers: int) -> None:
    state = torch.random.get_rng_state()
    list(stepwise(make_batch, 0, 3, workers))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_workers_are_other_processes_and_end_with_the_iterator() -> None:
    def pid(step: int) -> dict[str, torch.Tensor]:
        return {"pid": torch.tensor([os.getpid(), torch.get_num_threads()])}

    batches: Iterator[dict[str, torch.Tensor]] = stepwise(pid, 0, 50, 2)
    seen = [batch["pid"].tolist() for batch in islice(batches, 6)]
    pids = {number for number, _ in seen}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert {threads for _, threads in seen} == {1}
    del batches
    import gc

    gc.collect()
    for number in pids:
        with pytest.raises(OSError, match="No such process"):
            os.kill(number, 0)


def test_an_error_in_a_worker_names_what_happened() -> None:
    from voxseq.errors import DataError

    def bad(step: int) -> dict[str, torch.Tensor]:
        raise DataError(f"volume {step} is damaged", "run preprocess again")

    for workers in (0, 1):
        with pytest.raises(DataError, match="volume 0 is damaged"):
            list(stepwise(bad, 0, 3, workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_no_memory_in_a_worker_is_no_other_fault(tmp_path: Path, workers: int) -> None:
    def large(step: int) -> dict[str, torch.Tensor]:
        return {"image": torch.empty(2**50)}

    expected = pytest.raises(ResourceError, match=r"out of memory \(tried")
    with expected, faults_named(tmp_path), lost_workers_named():
        list(stepwise(large, 0, 3, workers))


def test_streams_are_functions_of_their_parts() -> None:
    for parts in ((1, "a", 2), (2**40, "words", 7)):
        one, two = (numpy_generator(*parts).random(5).tolist() for _ in range(2))
        assert one == two
        one, two = (torch.rand(5, generator=torch_generator(*parts)).tolist() for _ in range(2))
        assert one == two
    assert entropy(3, "a") == entropy(3, "a") != entropy(3, "b")
    draws = {
        torch.rand(1, generator=torch_generator(seed, word, step)).item()
        for seed in range(4)
        for word in ("x", "y")
        for step in range(10)
    }
    assert len(draws) == 80


#: The main process is killed by its own worker, which has not yet asked to end together with it.
KILLED_EARLY = """
import os, signal, sys, time
from pathlib import Path
from voxseq.locks import take
from voxseq.training import batches

lock = take(Path(sys.argv[1]), "a run")
real, main = batches._end_with_parent, os.getpid()

def late(*parent):
    Path(sys.argv[2]).write_text(str(os.getpid()))
    os.kill(main, signal.SIGKILL)
    while os.getppid() == main:
        time.sleep(0.01)
    real(*parent)

batches._end_with_parent = late
next(batches.stepwise(lambda step: {}, 0, 4, workers=1))
"""


def test_a_worker_whose_parent_was_killed_at_once_ends_and_gives_the_lock_back(
    tmp_path: Path,
) -> None:
    lock, pid = tmp_path / "run.lock", tmp_path / "pid"
    words = [sys.executable, "-c", KILLED_EARLY, str(lock), str(pid)]
    ended = subprocess.run(words, check=False, timeout=60, stderr=subprocess.DEVNULL)
    assert ended.returncode == -signal.SIGKILL
    worker = int(pid.read_text())
    try:
        latest = time.monotonic() + 10
        while owner_of(lock) is not None:
            assert time.monotonic() < latest, "the worker lives on, and holds the lock"
            time.sleep(0.05)
    finally:
        if Path(f"/proc/{worker}").exists():
            os.kill(worker, signal.SIGKILL)


def test_a_worker_is_silent_about_batches_that_nobody_takes_any_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for error in (ConnectionResetError(104), BrokenPipeError(32), EOFError()):
        module._unless_nobody_listens(type(error), error, None)
    assert capsys.readouterr().err == ""
    module._unless_nobody_listens(ValueError, ValueError("a fault"), None)
    assert "ValueError: a fault" in capsys.readouterr().err
