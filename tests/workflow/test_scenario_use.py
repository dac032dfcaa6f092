"""Scenarios 13 to 16: edits during a stage, forgotten runs, other disks, requests to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

Found = Callable[[int, str], None]


def recorded(study: Study) -> Any:
    """What dvc.lock says of the pre-training."""
    return yaml.safe_load((study.root / "dvc.lock").read_text())["stages"]["pretrain"]


def wait_for(words: str, process: subprocess.Popen[bytes], log: Path) -> None:
    while words not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("pretrain.steps", 6, "pretrain: 2 of the 2 jobs"),
        ("pretrain.methods.mae3d", None, ""),
        ("scale", "other", "scale other"),
        ("results", "results/other", "results/other"),
    ],
)
def test_parameters_edited_while_a_stage_runs(
    study: Study, tmp_path: Path, key: str, value: Any, said: str, found: Found
) -> None:
    before = recorded(study)
    study.change("pretrain.steps", 5)
    log = tmp_path / "log"
    process = study.start("dvc", "repro", "pretrain", log=log)
    wait_for("Pre-training", process, log)
    study.change(key, value)
    assert (process.wait() != 0) == bool(said), log.read_text()
    if said:
        assert said in log.read_text()
        assert recorded(study) == before
    else:
        # A method was taken out: what is left is what the parameters name.
        assert "mae3d" not in str(recorded(study)["params"])
        assert not any("mae3d" in path for path in study.versioned("pretrain"))
    assert study.root.joinpath("artifacts/tiny/pretrain/ours").is_dir()
    if key == "pretrain.steps":
        study.dvc("repro", "pretrain")
        assert recorded(study)["params"]["params.yaml"]["pretrain"]["steps"] == 6
        assert "Nothing to be done" in study.call("snakemake", "-n", "--", "pretrain")
        assert "pretrain" not in study.dvc("status", "pretrain")
        found(13, "parameters edited while a stage of DVC ran: it fails, and nothing is recorded")


def test_forgotten_runs_are_done_again(study: Study, found: Found) -> None:
    began = study.runs(), study.tables()
    said = study.call("snakemake", "--cores", "2", "--forcerun", "pretrain_method", fails=True)
    assert "voxseq forget" in said
    assert "voxseq forget pretrain" in study.dvc("repro", "--force", "--single-item", "pretrain")
    assert (study.runs(), study.tables()) == began
    expected = [
        *("pretrain/ours", "finetune/nodule/ours/s0", "finetune/task06_lung/ours/s0"),
        *("label_ratio/nodule/ours/r50_s0", "tables/all", "figures/all"),
    ]
    study.voxseq("forget", "--yes", "pretrain/ours")
    with study.computes(expected):
        study.run("snakemake")
    study.assert_nothing_to_do()
    assert (study.runs(), study.tables()) == began
    study.voxseq("forget", "--yes", "--only", "pretrain")
    with study.computes(["pretrain/mae3d", "pretrain/ours"]):
        study.run("dvc")
    study.assert_nothing_to_do()
    study.assert_whole()
    assert study.runs() == began[0]
    found(14, "force is refused with a word; forgotten runs and what follows are done again")


@pytest.mark.parametrize("place", ["artifacts", "artifacts/tiny"])
def test_artefacts_on_another_disk(study: Study, tmp_path: Path, place: str, found: Found) -> None:
    began = study.runs(), study.tables()
    (study.root / place).rename(tmp_path / "disk")
    (study.root / place).symlink_to(tmp_path / "disk")
    study.assert_nothing_to_do()
    study.change("report.bootstrap_samples", 30)
    study.change("pretrain.methods.mae3d.mask_ratio", 0.5)
    study.run("snakemake")
    study.assert_nothing_to_do()
    assert study.git("status", "--porcelain", "--", "artifacts") == ""
    study.commit("changed")
    study.git("checkout", "--quiet", "main~1")
    study.dvc("checkout")
    study.assert_nothing_to_do()
    assert (study.runs(), study.tables()) == began
    study.git("checkout", "--quiet", "main")
    study.dvc("checkout")
    with study.computes([]):
        study.run("dvc")
    study.assert_nothing_to_do()
    study.assert_whole()
    assert (study.root / place).is_symlink()
    found(15, f"{place} is a link to another folder: both engines agree, nothing is lost")


def test_ctrl_c_and_a_second_call(study: Study, tmp_path: Path, found: Found) -> None:
    study.change("pretrain.steps", 20_000)
    log = tmp_path / "log"
    process = study.start("snakemake", "--cores", "2", "--", "pretrain", log=log)
    try:
        while not list((study.root / ".voxseq/state").rglob("checkpoint.pt")):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        second = study.call("snakemake", "--cores", "2", "--", "pretrain", fails=True)
        assert f"process {process.pid}" in second
        assert "unlock" not in second.replace("nothing has to be unlocked", "")
        assert " running" in study.voxseq("plan", "--stage", "pretrain")
        assert f"kill {process.pid}" in study.voxseq("forget", "--yes", "pretrain", fails=True)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) != 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    said = log.read_text()
    assert said.rstrip().endswith("what is finished stays finished.")
    assert "At least one job did not complete" not in said
    found(16, "Ctrl-C ends in plain words; a second call names the first and unlocks nothing")
