"""Snakemake plans the paper's study where no data set is."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT
from voxseq.config import load_config, read_yaml
from voxseq.plan import build_plan

#: Seconds of one core.
MOST = 20


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
def test_the_dry_run_needs_no_data_and_little_time(tmp_path: Path) -> None:
    for name in ("Snakefile", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("src", "workflow", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    left_out = ("VOXSEQ_DATA", "XDG_CACHE_HOME")
    # Nobody can write in this home.
    environment = {k: v for k, v in os.environ.items() if k not in left_out} | {"HOME": "/dev/null"}
    # Without a target everything is asked for.
    words = ["snakemake", "--configfile", "workflow/scales/paper.yaml", "-n"]
    before = _cpu_seconds()
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    used = _cpu_seconds() - before
    assert done.returncode == 0, done.stderr[-2000:]
    config = load_config(ROOT / "params.yaml", [read_yaml(ROOT / "workflow/scales/paper.yaml")])
    plan = build_plan(config)
    # One more is the target of everything. Trainings on a GPU wait until volumes are verified.
    wanted = len(plan.jobs) + len(plan.of_stage("preprocess")) + 1
    said = (done.stdout + done.stderr).splitlines()
    assert any(re.fullmatch(rf"total +{wanted}", line) for line in said)
    # One screen.
    assert len(said) < 40
    assert max(map(len, said)) < 160
    # Of the processor, so that a busy machine is no failure.
    assert used < MOST
