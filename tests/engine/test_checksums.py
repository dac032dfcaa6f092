"""Checksums of inputs: found once, found again where a file changed, and never half remembered."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.failing import fail_open
from tests.helpers.tiny_study import Actions, do, job_of, run_of
from voxseq.base import checksums as checksums_module
from voxseq.base.checksums import Memory, read_checksums
from voxseq.base.errors import IntegrityError
from voxseq.engine.session import tidy_up
from voxseq.engine.workspace import Workspace

NAMES = ("a.b2nd", "b.b2nd", "deep/c.b2nd")


class Opened:
    """Files that this process has opened."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def below(self, folder: Path) -> list[str]:
        """Names of those below a folder, sorted; markers and settings are left out."""
        found = [path for path in self.paths if path.is_relative_to(folder)]
        return sorted(path.name for path in found if path.suffix in (".b2nd", ".txt"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    found, real, lock = Opened(), io.open, threading.Lock()

    def counted(name: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(name, Path):
            with lock:
                found.paths.append(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(io, "open", counted)
    return found


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk's clock goes far enough ahead for all files to be old."""
    real = Memory._now
    monkeypatch.setattr(Memory, "_now", lambda self: real(self) + 10**10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of a run."""
    for number, name in enumerate(NAMES):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 3000)
    return tmp_path / "run"


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "memory/run.json", tmp_path / "work")


def expected(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in NAMES]


def flip(path: Path) -> None:
    """Change a byte in place."""
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def flip_and_restore_the_date(path: Path) -> None:
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    """Put another file of the same size and date in its place."""
    before, beside = path.stat(), path.with_name("new")
    beside.write_bytes(b"x" * before.st_size)
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    beside.replace(path)


CHANGES: tuple[Callable[[Path], None], ...] = (flip, flip_and_restore_the_date, replace)


@pytest.mark.usefixtures("later")
def test_unchanged_files_are_read_once(folder: Path, memory: Memory, opened: Opened) -> None:
    first = list(memory.checksums(folder, NAMES))
    assert opened.below(folder) == ["a.b2nd", "b.b2nd", "c.b2nd"]
    opened.paths.clear()
    assert list(memory.checksums(folder, NAMES)) == first
    assert opened.below(folder) == []
    assert list(memory.checksums_anew(folder, NAMES)) == first
    assert opened.below(folder) == ["a.b2nd", "b.b2nd", "c.b2nd"]
    assert first == expected(folder)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_read_again_and_no_other(
    folder: Path, memory: Memory, opened: Opened, change: Callable[[Path], None]
) -> None:
    before = list(memory.checksums(folder, NAMES))
    change(folder / "b.b2nd")
    opened.paths.clear()
    after = list(memory.checksums(folder, NAMES))
    assert opened.below(folder) == ["b.b2nd"]
    assert after == expected(folder)
    assert [x == y for x, y in zip(before, after, strict=True)] == [True, False, True]


def test_files_as_young_as_a_tick_are_not_remembered(
    folder: Path, memory: Memory, opened: Opened
) -> None:
    """A second write within the tick of the first would leave the same times."""
    list(memory.checksums(folder, NAMES))
    assert not memory.path.exists()
    opened.paths.clear()
    list(memory.checksums(folder, NAMES))
    assert opened.below(folder) == ["a.b2nd", "b.b2nd", "c.b2nd"]


def test_age_is_told_by_the_clock_of_the_disk(
    folder: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's clock is far ahead of the file server's; then the server's goes on."""
    monkeypatch.setattr("time.time", lambda: 4e9)
    monkeypatch.setattr("time.time_ns", lambda: 4 * 10**18)
    list(memory.checksums(folder, NAMES))
    assert not memory.path.exists()
    newest = max((folder / name).stat().st_ctime_ns for name in NAMES)
    monkeypatch.setattr(Memory, "_now", lambda _: newest + checksums_module._TICK + 1)
    list(memory.checksums(folder, NAMES))
    assert set(json.loads(memory.path.read_text())) == set(NAMES)


@pytest.mark.usefixtures("later")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    folder: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checksums_module.sha256

    def read(path: Path) -> str:
        found = real(path)
        if path.name == "b.b2nd":
            flip_and_restore_the_date(path)
        return found

    monkeypatch.setattr(checksums_module, "sha256", read)
    list(memory.checksums(folder, NAMES))
    assert set(json.loads(memory.path.read_text())) == {"a.b2nd", "deep/c.b2nd"}
    monkeypatch.undo()
    assert list(memory.checksums(folder, NAMES)) == expected(folder)


@pytest.mark.parametrize("cores", [1, 4])
def test_reading_side_by_side_gives_what_reading_in_turn_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(checksums_module, "_cores", lambda: cores)
    names = [f"{number}.b2nd" for number in range(40)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(os.urandom(1 + 997 * number))
    serial = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names]
    threads = threading.active_count()
    assert list(read_checksums(tmp_path, names)) == serial
    assert threading.active_count() == threads


def test_as_many_readers_as_cores_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are at work at once, and no more."""
    gate, at_once, lock = threading.Barrier(4), [0, 0], threading.Lock()

    def read(path: Path) -> str:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        # Breaks unless four are here at the same time.
        gate.wait(timeout=60)
        with lock:
            at_once[0] -= 1
        return path.name

    monkeypatch.setattr(checksums_module, "_cores", lambda: 2)
    monkeypatch.setattr(checksums_module, "sha256", read)
    names = [str(number) for number in range(12)]
    assert list(read_checksums(tmp_path, names)) == names
    assert at_once[1] == 4


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '{"a.b2nd": 3}', '{"a.b2nd": [1, 2, "x"]}', "\0"]
)
def test_a_damaged_memory_is_none(folder: Path, memory: Memory, opened: Opened, text: str) -> None:
    memory.path.parent.mkdir()
    memory.path.write_text(text)
    assert list(memory.checksums(folder, NAMES)) == expected(folder)
    assert set(json.loads(memory.path.read_text())) == set(NAMES)


class Killed(BaseException):
    """Stands for SIGKILL: nothing that follows is done."""


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("moment", ["chmod", "replace", "after"])
def test_killed_while_remembering_leaves_the_old_or_the_new(
    folder: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    list(memory.checksums(folder, NAMES))
    old = memory.path.read_text()
    flip(folder / "a.b2nd")
    real = Path.replace

    def killed(*_: object) -> None:
        raise Killed

    def killed_after(path: Path, target: Path) -> None:
        real(path, target)
        raise Killed

    with monkeypatch.context() as patched:
        # A dead process removes nothing.
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        name = "replace" if moment == "after" else moment
        patched.setattr(Path, name, killed_after if moment == "after" else killed)
        with pytest.raises(Killed):
            list(memory.checksums(folder, NAMES))
    left = list(memory.path.parent.glob(".*.tmp"))
    assert bool(left) == (moment != "after")
    assert (memory.path.read_text() == old) == (moment != "after")
    assert list(memory.checksums(folder, NAMES)) == expected(folder)
    assert bool(list(memory.path.parent.glob(".*.tmp"))) is False
    assert memory.path.read_text() != old


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("place", ["memory", "clock"])
def test_a_disk_that_takes_no_notes_only_costs_time(
    folder: Path, memory: Memory, opened: Opened, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    blocked = memory.path.parent if place == "memory" else memory.clock
    blocked.write_text("a file in the place of the folder")
    for _ in range(2):
        assert list(memory.checksums(folder, NAMES)) == expected(folder)
    assert "not remembered" in caplog.text


@pytest.mark.usefixtures("later")
def test_the_second_run_opens_no_file_of_its_inputs(
    empty: Workspace, actions: Actions, opened: Opened
) -> None:
    """Two fine-tunings of one job read the same volumes, which were hashed when they were made."""
    do(empty, "download", "preprocess")
    opened.paths.clear()
    do(empty, "finetune")
    assert [run for run in actions.done if run.startswith("finetune")] == [
        "finetune/a/ours/s0",
        "finetune/a/ours/s1",
    ]
    assert opened.below(empty.folder(run_of(empty, "preprocess/task/a"))) == []


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", CHANGES)
def test_damage_is_the_same_error_whether_or_not_the_files_were_known(
    empty: Workspace, actions: Actions, change: Callable[[Path], None]
) -> None:
    do(empty, "download", "preprocess")
    empty.verify(job_of(empty, "preprocess"))
    path = empty.folder(run_of(empty, "preprocess/task/a")) / "part.txt"
    change(path)
    said = []
    for is_known in (True, False):
        marker = empty.marker(run_of(empty, "preprocess/task/a"))
        kept = marker.read_bytes()
        if not is_known:
            empty.memory(run_of(empty, "preprocess/task/a")).path.unlink()
        with pytest.raises(IntegrityError) as caught:
            do(empty, "finetune")
        said.append(str(caught.value))
        assert not marker.exists()
        marker.write_bytes(kept)
    assert said[0] == said[1]
    assert f"{path} does not have its recorded checksum" in said[0]
    assert "does the stage preprocess once more" in said[0]
    assert "finetune/a/ours/s0" not in actions.done


@pytest.mark.usefixtures("later")
def test_results_are_remembered_where_they_are_put(empty: Workspace, opened: Opened) -> None:
    """They are hashed in the folder where they are made, and then moved."""
    do(empty, "download")
    opened.paths.clear()
    empty.verify(job_of(empty, "download"))
    assert opened.below(empty.folder(run_of(empty, "download/a"))) == []


def test_a_job_that_is_not_done_cannot_be_verified(empty: Workspace) -> None:
    with pytest.raises(IntegrityError, match="download/a is needed and not usable"):
        empty.verify(job_of(empty, "download"))


def test_notes_of_verified_jobs_do_not_outlive_their_workflow(workspace: Workspace) -> None:
    note = workspace.verifications / "task.a-0123456789abcdef"
    note.parent.mkdir(parents=True)
    note.touch()
    known = workspace.memory(run_of(workspace, "preprocess/task/a")).path
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text("{}")
    tidy_up(workspace)
    assert not note.exists()
    assert known.exists()


@pytest.mark.usefixtures("later")
def test_a_failing_machine_is_no_damage(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(workspace, "preprocess/task/a")
    path = workspace.folder(run) / "part.txt"
    workspace.memory(run).path.unlink(missing_ok=True)
    fail_open(monkeypatch, path, 5)
    with pytest.raises(Exception, match="cannot be read"):
        workspace.verify(job_of(workspace, "preprocess"))
    assert workspace.is_finished(run)
    workspace.verify(job_of(workspace, "preprocess"))
