"""Scenarios 12 to 20: several processes, other hands and disks, stops, edited results."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.study import ARTEFACTS, COMMANDS, RESULTS, Found, Study

pytestmark = pytest.mark.slow


def curve(study: Study) -> list[float]:
    with (study.root / ARTEFACTS / "pretrain/ours/s0/metrics.csv").open() as handle:
        return [float(row["value"]) for row in csv.DictReader(handle) if row["name"] == "loss"]


def test_two_processes_make_nothing_stale_and_give_the_same_losses(
    study: Study, found: Found
) -> None:
    alone = curve(study)
    study.change("execution.pretrain", {"processes": 2, "recompute": True})
    said = study.call("snakemake", "-n", "--", "pretrain")
    assert "Nothing to be done" in said, said[-3000:]
    shutil.rmtree(study.root / ARTEFACTS / "pretrain/ours/s0")
    with study.computes(["pretrain/ours/s0"]):
        study.call("snakemake", "--cores", "2", "--", "pretrain")
    assert curve(study) == pytest.approx(alone, rel=0, abs=1e-5)
    (log,) = (study.root / "logs/tiny/pretrain").glob("ours-*.log")
    assert "batch of 2 = 1 a device x 2 devices x 1 accumulated" in log.read_text()
    study.assert_whole()
    found(12, "a pre-training by two processes has the losses of one")


def test_a_request_to_stop_ends_two_processes_with_status_75(study: Study, tmp_path: Path) -> None:
    study.change("pretrain.steps", 20_000)
    log = tmp_path / "log"
    command = ("python", "-m", "voxseq", "job", "pretrain", "ours.s0")
    script = ("bash", "workflow/scripts/distributed.sh", "1", "2")
    before = study.computed()
    with study.working(*script, *command, log=log) as process:
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=120) == 75, log.read_text()
    assert study.computed() == before
    assert "stopped at step" in log.read_text()
    (checkpoint,) = (study.root / ".voxseq/state").rglob("checkpoint.pt")
    assert str(checkpoint) in log.read_text()


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
    before = study.record()["stages"]["pretrain"]
    study.change("pretrain.steps", 5)
    log = tmp_path / "log"
    process = study.start("dvc", "repro", "pretrain", log=log)
    while "Pre-training" not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    study.change(key, value)
    assert (process.wait() != 0) == bool(said), log.read_text()
    if said:
        assert said in log.read_text()
        assert study.record()["stages"]["pretrain"] == before
    else:
        # A method was taken out: what is left is what the parameters name.
        assert "mae3d" not in str(study.record()["stages"]["pretrain"]["params"])
        assert not any("mae3d" in path for path in study.versioned("pretrain"))
    assert study.root.joinpath("artifacts/tiny/pretrain/ours").is_dir()
    if key == "pretrain.steps":
        study.dvc("repro", "pretrain")
        assert (
            study.record()["stages"]["pretrain"]["params"]["params.yaml"]["pretrain"]["steps"] == 6
        )
        assert "Nothing to be done" in study.call("snakemake", "-n", "--", "pretrain")
        assert "pretrain" not in study.dvc("status", "pretrain")
        found(13, "parameters edited while a stage of DVC ran: it fails, and nothing is recorded")


def test_forgotten_runs_are_done_again(study: Study, found: Found) -> None:
    began = study.state()
    said = study.call("snakemake", "--cores", "2", "--forcerun", "pretrain_method", fails=True)
    assert "voxseq forget" in said
    assert "voxseq forget pretrain" in study.dvc("repro", "--force", "--single-item", "pretrain")
    assert study.state() == began
    expected = [
        *("pretrain/ours/s0", "finetune/nodule/ours/s0", "finetune/task06_lung/ours/s0"),
        *("label_ratio/nodule/ours/r50_s0", "scores/s0", "tables/all", "figures/all"),
    ]
    study.voxseq("forget", "--yes", "pretrain/ours")
    with study.computes(expected):
        study.run("snakemake")
    study.assert_nothing_to_do()
    assert study.state() == began
    study.voxseq("forget", "--yes", "--only", "pretrain")
    with study.computes(["pretrain/mae3d/s0", "pretrain/ours/s0"]):
        study.run("dvc")
    study.assert_nothing_to_do()
    study.assert_whole()
    assert study.runs() == began[0]
    found(14, "force is refused with a word; forgotten runs and what follows are done again")


@pytest.mark.parametrize("place", ["artifacts", "artifacts/tiny"])
def test_artefacts_on_another_disk(study: Study, tmp_path: Path, place: str, found: Found) -> None:
    began = study.state()
    (study.root / place).rename(tmp_path / "disk")
    (study.root / place).symlink_to(tmp_path / "disk")
    study.assert_nothing_to_do()
    study.change("report.max_curve_points", 30)
    study.change("pretrain.methods.mae3d.mask_ratio", 0.5)
    study.run("snakemake")
    study.assert_nothing_to_do()
    assert study.git("status", "--porcelain", "--", "artifacts") == ""
    study.commit("changed")
    study.git("checkout", "--quiet", "main~1")
    study.dvc("checkout")
    study.assert_nothing_to_do()
    assert study.state() == began
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
    with study.working("snakemake", "--cores", "2", "--", "pretrain", log=log) as process:
        second = study.call("snakemake", "--cores", "2", "--", "pretrain", fails=True)
        assert f"process {process.pid}" in second
        assert "unlock" not in second.replace("nothing has to be unlocked", "")
        assert " running" in study.voxseq("plan", "--stage", "pretrain")
        assert f"kill {process.pid}" in study.voxseq("forget", "--yes", "pretrain", fails=True)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) != 0
    said = log.read_text()
    assert said.rstrip().endswith("finished runs are kept.")
    assert "At least one job did not complete" not in said
    found(16, "Ctrl-C ends in plain words; a second call names the first and unlocks nothing")


def test_a_lost_terminal_stops_trainings_at_a_checkpoint(study: Study, tmp_path: Path) -> None:
    study.change("pretrain.steps", 20_000)
    log = tmp_path / "log"
    with study.working("snakemake", "--cores", "2", "--", "pretrain", log=log) as process:
        assert "running  pretrain/" in study.voxseq("status")
        os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(timeout=120) != 0
    logs = [path.read_text() for path in (study.root / "logs/tiny/pretrain").glob("*.log")]
    assert any("stopped at step" in text for text in logs), log.read_text()
    said = study.voxseq("status")
    assert ": stopped at step" in said
    assert " running" not in said.splitlines()[0]


def test_a_run_ends_with_the_request_or_the_error(study: Study, tmp_path: Path) -> None:
    (study.root / "longer.yaml").write_text("pretrain: {steps: 20000}\n")
    words = ("python", "-m", "voxseq", "run", "longer.yaml", "pretrain")
    log = tmp_path / "log"
    with study.working(*words, log=log) as process:
        # To one process only, as a tool does that knows no other.
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 75
    assert log.read_text().endswith("\nstopped; the same command resumes\n")
    said = study.voxseq("status", "--overlay", "longer.yaml")
    assert ": stopped at step" in said
    assert " running" not in said.splitlines()[0]

    volumes = study.root / ARTEFACTS / "preprocess/source"
    damaged = max(volumes.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    damaged.chmod(0o644)
    damaged.write_bytes(bytes(byte ^ 1 for byte in damaged.read_bytes()))
    done = study.attempt(*words)
    assert done.status == 1
    *_, error, hint, place, last = done.said.splitlines()
    assert error.startswith("error: ")
    assert damaged.name in error
    assert hint.startswith("  next: ")
    assert (study.root / place.removeprefix("  log: ")).is_file()
    assert last.endswith("The same command resumes; finished runs are kept.")


DRY = ("snakemake", "-n", "--", "reproduce_tables")
EMPTY = {
    "ablation!": {"tasks": [], "variants": {}},
    "label_ratio": {"tasks": []},
    "beyond!": {"token_order": [], "recipes": [], "frozen": [], "trivial": []},
}


@pytest.mark.parametrize("engine", COMMANDS)
def test_deleted_and_edited_results_are_published_anew(
    study: Study, engine: str, found: Found
) -> None:
    results, before = study.root / RESULTS, study.published()
    record = (study.root / "dvc.lock").read_bytes()

    shutil.rmtree(results)
    assert "missing" in study.voxseq("where")
    assert "missing" in study.voxseq("verify", "tables", fails=True)
    with study.computes([]):
        assert "published anew" in study.run(engine)
    assert study.published() == before

    (results / "tables/table1.md").write_text("<<<<<<< HEAD")
    (results / "metrics.json").unlink()
    (results / "figures/notes.png").write_text("somebody's own")
    assert "edited" in study.voxseq("where")
    with study.computes([]):
        study.run(engine)
    assert study.published() == before
    kept = study.root / ".voxseq/replaced/tiny"
    assert (kept / "figures/notes.png").read_text() == "somebody's own"
    study.assert_nothing_to_do()

    shutil.rmtree(results)
    study.voxseq("record")
    assert (study.root / "dvc.lock").read_bytes() == record

    # Artefacts are gone as well: they are made again.
    shutil.rmtree(results)
    shutil.rmtree(study.root / ARTEFACTS / "tables")
    assert "make_tables" in study.call(*DRY)
    with study.computes(["tables/all"]):
        study.run(engine)
    assert study.published() == before
    study.assert_nothing_to_do()
    found(17, f"{engine}: deleted, edited and surplus results published anew, 0 runs computed")


def test_a_clone_without_results_gets_them_from_pulled_artefacts(
    study: Study, tmp_path: Path, found: Found
) -> None:
    study.git("rm", "-r", "--quiet", "--cached", RESULTS)
    ignored = study.root / ".gitignore"
    ignored.write_text(ignored.read_text().replace(f"!/{RESULTS}/\n", ""))
    study.push(str(tmp_path / "remote"), "results are not versioned")
    clone = study.clone(tmp_path / "clone")
    clone.dvc("pull")
    assert not (clone.root / RESULTS).exists()
    with clone.computes([]):
        assert "published anew" in clone.run("dvc")
    clone.assert_nothing_to_do()
    there, here = clone.published(), study.published()
    assert set(there) == set(here)
    costs = {name for name in here if name.startswith("cost/")}
    assert {name for name in here if here[name] != there[name]} == costs
    assert b"Not available" in there["cost/index.html"]
    found(17, "a clone without results: published from pulled artefacts, costs not available")


def test_a_file_is_made_by_the_run_that_the_parameters_name(
    finished: Study, tmp_path: Path, found: Found
) -> None:
    clone = finished.clone(tmp_path / "clone")
    clone.change("pretrain.steps", 3)
    before = clone.published()
    assert "not made with the present parameters" in clone.voxseq("where")
    for name in ("tables/table1.md", "figures/heatmap.png", "report/index.html", "metrics.json"):
        said = clone.call("snakemake", "-n", "--", f"{RESULTS}/{name}")
        assert "Nothing to be done" not in said, said[-3000:]
        assert "pretrain_method" in said
    assert clone.published() == before
    table = f"{RESULTS}/tables/table1.csv"
    clone.call("snakemake", "--cores", "2", "--", table)
    assert clone.published()["tables/table1.csv"] != before["tables/table1.csv"]
    assert "tables/all" in clone.computed()
    assert "Nothing to be done" in clone.call("snakemake", "-n", "--", table)
    assert "make_figures" in clone.call("snakemake", "-n", "--", f"{RESULTS}/figures/heatmap.png")
    found(18, "a file of a fresh clone with other parameters: made anew, never taken for them")


def test_a_second_run_elsewhere_leaves_the_same_record(
    fresh: Study, finished: Study, tmp_path: Path, found: Found
) -> None:
    other = fresh.copy(tmp_path / "another folder" / "study")
    other.extra["TZ"] = "Pacific/Chatham"
    # Every process is a new one, as everybody's are; those of the finished study were forked.
    subprocess.run(COMMANDS["snakemake"], cwd=other.root, env=other.environment, check=True)
    assert (other.root / "dvc.lock").read_bytes() == (finished.root / "dvc.lock").read_bytes()
    there, here = other.published(), finished.published()
    costs = {name for name in here if name.startswith("cost/")}
    assert {name for name in here if here[name] != there[name]} <= costs
    found(19, "two fresh runs: the same dvc.lock to the byte, costs alone differ")


def test_a_phase_of_a_study_with_empty_stages(fresh: Study, tmp_path: Path, found: Found) -> None:
    study = fresh.copy(tmp_path / "study")
    study.lay(EMPTY)
    for phase, recorded in (
        ("download", {"download"}),
        ("preprocess", {"download", "preprocess"}),
        ("data", {"download", "preprocess", "sequences", "ablation"}),
    ):
        study.call("snakemake", "--cores", "1", "--", phase)
        assert set(study.record()["stages"]) == recorded
    assert "Nothing to be done" in study.call("snakemake", "-n", "--", "data")
    found(20, "phases of a study with empty stages: recorded when their inputs are there")
