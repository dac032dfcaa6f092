"""Batches as a function of the step, whoever computes them."""

from __future__ import annotations

import gc
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

from tests.helpers.toy import equal, make_batch
from voxseq.base import watch
from voxseq.base.errors import DataError, ResourceError
from voxseq.base.failures import failures_named
from voxseq.base.locks import owner_of
from voxseq.base.random import entropy, numpy_generator, torch_generator
from voxseq.training import batches as module
from voxseq.training.batches import lost_workers_named, stepwise
from voxseq.training.memory import memory_limit


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("start", "stop"), [(3, 12), (7, 9), (9, 9)])
def test_workers_give_the_same_batches_in_the_same_order(
    workers: int, start: int, stop: int
) -> None:
    state = torch.random.get_rng_state()
    batches = list(stepwise(make_batch, start, stop, workers))
    assert equal(batches, [make_batch(step) for step in range(start, stop)])
    assert torch.equal(torch.random.get_rng_state(), state)


def own_pid(_: int) -> dict[str, torch.Tensor]:
    return {"pid": torch.tensor(os.getpid())}


def await_end(pid: int) -> None:
    latest = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < latest
        time.sleep(0.01)


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
    gc.collect()
    for number in pids:
        with pytest.raises(OSError, match="No such process"):
            os.kill(number, 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_names_what_happened(workers: int) -> None:
    def bad(step: int) -> dict[str, torch.Tensor]:
        raise DataError(f"volume {step} is damaged", "run preprocess again")

    with pytest.raises(DataError, match="volume 0 is damaged"):
        list(stepwise(bad, 0, 3, workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_no_memory_in_a_worker_is_no_other_fault(tmp_path: Path, workers: int) -> None:
    def large(step: int) -> dict[str, torch.Tensor]:
        return {"image": torch.empty(2**50)}

    expected = pytest.raises(ResourceError, match=r"out of memory \(.*tried to allocate")
    with expected, failures_named(tmp_path), lost_workers_named():
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
from voxseq.base.locks import take
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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (module, watch):
        monkeypatch.setattr(place, "LOOK", 0.05)


def test_a_stopped_worker_is_not_waited_for(impatient: None) -> None:
    batches = stepwise(own_pid, 0, 50, 2)
    stopped = int(next(batches)["pid"])
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
    def made(step: int) -> dict[str, torch.Tensor]:
        os.kill(os.getpid(), number)
        return {}

    with pytest.raises(ResourceError, match=said), lost_workers_named():
        next(stepwise(made, 0, 50, 1))


def test_workers_that_do_nothing_are_not_waited_for(impatient: None) -> None:
    def made(step: int) -> dict[str, torch.Tensor]:
        if step == 2:
            time.sleep(600)
        return {"step": torch.tensor(step)}

    batches = stepwise(made, 0, 50, 1)
    assert [int(next(batches)["step"]) for _ in range(2)] == [0, 1]
    with pytest.raises(ResourceError, match="doing nothing for"):
        next(batches)


def test_a_slow_batch_is_waited_for(impatient: None) -> None:
    """Longer than the patience with a worker that does nothing."""

    def made(step: int) -> dict[str, torch.Tensor]:
        latest = time.monotonic() + 2.0
        while time.monotonic() < latest:
            pass
        return {"step": torch.tensor(step)}

    assert [int(batch["step"]) for batch in stepwise(made, 0, 1, 1)] == [0]


def test_a_stopped_worker_does_not_outlive_the_batches() -> None:
    batches = stepwise(own_pid, 0, 50, 1)
    stopped = int(next(batches)["pid"])
    os.kill(stopped, signal.SIGSTOP)
    batches.close()
    await_end(stopped)


@pytest.mark.parametrize(("room", "steps"), [(2**16, 50), (7 * 2**12, 50), (2**12, 2)])
def test_batches_that_do_not_fit_into_shared_memory_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, room: int, steps: int
) -> None:
    """Two workers prepare four ahead, two are held: six of two pages each."""
    monkeypatch.setattr(module, "_LOCKS", 0)
    monkeypatch.setattr(module, "_free", lambda: room)
    made = {"image": torch.zeros(100), "ids": torch.zeros(2)}
    batches = stepwise(lambda _: made, 0, steps, 2)
    if room == 2**16:
        assert len(list(batches)) == steps
        return
    with pytest.raises(ResourceError, match=r"shared memory \(/dev/shm\) has .* MB free") as caught:
        next(batches)
    assert "--shm-size" in caught.value.hint
    assert "workers: 0" in caught.value.hint


def test_batches_that_do_not_fit_into_the_memory_of_the_job_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Six of a page in shared memory, and two of two workers in work: ten pages."""
    made = {"image": torch.zeros(100)}
    for limit in (10 * 2**12, 10 * 2**12 - 1):
        monkeypatch.setattr(module, "memory_limit", lambda limit=limit: limit)
        batches = stepwise(lambda _: made, 0, 50, 2)
        if limit == 10 * 2**12:
            assert len(list(batches)) == 50
            continue
        with pytest.raises(ResourceError, match=r"may have .* MB of memory, and the batches"):
            next(batches)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "7000\n"}, 7000),
        ("0::/\n", {"memory.max": "9000\n"}, 9000),
        ("3:memory:/job\n", {"memory/job/memory.limit_in_bytes": "5000\n"}, 5000),
        ("3:cpu,cpuacct:/\n0::/a\n", {"b/memory.max": "1\n"}, None),
    ],
)
def test_the_memory_of_the_job_is_that_of_its_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int | None
) -> None:
    own = tmp_path / "own"
    own.write_text(groups)
    for name, text in files.items():
        path = tmp_path / "all" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory_limit(own, tmp_path / "all") == expected
    assert memory_limit(tmp_path / "missing") is None


def test_shared_memory_that_is_full_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any batch, and when others fill it later, which is no endless wait."""

    def full(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file <x>: No space left (28)")

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "share_memory_", full)
        with pytest.raises(ResourceError, match=r"took no further batch \(unable to allocate"):
            next(stepwise(make_batch, 0, 50, 1))
    monkeypatch.setattr(module, "_free", lambda: 4096)
    with pytest.raises(ResourceError, match=r"shared memory \(/dev/shm\) is full"):
        next(stepwise(make_batch, 0, 50, 1))


IN_SMALL_MEMORY = """
import torch
from voxseq.base.errors import DataError, ResourceError
from voxseq.training.batches import stepwise
try:
    list(stepwise(lambda step: {"image": torch.zeros(20000)}, 0, 50, 2))
except ResourceError as error:
    print(error)
"""


@pytest.mark.slow
def test_in_a_container_with_little_shared_memory() -> None:
    mounted = 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"'
    alone = ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted, "sh"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system gives no file system of one's own")
    words = [*alone, sys.executable, "-c", IN_SMALL_MEMORY]
    ended = subprocess.run(words, check=False, timeout=60, capture_output=True, text=True)
    assert ended.stdout.startswith("shared memory (/dev/shm) has 0.1 MB free, and 6 batches")
    assert ended.stderr == ""
