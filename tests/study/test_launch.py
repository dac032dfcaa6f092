"""`voxseq run STUDY`: what Snakemake is asked for, and requests to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT
from voxseq.base.errors import VoxseqError
from voxseq.study import launch

#: Stands for Snakemake: notes its words, and on a request to stop the request.
STANDS_IN = """
import json, pathlib, signal, sys, time
def note(text): pathlib.Path("noted").write_text(text)
def stop(number, frame): note(signal.Signals(number).name); sys.exit(7)
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP): signal.signal(number, stop)
note(json.dumps(sys.argv[1:]))
while "wait" in sys.argv: time.sleep(0.05)
"""
CALL = """
from pathlib import Path
from voxseq.study.launch import snakemake
raise SystemExit(snakemake(Path("studies/a.yaml"), {target!r}, "2", ["-n"]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a module called snakemake comes before the real one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "snakemake.py").write_text(STANDS_IN)
    search = f"{tmp_path}{os.pathsep}{ROOT / 'src'}"
    monkeypatch.setenv("PYTHONPATH", search)
    return tmp_path


def started(target: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CALL.format(target=target)])


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists() and path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def test_snakemake_gets_the_file_and_the_target(folder: Path) -> None:
    assert started("pretrain").wait(60) == 0
    words = ["--cores", "2", "-n", "--configfile", "studies/a.yaml", "--", "pretrain"]
    assert (folder / "noted").read_text() == str(words).replace("'", '"')


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP"])
def test_requests_to_stop_are_passed_on_and_the_status_comes_back(folder: Path, name: str) -> None:
    process = started("wait")
    wait_for(folder / "noted")
    process.send_signal(signal.Signals[name])
    assert process.wait(60) == 7
    assert (folder / "noted").read_text() == name


def test_a_study_is_a_name_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VoxseqError, match="no studies here yet"):
        launch.study_file("mine")
    Path("studies").mkdir()
    for place in ("studies/mine.yaml", "other.yaml"):
        Path(place).touch()
    assert launch.study_file("mine") == Path("studies/mine.yaml")
    assert launch.study_file("other.yaml") == Path("other.yaml")
    with pytest.raises(VoxseqError, match="studies here: mine"):
        launch.study_file("yours")


def test_a_scale_is_no_study_and_the_message_says_how_to_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("workflow/scales").mkdir(parents=True)
    Path("workflow/scales/quick.yaml").touch()
    with pytest.raises(VoxseqError, match=r"write workflow/scales/quick\.yaml instead"):
        launch.study_file("quick")
    with pytest.raises(VoxseqError, match="write --overlay quick instead"):
        launch.study_file("quick", scales="--overlay {}")


def test_a_folder_without_the_workflow_is_refused(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    with pytest.raises(VoxseqError, match="voxseq new FOLDER"):
        launch.require_workspace(below)
    (tmp_path / "Snakefile").touch()
    launch.require_workspace(tmp_path)
    with pytest.raises(VoxseqError, match=f"the workspace is {tmp_path}"):
        launch.require_workspace(below)
