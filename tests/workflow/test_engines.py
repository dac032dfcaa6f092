"""The short form of the scenarios, run at every submission."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.killing import REFUSED
from tests.helpers.study import RESULTS, Found, Study
from voxseq.base.locks import take

pytestmark = pytest.mark.slow


def test_an_older_commit_and_a_clone_have_nothing_to_do(study: Study, tmp_path: Path) -> None:
    began = study.state()
    study.assert_nothing_to_do()
    study.change("report.max_curve_points", 30)
    with study.computes(["tables/all", "figures/all"]):
        study.run("snakemake")
    went = study.state()
    study.push(str(tmp_path / "remote"), "other tables")
    clone = study.clone(tmp_path / "clone")
    clone.dvc("pull")
    clone.assert_nothing_to_do()
    assert clone.state() == went
    for commit, state in (("main~1", began), ("main", went)):
        study.git("checkout", "--quiet", commit)
        study.dvc("checkout")
        study.assert_nothing_to_do()
        assert study.state() == state


def test_results_are_those_of_the_parameters_and_stay_published(study: Study) -> None:
    before = study.published()
    shutil.rmtree(study.root / RESULTS)
    with study.computes([]):
        assert "published anew" in study.run("dvc")
    assert study.published() == before
    study.assert_nothing_to_do()
    study.change("report.max_curve_points", 30)
    table = f"{RESULTS}/tables/differences.md"
    assert "make_tables" in study.call("snakemake", "-n", "--", table)
    with study.computes(["tables/all"]):
        study.call("snakemake", "--cores", "1", "--", table)
    assert study.published()["tables/differences.md"] == before["tables/differences.md"]


def test_traces_of_kills_are_cleared(study: Study, found: Found) -> None:
    """The moments that chance seldom hits, one after the other."""
    call = ("snakemake", "--cores", "2", "--", "reproduce_tables")
    study.change("report.max_curve_points", 30)
    lock = study.root / ".voxseq/locks/tiny/workflow.lock"
    with take(lock, "a test"):
        said = study.call(*call, fails=True)
        assert REFUSED in said
        assert f"kill {os.getpid()}" in said
        assert study.call("snakemake", "-n", "--", "reproduce_tables").count("make_tables")

    # Killed while it worked: its own locks stay. Killed after the last job: DVC was not told.
    stale = study.root / ".snakemake/locks/0.output.lock"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_text("\n".join(study.planned()) + "\n")
    # Killed while the machine's clock was wrong.
    for marker in study.planned():
        os.utime(study.root / marker, (4e9, 4e9))
    with study.computes(["tables/all", "figures/all"]):
        study.call(*call[:-2], "--no-hooks", *call[-2:])
    assert "modified" in study.dvc("status")
    with study.computes([]):
        assert "before its results were recorded" in study.run("snakemake")
    study.assert_nothing_to_do()

    # Killed while DVC wrote its file.
    record = study.root / "dvc.lock"
    record.write_text(record.read_text()[:-100])
    assert "up to date" not in study.attempt("dvc", "status").said
    study.voxseq("record")
    study.assert_nothing_to_do()

    # Somebody deleted results, or cut a file short, in a stage that is finished.
    (study.root / "artifacts/tiny/finetune/nodule/ours/s0/scores.csv").write_text("")
    (study.root / "artifacts/tiny/pretrain/mae3d/s0/encoder.safetensors").unlink()
    with study.computes(["finetune/nodule/ours/s0", "pretrain/mae3d/s0"]):
        study.run("dvc")
    study.assert_nothing_to_do()
    found(7, "a held lock names its owner; stale locks, unrecorded results, a cut dvc.lock: mended")


def test_volumes_are_verified_before_a_training_holds_a_gpu(study: Study) -> None:
    """By a job of its own, once for all trainings, and only where one is to be done."""
    overlay = study.root / "gpu.yaml"
    overlay.write_text("execution: {pretrain: {gpu: 1}}")
    words = ("snakemake", "--cores", "2", "--configfile", overlay.name)
    assert "Nothing to be done" in study.call(*words, "-n", "--", "pretrain")
    before = study.runs()
    study.voxseq("forget", "--yes", "--only", "pretrain/ours", "pretrain/mae3d")
    with study.computes(["pretrain/ours/s0", "pretrain/mae3d/s0"]):
        said = study.call(*words, "--", "pretrain")
    assert said.count("Comparing the volumes of phantoms.s0.part0") == 1
    assert said.index("Comparing the volumes") < said.index("Pre-training")
    assert study.runs() == before
    known = study.root / ".voxseq/verified/tiny"
    assert list((known / "preprocess").glob("source~amos22~s0.json"))
    assert not list((known / "jobs").glob("*"))
    study.assert_nothing_to_do()

    # Damage ends the call before a training begins; the next call mends it.
    volume = next(
        (study.root / "artifacts/tiny/preprocess/source/amos22/s0").rglob("volumes-*.bin")
    )
    study.voxseq("forget", "--yes", "--only", "pretrain/ours")
    volume.chmod(0o644)
    content = bytearray(volume.read_bytes())
    content[-1] ^= 1
    volume.write_bytes(content)
    with study.computes([]):
        said = study.call(*words, "--", "pretrain", fails=True)
    assert f"{volume.name} does not have its recorded checksum" in said
    with study.computes(["preprocess/source/amos22/s0", "pretrain/ours/s0"]):
        study.call(*words, "--", "pretrain")
    assert study.runs() == before
