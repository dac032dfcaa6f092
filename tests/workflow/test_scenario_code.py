"""Scenario 8: source files are edited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

TRAINED = ("ablation/finetune/", "finetune/", "label_ratio/")


def append(study: Study, name: str, text: str) -> None:
    path = study.root / "src/voxseq" / name
    path.write_text(path.read_text() + text)


def test_edits_of_code(study: Study, found: Callable[[int, str], None]) -> None:
    append(study, "evaluation/dice.py", "\n# A remark.\n")
    append(study, "pretrain/base.py", "\n# A remark.\n")
    study.voxseq("code", "check")
    study.assert_nothing_to_do()

    append(study, "pretrain/base.py", "\n_SAME_RESULTS = True\n")
    assert "pretrain" in study.voxseq("code", "check", fails=True)
    study.voxseq("code", "keep", "pretrain")
    study.voxseq("code", "check")
    study.assert_nothing_to_do()

    append(study, "finetune/run.py", "\n_OTHER_RESULTS = True\n")
    assert "finetune" in study.voxseq("code", "check", fails=True)
    study.assert_nothing_to_do()
    study.voxseq("code", "bump", "finetune")
    study.voxseq("code", "check")
    expected = [run for run in study.computed() if run.startswith(TRAINED)]
    assert len(expected) == 7
    with study.computes([*expected, "tables/all", "figures/all"]):
        study.run("snakemake")
    study.assert_nothing_to_do()
    found(
        8,
        "remarks and a kept edit: nothing to do; an edit of unknown effect: `voxseq code check` "
        f"fails; a bumped action: {len(expected) + 2} runs that use it",
    )


def test_continuous_integration_asks_whether_results_change(root: Path) -> None:
    lint = (root / "Makefile").read_text().split("\nlint:", 1)[1].split("\n\n")[0]
    assert "voxseq code check" in lint
    assert "make lint" in (root / ".ci/run").read_text()
