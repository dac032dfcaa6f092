"""What depends on the system, tried by switches: macOS, a C library other than glibc, Windows."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers import ROOT
from voxseq.base import checksums, watch
from voxseq.study import machine
from voxseq.training import batches, device, memory, shared

#: An interpreter without what Windows lacks.
ON_WINDOWS = """
import signal, sys
for name in ("fcntl", "resource", "grp", "pwd"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGUSR1", "SIGALRM", "SIGKILL", "setitimer", "pthread_sigmask"):
    delattr(signal, name)
from voxseq.cli.main import main
sys.platform = "win32"
main()
"""


@pytest.fixture
def macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that Python has on Linux alone are gone."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    for name in ("sched_getaffinity", "sched_setaffinity", "posix_fadvise"):
        monkeypatch.delattr(os, name, raising=False)


@pytest.mark.usefixtures("macos")
def test_cores_are_counted_where_no_affinity_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert machine.usable_cores() == checksums._cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.usable_cores() == checksums._cores() == 1


@pytest.mark.usefixtures("macos")
def test_memory_is_not_tuned_without_glibc() -> None:
    assert memory.keep_freed_memory() is False


def test_nothing_limits_memory_without_control_groups(tmp_path: Path) -> None:
    assert memory.memory_limit(tmp_path / "cgroup", tmp_path) is None


@pytest.mark.parametrize(("system", "expected"), [("darwin", 3.0), ("linux", 3072.0)])
def test_peak_memory_is_in_megabytes(
    monkeypatch: pytest.MonkeyPatch, system: str, expected: float
) -> None:
    """The system counts in bytes on macOS, in kB on Linux."""
    monkeypatch.setattr(sys, "platform", system)
    used = SimpleNamespace(ru_maxrss=3 * 2**20)
    monkeypatch.setattr(resource, "getrusage", lambda _: used)
    assert device.costs()["peak_memory_mb"] == expected


def test_processes_are_not_watched_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "Path", lambda name: Path("/nowhere") / name.lstrip("/"))
    assert watch._look_at(os.getpid()) is None


def test_shared_memory_of_unknown_size_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shared, "_SHARED", tmp_path / "shm")
    assert shared._free() is None


@pytest.mark.usefixtures("macos")
def test_a_worker_ends_without_its_parent_where_the_kernel_does_not_see_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    batches._end_with_parent(os.getppid())
    assert not ended
    batches._end_with_parent(-1)
    assert ended == [1]


@pytest.mark.parametrize("words", [[], ["--help"], ["predict", "model", "scan"]])
def test_windows_is_told_to_use_linux(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_WINDOWS, *words],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: voxseq does not run on Windows")
    assert "WSL 2" in done.stderr
