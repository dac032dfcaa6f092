"""Scenario 7: ``kill -9`` at random moments, and the study ends as if undisturbed."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.killing import Killer, Tally
from tests.helpers.study import Study

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
