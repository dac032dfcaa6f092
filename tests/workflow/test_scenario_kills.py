"""Scenario 7: ``kill -9`` at random moments, and the study ends as if undisturbed."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import REFUSED, Killer, Tally
from study import Study

from voxseq.locks import take

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

#: Number of kills; `make test-faults` asks for twenty.
KILLS = int(os.environ.get("VOXSEQ_KILLS", "4"))


def test_kills_at_random_moments(
    fresh: Study, finished: Study, tmp_path: Path, found: Callable[[int, str], None]
) -> None:
    rng, tally = random.Random(7), Tally()
    rounds = runs = repeated = 0
    while tally.total < KILLS:
        rounds += 1
        study = fresh.copy(tmp_path / f"round{rounds}" / "study")
        killer = Killer(study, rng, tally)
        try:
            killer.until_finished(KILLS)
        finally:
            killer.stop()
        study.assert_nothing_to_do()
        study.assert_whole()
        times = Counter((line["run"], line["fingerprint"]) for line in study.history())
        runs += len(times)
        repeated += sum(times.values()) - len(times)
        assert study.runs() == finished.runs()
        assert study.tables() == finished.tables()
    assert repeated == 0
    kinds = ", ".join(f"{kind} {n}" for kind, n in tally.kills.items() if n)
    found(
        7,
        f"{tally.total} kills ({kinds}) in {tally.calls} calls and {rounds} studies, {runs} runs, "
        f"{repeated} repeated, tables identical; a second workflow said so {tally.refused} times, "
        f"dvc.lock was cut short {tally.torn} times",
    )


def test_traces_of_kills_are_cleared(study: Study, found: Callable[[int, str], None]) -> None:
    """The moments that chance seldom hits, one after the other."""
    call = ("snakemake", "--cores", "2", "--", "reproduce_tables")
    study.change("report.bootstrap_samples", 30)
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
    (study.root / "artifacts/tiny/pretrain/mae3d/encoder.safetensors").unlink()
    with study.computes(["finetune/nodule/ours/s0", "pretrain/mae3d"]):
        study.run("dvc")
    study.assert_nothing_to_do()
    found(7, "a held lock names its owner; stale locks, unrecorded results, a cut dvc.lock: mended")
