"""GPUs are leased by one job at a time; a stand-in for the driver's command names them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.helpers import ROOT
from voxseq.base.errors import ResourceError
from voxseq.base.gpus import VISIBLE, lease_gpus, visible_gpus

TWO = """GPU 0: NVIDIA H200 (UUID: GPU-aaaa)
GPU 1: NVIDIA H200 (UUID: GPU-bbbb)
"""
DIVIDED = """GPU 0: NVIDIA H200 (UUID: GPU-aaaa)
  MIG 3g.71gb     Device  0: (UUID: MIG-1111)
  MIG 3g.71gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA H200 (UUID: GPU-bbbb)
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, and for commands."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv(VISIBLE, raising=False)
    yield tmp_path
    os.environ.pop(VISIBLE, None)


def driver(machine: Path, said: str) -> None:
    path = machine / "nvidia-smi"
    path.write_text(f"#!/bin/sh\ncat <<'end'\n{said}end\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("said", "visible", "expected"),
    [
        (TWO, None, ["GPU-aaaa", "GPU-bbbb"]),
        (TWO, "1,0", ["GPU-bbbb", "GPU-aaaa"]),
        (TWO, "GPU-b", ["GPU-bbbb"]),
        *((TWO, nothing, []) for nothing in ("", "-1", "NoDevFiles", "7", "GPU-")),
        (TWO, "1,-1,0", ["GPU-bbbb"]),
        (DIVIDED, None, ["MIG-1111", "MIG-2222", "GPU-bbbb"]),
        (DIVIDED, "MIG-2222", ["MIG-2222"]),
        (DIVIDED, "0,1", ["MIG-1111", "GPU-bbbb"]),
        ("", "0", []),
    ],
)
def test_visible_devices_are_named_in_the_order_of_the_scheduler(
    machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    visible: str | None,
    expected: Sequence[str],
) -> None:
    driver(machine, said)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    assert visible_gpus() == expected


def test_without_a_driver_nothing_is_leased(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine))
    assert lease_gpus("a job") == []
    assert VISIBLE not in os.environ


def test_more_than_there_are_is_refused(machine: Path) -> None:
    driver(machine, TWO)
    with pytest.raises(ResourceError, match="needs 3 GPUs, and 2 are visible"):
        lease_gpus("a job", 3)


HELD = """
import os, sys
from voxseq.base import gpus
gpus.LOOK = 0.02
leases = gpus.lease_gpus(sys.argv[1])
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


def job(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HELD, name],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def named(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def says(process: subprocess.Popen[str], seconds: float) -> bool:
    return bool(select.select([process.stdout], [], [], seconds)[0])


def test_two_jobs_have_a_device_each_and_a_third_waits_until_one_is_killed(machine: Path) -> None:
    driver(machine, TWO)
    jobs = [job(name) for name in "ab"]
    try:
        assert sorted(map(named, jobs)) == ["GPU-aaaa", "GPU-bbbb"]
        jobs.append(job("c"))
        assert not says(jobs[2], seconds=2.0)
        jobs[1].send_signal(signal.SIGKILL)
        assert named(jobs[2]) in ("GPU-aaaa", "GPU-bbbb")
    finally:
        for each in jobs:
            each.kill()
            each.wait()


def test_a_command_of_several_processes_has_its_devices_until_it_ends(machine: Path) -> None:
    driver(machine, TWO)
    shown = f"echo ${VISIBLE}; exec sleep 60"
    words = [sys.executable, "-m", "voxseq.base.gpus", "2", "bash", "-c", shown]
    with subprocess.Popen(
        words,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        text=True,
    ) as both:
        assert named(both) == "GPU-aaaa,GPU-bbbb"
        after = job("after")
        assert not says(after, seconds=2.0)
        both.kill()
        assert named(after) == "GPU-aaaa"
    after.kill()
    after.wait()
