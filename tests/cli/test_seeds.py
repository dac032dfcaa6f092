"""Commands about the files of seeds: tables without training, and the comparison with git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.helpers.calling import Call
from voxseq.base.checksums import read_checksums
from voxseq.base.files import write_json
from voxseq.config import load_config
from voxseq.engine.markers import write_run_marker
from voxseq.engine.workspace import Workspace
from voxseq.plan import Run, build_plan
from voxseq.plan.outputs import seed_file
from voxseq.report.seeds.gather import seed_scores
from voxseq.report.seeds.model import write_seed

#: Two rows of Table 1 on one task.
RUNS = ("finetune/la/ours/s0", "finetune/la/unetr/s0")


@pytest.fixture
def trained(workspace: Path) -> Workspace:
    """A workspace with two finished runs, whose scores are in the file of seed 0."""
    works = Workspace(workspace, build_plan(load_config(workspace / "params.yaml")))
    for name, score in zip(RUNS, (0.75, 0.5), strict=True):
        finish(works, works.plan.runs[name], score)
    config = works.plan.runs["scores/s0"].config
    folders = {name: works.folder(works.plan.runs[name]) for name in RUNS}
    write_seed(workspace / "results" / seed_file(0), seed_scores(config, folders))
    return works


def finish(works: Workspace, run: Run, score: float) -> None:
    folder = works.folder(run)
    folder.mkdir(parents=True)
    rows = "".join(f"case{n},left atrium,dice,{score}\n" for n in range(4))
    (folder / "scores.csv").write_text(f"case,label,metric,value\n{rows}")
    write_json(folder / "summary.json", {"n_train": 9, "n_val": 2, "n_test": 4})
    write_json(folder / "config.json", {})
    write_run_marker(works.marker(run), run.id, run.fingerprint, {}, read_checksums)


def test_tables_are_made_of_the_files_alone(trained: Workspace, call: Call, tmp_path: Path) -> None:
    found = call("report", "results", "-o", str(tmp_path / "out"))
    assert "tables of 1 seed\n" in found.out
    assert found.err == ""
    row = next(line for line in found.out.splitlines() if line.startswith("AR (autoregressive) "))
    assert "75" in row
    assert (tmp_path / "out/tables/table1.csv").is_file()
    # A changed configuration leaves the seeds one study, which is said.
    params = trained.root / "params.yaml"
    params.write_text(params.read_text().replace("volume_shape: [32", "volume_shape: [24", 1))
    assert "another configuration" in call("report", "results", "-o", str(tmp_path / "two")).err


@pytest.mark.usefixtures("trained")
def test_files_that_cannot_be_used_are_named(call: Call, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "nowhere"):
        assert "has no seed-*.json" in call("report", str(folder), "-o", "x", status=2).err
    (empty / "seed-0.json").write_text("{")
    refused = call("report", str(empty), "-o", "x", status=2).err
    assert "left out: " in refused
    assert "no seed of" in refused


def test_a_machine_is_compared_with_what_is_committed(trained: Workspace, call: Call) -> None:
    place = trained.root
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")

    def git(*words: str) -> None:
        subprocess.run(["git", *who, *words], cwd=place, check=True, capture_output=True)

    assert "seed 0: 2 of 2 runs that are finished here are as committed" in call("verify-lock").out
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "nothing")
    assert "nothing to compare" in call("verify-lock", status=2).err
    git("add", "results")
    git("commit", "--quiet", "-m", "seed 0")
    assert "2 of 2 runs" in call("verify-lock").out
    run = trained.plan.runs[RUNS[0]]
    path = trained.folder(run) / "scores.csv"
    path.write_text(
        path.read_text().replace("case2,left atrium,dice,0.75", "case2,left atrium,dice,0.25")
    )
    refused = call("verify-lock", status=2)
    assert f"unlike: {run.id}: other numbers: 1 of 4, the largest difference is 0.5" in refused.out
    assert "1 of 2 runs are not as committed" in refused.err
