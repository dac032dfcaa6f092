"""A pre-training by two processes, started by the workflow."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.study import ARTEFACTS, Study

pytestmark = [pytest.mark.slow, pytest.mark.workflow]


def curve(study: Study) -> list[float]:
    with (study.root / ARTEFACTS / "pretrain/ours/metrics.csv").open() as handle:
        return [float(row["value"]) for row in csv.DictReader(handle) if row["name"] == "loss"]


def test_two_processes_make_nothing_stale_and_give_the_same_losses(
    study: Study, found: Callable[[int, str], None]
) -> None:
    alone = curve(study)
    study.change("execution.pretrain", {"processes": 2, "recompute": True})
    said = study.call("snakemake", "-n", "--", "pretrain")
    assert "Nothing to be done" in said, said[-3000:]
    shutil.rmtree(study.root / ARTEFACTS / "pretrain/ours")
    with study.computes(["pretrain/ours"]):
        study.call("snakemake", "--cores", "2", "--", "pretrain")
    assert curve(study) == pytest.approx(alone, rel=0, abs=1e-5)
    (log,) = (study.root / "logs/tiny/pretrain").glob("ours-*.log")
    assert "batch of 2 = 1 a device x 2 devices x 1 accumulated" in log.read_text()
    study.assert_whole()
    found(12, "a pre-training by two processes has the losses of one")


def test_a_request_to_stop_ends_two_processes_with_status_75(study: Study, tmp_path: Path) -> None:
    study.change("pretrain.steps", 20_000)
    log = tmp_path / "log"
    command = ("python", "-m", "voxseq", "run", "pretrain", "ours")
    script = ("bash", "workflow/scripts/distributed.sh", "1", "2")
    before = study.computed()
    process = study.start(*script, *command, log=log)
    try:
        while not list((study.root / ".voxseq/state").rglob("checkpoint.pt")):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=120) == 75, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert study.computed() == before
    assert "stopped at step" in log.read_text()
    (checkpoint,) = (study.root / ".voxseq/state").rglob("checkpoint.pt")
    assert str(checkpoint) in log.read_text()
