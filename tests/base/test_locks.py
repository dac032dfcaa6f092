"""Locks between processes; a lock ends with its owner, whatever way that ends."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from voxseq.base.errors import ResourceError
from voxseq.base.locks import LockHeldError, alone, exclusive, owner_of, take

OWNER = """
import sys, time
from pathlib import Path
from voxseq.base.locks import take
lock = take(Path(sys.argv[1]), "a long work")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep/down/a.lock"


@pytest.fixture
def owner(path: Path, root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_owner_is_named(path: Path, owner: subprocess.Popen[str]) -> None:
    found = owner_of(path)
    assert found is not None
    assert (found.pid, found.what) == (owner.pid, "a long work")
    with pytest.raises(LockHeldError, match=f"process {owner.pid} on .* \\(a long work\\)"):
        take(path, "mine")


def test_a_lock_ends_when_its_owner_is_killed(path: Path, owner: subprocess.Popen[str]) -> None:
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert owner_of(path) is None
    with take(path, "mine"):
        found = owner_of(path)
        assert found is not None
        assert found.pid == os.getpid()
    assert owner_of(path) is None


def test_what_nobody_ever_held_is_free(path: Path) -> None:
    assert owner_of(path) is None
    assert not path.exists()


def test_whoever_wants_a_held_lock_waits(path: Path) -> None:
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        waits.set()
        with exclusive(path, "second"):
            order.append("second")

    with exclusive(path, "first"):
        thread = threading.Thread(target=second)
        thread.start()
        waits.wait()
        thread.join(timeout=0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def no_flock(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", fail)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS])
def test_work_goes_on_where_there_are_no_locks(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    no_flock(monkeypatch, code)
    with exclusive(path, "mine") as is_held:
        assert not is_held
    with alone(path, "mine") as is_held:
        assert not is_held
    take(path, "mine").close()
    assert owner_of(path) is None
    assert "file system has none" in caplog.text


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_another_failure_is_not_taken_for_a_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    no_flock(monkeypatch, code)
    for ask in (exclusive(path, "mine"), alone(path, "mine")):
        with pytest.raises(ResourceError, match=r"a\.lock: cannot be read"), ask:
            pass
    for ask_now in (lambda: take(path, "mine"), lambda: owner_of(path)):
        with pytest.raises(ResourceError, match=r"a\.lock: cannot be read"):
            ask_now()


def test_whoever_asks_is_told_whether_it_is_alone(path: Path) -> None:
    with exclusive(path, "mine") as is_held:
        assert is_held
        with alone(path, "yours") as is_mine:
            assert not is_mine
    with alone(path, "yours") as is_mine:
        assert is_mine


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\x00"])
def test_an_unreadable_name_is_no_failure(path: Path, text: str) -> None:
    with take(path, "mine"):
        path.write_text(text)
        found = owner_of(path)
        assert found is not None
        assert "unknown host" in str(found)
