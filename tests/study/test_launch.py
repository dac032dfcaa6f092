"""`voxseq run STUDY`: what Snakemake is asked for, and requests to stop."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers import ROOT
from voxseq.base.errors import VoxseqError
from voxseq.study import launch

#: Stands for Snakemake. Its target tells how many requests to stop it waits for; with the last it
#: ends, as its job does with the first.
STANDS_IN = """
import json, pathlib, signal, subprocess, sys, time
def note(name, text):
    with pathlib.Path(name).open("a") as file: file.write(text + chr(10))
here, left = sys.argv[0].endswith(".py"), int(sys.argv[-1])
def stop(number, frame):
    global left
    note("noted" if here else "noted-by-job", signal.Signals(number).name)
    left -= 1
numbers = signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT
for number in numbers: signal.signal(number, stop)
if here:
    source = pathlib.Path(__file__).read_text()
    job = left and subprocess.Popen([sys.executable, "-c", source, "1"])
    print("said on the terminal", json.dumps(sys.stdin.read()), file=sys.stderr)
    note("words", json.dumps(sys.argv[1:]))
else:
    note("began", "")
is_to_stop = left > 0
while left > 0: time.sleep(0.02)
if here and job: job.wait()
sys.exit(7 if is_to_stop else 0)
"""
CALL = """
import fcntl, sys, termios
from pathlib import Path
from voxseq.base.errors import Interrupted
from voxseq.study.launch import snakemake
if sys.stdin.isatty(): fcntl.ioctl(0, termios.TIOCSCTTY, 0)
try:
    raise SystemExit(snakemake(Path("studies/a.yaml"), {target!r}, "2", ["-n"]))
except Interrupted as request:
    print(request)
    raise SystemExit(75)
"""
REQUESTS = ["SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP", "SIGQUIT"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a module called snakemake comes before the real one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "snakemake.py").write_text(STANDS_IN)
    search = f"{tmp_path}{os.pathsep}{ROOT / 'src'}"
    monkeypatch.setenv("PYTHONPATH", search)
    return tmp_path


def started(target: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CALL.format(target=target)]
    return subprocess.Popen(command, text=True, **options)


def until(is_so: Callable[[], bool]) -> None:
    for _ in range(1200):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def wait_for(path: Path, text: str = "\n") -> None:
    until(lambda: path.exists() and text in path.read_text())


@contextmanager
def on_a_terminal(target: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A call on a terminal that stops who writes from the background; yields the other end."""
    ours, theirs = pty.openpty()
    settings = termios.tcgetattr(theirs)
    settings[3] |= termios.TOSTOP
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = started(target, **streams, start_new_session=True)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        os.close(ours)


def test_snakemake_gets_the_file_and_the_target(folder: Path) -> None:
    assert started("0").wait(60) == 0
    words = ["--cores", "2", "-n", "--configfile", "studies/a.yaml", "--", "0"]
    assert json.loads((folder / "words").read_text()) == words


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_to_stop_reaches_snakemake_and_its_jobs_once(folder: Path, name: str) -> None:
    process = started("1", stdout=subprocess.PIPE)
    wait_for(folder / "words")
    wait_for(folder / "began")
    process.send_signal(signal.Signals[name])
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert said == "stopped; the same command resumes\n"
    for noted in ("noted", "noted-by-job"):
        assert (folder / noted).read_text() == f"{name}\n"


def test_a_second_request_is_passed_on_again(folder: Path) -> None:
    process = started("2")
    wait_for(folder / "words")
    wait_for(folder / "began")
    for name in ("SIGINT", "SIGTERM"):
        process.send_signal(signal.Signals[name])
        wait_for(folder / "noted", name)
    assert process.wait(60) == 75
    assert (folder / "noted").read_text() == "SIGINT\nSIGTERM\n"


def test_what_nohup_ignores_stays_ignored(folder: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = started("1")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(folder / "words")
    wait_for(folder / "began")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert (folder / "noted").read_text() == "SIGTERM\n"


def test_in_a_terminal_snakemake_writes_reads_nothing_and_gets_ctrl_c_once(folder: Path) -> None:
    with on_a_terminal("1") as (process, terminal):
        wait_for(folder / "words")
        wait_for(folder / "began")
        os.write(terminal, b"\x03")
        assert process.wait(60) == 75
        assert 'said on the terminal ""' in os.read(terminal, 10_000).decode()
    for noted in ("noted", "noted-by-job"):
        assert (folder / noted).read_text() == "SIGINT\n"


def test_snakemake_pauses_with_this_process(folder: Path) -> None:
    # The system stops no group whose parent is not there to have it go on.
    process = started("1", process_group=0)
    wait_for(folder / "began")
    here = psutil.Process(process.pid)
    both = [here, *here.children()]
    process.send_signal(signal.SIGTSTP)
    until(lambda: all(one.status() == psutil.STATUS_STOPPED for one in both))
    process.send_signal(signal.SIGCONT)
    until(lambda: all(one.status() != psutil.STATUS_STOPPED for one in both))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75


def test_a_study_is_a_name_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Snakefile").touch()
    with pytest.raises(VoxseqError, match="no studies here yet"):
        launch.study_file("mine")
    Path("studies").mkdir()
    for place in ("studies/mine.yaml", "other.yaml"):
        Path(place).touch()
    assert launch.study_file("mine") == Path("studies/mine.yaml")
    assert launch.study_file("other.yaml") == Path("other.yaml")
    with pytest.raises(VoxseqError, match="studies here: mine"):
        launch.study_file("yours")


def test_a_scale_is_named_as_a_study_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scale = Path("workflow/scales/quick.yaml")
    scale.parent.mkdir(parents=True)
    scale.touch()
    assert launch.study_file("quick") == scale


def test_outside_of_the_workspace_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Snakefile").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    with pytest.raises(VoxseqError, match=f"the workspace is {tmp_path}"):
        launch.study_file("mine")


def test_a_folder_without_the_workflow_is_refused(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    with pytest.raises(VoxseqError, match="voxseq new FOLDER"):
        launch.require_workspace(below)
    (tmp_path / "Snakefile").touch()
    launch.require_workspace(tmp_path)
    with pytest.raises(VoxseqError, match=f"the workspace is {tmp_path}"):
        launch.require_workspace(below)
