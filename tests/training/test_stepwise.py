"""Batches as a function of the step, whoever computes them."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing import queues
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.rows import MadeRows, kept
from tests.helpers.toy import ToyRows, equal, make_batch
from voxseq.base import watch
from voxseq.base.errors import DataError, ResourceError
from voxseq.base.failures import failures_named
from voxseq.base.locks import owner_of
from voxseq.base.random import entropy, numpy_generator, torch_generator
from voxseq.training import batches as module
from voxseq.training.batches import lost_workers_named, stepwise
from voxseq.training.held import STEPS_IN_USE, TASKS_AHEAD, block_bytes, steps_held, task_size
from voxseq.training.rows import Field


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("start", "stop"), [(3, 12), (7, 9), (9, 9)])
def test_workers_give_the_same_batches_in_the_same_order(
    workers: int, start: int, stop: int
) -> None:
    state = torch.random.get_rng_state()
    batches = kept(stepwise(ToyRows(), start, stop, workers))
    assert equal(batches, [make_batch(step) for step in range(start, stop)])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_tasks_of_any_number_of_rows_are_the_batch(count: int, workers: int) -> None:
    rows = MadeRows(lambda step, row: {"value": 100 * step + row}, count=count)
    found = [batch["value"].tolist() for batch in stepwise(rows, 2, 7, workers)]
    assert found == [[100 * step + row for row in range(count)] for step in range(2, 7)]


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (1, 2), (5, 2), (2, 3)])
def test_a_batch_stays_while_workers_are_ahead(count: int, workers: int) -> None:
    rows = MadeRows(lambda step, row: {"value": step}, count=count)
    for step, batch in enumerate(stepwise(rows, 0, 12, workers)):
        # Long enough for the workers to fill all that they have been given.
        time.sleep(0.02)
        assert batch["value"].eq(step).all()


def written_early(count: int, workers: int, held: int) -> set[int]:
    """How far behind the step at hand those are whose rows are written to.

    The loader hands out some tasks ahead, then another one for each that it gets back, in order.
    """
    parts = -(-count // task_size(count, workers))
    sent = TASKS_AHEAD * workers
    behind = set()
    for step in range(3 * held):
        for _ in range(parts):
            # The step that this task is of takes the place of one that many steps before it.
            behind.add(step - (sent // parts - held))
            sent += 1
    return behind


SIZES = st.tuples(st.integers(1, 300), st.integers(1, 40))


@given(SIZES)
def test_no_rows_are_written_while_their_step_is_in_use(size: tuple[int, int]) -> None:
    """The step that is awaited becomes the one at hand."""
    held = steps_held(*size)
    assert min(written_early(*size, held)) >= STEPS_IN_USE
    assert min(written_early(*size, held - 1)) < STEPS_IN_USE


@given(SIZES)
def test_tasks_divide_a_batch_so_that_all_workers_have_a_part(size: tuple[int, int]) -> None:
    count, workers = size
    rows = task_size(count, workers)
    tasks = -(-count // rows)
    assert 1 <= rows <= count
    assert min(count, workers) <= tasks <= 2 * workers
    assert steps_held(count, 0) == 1


def test_rows_of_the_paper_take_less_than_six_gigabytes() -> None:
    """288 items of at most 8.4 MB, 16 workers: two steps."""
    assert steps_held(288, 16) == 2
    assert block_bytes(288, 8_400_000, 16) == 2 * 288 * 8_400_000 <= 6e9


class Counted:
    """What pickles for other processes, and writes down how much."""

    def __init__(self, real: Any, log: Path) -> None:
        self.real, self.log, self.loads = real, log, real.loads

    def dumps(self, content: object) -> Any:
        made = self.real.dumps(content)
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {len(bytes(made))} {content!r:.60}\n")
        return made


@pytest.mark.parametrize("size", [1, 100_000])
def test_nothing_but_the_end_of_a_task_crosses_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    log = tmp_path / "log"
    monkeypatch.setattr(queues, "_ForkingPickler", Counted(queues._ForkingPickler, log))
    rows = MadeRows(lambda step, row: {"image": step}, {"image": Field((size,), "float32")}, 8)
    for batch in stepwise(rows, 0, 10, 2):
        assert batch["image"].shape == (8, size)
    sent = [line.split(maxsplit=2) for line in log.read_text().splitlines()]
    assert len({pid for pid, _, _ in sent}) == 3
    assert sum(int(count) for _, count, _ in sent) < 1000 * 8 * 10
    from_workers = [text for pid, _, text in sent if int(pid) != os.getpid()]
    assert len(from_workers) >= 40
    assert all(re.fullmatch(r"\(\d+, None\)", text) for text in from_workers)


PID = MadeRows(lambda step, row: {"value": os.getpid()})


def await_end(pid: int) -> None:
    latest = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < latest
        time.sleep(0.01)


def test_workers_are_other_processes_and_end_with_the_iterator() -> None:
    layout = {"seen": Field((2,), "int64")}
    rows = MadeRows(lambda step, row: {"seen": [os.getpid(), torch.get_num_threads()]}, layout)
    batches: Iterator[dict[str, torch.Tensor]] = stepwise(rows, 0, 50, 2)
    seen = [batch["seen"][0].tolist() for batch in islice(batches, 6)]
    pids = {number for number, _ in seen}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert {threads for _, threads in seen} == {1}
    del batches
    gc.collect()
    for number in pids:
        with pytest.raises(OSError, match="No such process"):
            os.kill(number, 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_names_what_happened(workers: int) -> None:
    def bad(step: int, row: int) -> dict[str, Any]:
        raise DataError(f"volume {step} is damaged", "run preprocess again")

    with pytest.raises(DataError, match="volume 0 is damaged"):
        list(stepwise(MadeRows(bad), 0, 3, workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_no_memory_in_a_worker_is_no_other_fault(tmp_path: Path, workers: int) -> None:
    rows = MadeRows(lambda step, row: {"value": torch.empty(2**50)})
    expected = pytest.raises(ResourceError, match=r"out of memory \(.*tried to allocate")
    with expected, failures_named(tmp_path), lost_workers_named():
        list(stepwise(rows, 0, 3, workers))


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
from voxseq.base.locks import take
from voxseq.training import batches
from voxseq.training.rows import Field, Rows

class Empty(Rows):
    count, layout = 1, {"value": Field((), "int64")}

    def fill(self, step, row, out):
        pass

lock = take(Path(sys.argv[1]), "a run")
real, main = batches._end_with_parent, os.getpid()

def late(*parent):
    Path(sys.argv[2]).write_text(str(os.getpid()))
    os.kill(main, signal.SIGKILL)
    while os.getppid() == main:
        time.sleep(0.01)
    real(*parent)

batches._end_with_parent = late
next(batches.stepwise(Empty(), 0, 4, workers=1))
"""


@pytest.mark.slow
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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (module, watch):
        monkeypatch.setattr(place, "LOOK", 0.05)


def test_a_stopped_worker_is_not_waited_for(impatient: None) -> None:
    batches = stepwise(PID, 0, 50, 2)
    stopped = int(next(batches)["value"])
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(
        ResourceError, match=rf"{stopped}: stopped for .* s, with a batch"
    ) as caught:
        list(batches)
    assert "workers: 0" in caught.value.hint
    assert not Path(f"/proc/{stopped}").exists()


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGSTOP, "stopped for .* s, with a batch to prepare"), (signal.SIGKILL, "by itself")],
)
def test_a_worker_that_is_gone_before_its_first_batch_is_not_waited_for(
    impatient: None, number: signal.Signals, said: str
) -> None:
    def made(step: int, row: int) -> dict[str, Any]:
        os.kill(os.getpid(), number)
        return {}

    with pytest.raises(ResourceError, match=said), lost_workers_named():
        next(stepwise(MadeRows(made), 0, 50, 1))


def test_workers_that_do_nothing_are_not_waited_for(impatient: None) -> None:
    def made(step: int, row: int) -> dict[str, Any]:
        if step == 2:
            time.sleep(600)
        return {"value": step}

    batches = stepwise(MadeRows(made), 0, 50, 1)
    assert [int(next(batches)["value"]) for _ in range(2)] == [0, 1]
    with pytest.raises(ResourceError, match="doing nothing for"):
        next(batches)


def test_a_slow_batch_is_waited_for(impatient: None) -> None:
    """Longer than the patience with a worker that does nothing."""

    def made(step: int, row: int) -> dict[str, Any]:
        latest = time.monotonic() + 2.0
        while time.monotonic() < latest:
            pass
        return {"value": 7}

    assert [int(batch["value"]) for batch in stepwise(MadeRows(made), 0, 1, 1)] == [7]


def test_a_stopped_worker_does_not_outlive_the_batches() -> None:
    batches = stepwise(PID, 0, 50, 1)
    stopped = int(next(batches)["value"])
    os.kill(stopped, signal.SIGSTOP)
    batches.close()
    await_end(stopped)
