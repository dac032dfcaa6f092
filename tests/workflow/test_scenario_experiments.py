"""Scenario 9: experiments of DVC, in the workspace and from the queue."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

KEY = "finetune.tasks.task06_lung.steps"
QUEUED = {"longer": 3, "longest": 4}
SCORE = "metrics.json"


def test_experiments(study: Study, found: Callable[[int, str], None]) -> None:
    began = study.runs(), study.tables(), study.params()
    for name, steps in QUEUED.items():
        study.dvc("exp", "run", "--queue", "--name", name, "--set-param", f"{KEY}={steps}")
    study.dvc("exp", "run", "--run-all", "--jobs", "1")
    assert (study.runs(), study.tables(), study.params()) == began
    study.assert_nothing_to_do()
    assert study.git("status", "--porcelain", "--", "params.yaml", "results", "dvc.lock") == ""

    of_task = [f"finetune/task06_lung/{m}/s0" for m in ("mae3d", "ours", "unetr")]
    with study.computes([*of_task, "tables/all", "figures/all"]):
        study.dvc("exp", "run", "--name", "shorter", "--set-param", f"{KEY}=1")
    study.assert_nothing_to_do()
    study.git("checkout", "--quiet", "--", "params.yaml", "dvc.lock", "results")
    study.dvc("checkout")
    assert (study.runs(), study.tables(), study.params()) == began
    study.assert_nothing_to_do()

    rows = list(csv.DictReader(io.StringIO(study.dvc("exp", "show", "--csv", "--no-pager"))))
    shown = {row["Experiment"]: row for row in rows}
    wanted = {**QUEUED, "shorter": 1}
    assert {name: int(shown[name][KEY]) for name in wanted} == wanted
    scores = [key for key in rows[0] if key.endswith(("dice", "auc", "mean")) or "task06" in key]
    assert scores, list(rows[0])
    different = {tuple(shown[name][key] for key in scores) for name in wanted}
    assert len(different) == len(wanted)
    found(9, f"{len(wanted)} experiments, two of them queued: own results, workspace as it was")


def test_scores_are_metrics_of_dvc(finished: Study, root: Path) -> None:
    assert (finished.root / "results/tiny" / SCORE).is_file()
    assert "metrics.json" in (root / "dvc.yaml").read_text()
