"""Scenarios 1 and 2: everything is done by one engine, and the other has nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.workflow]


def test_snakemake_runs_and_dvc_is_clean(
    finished: Study, found: Callable[[int, str], None]
) -> None:
    finished.assert_nothing_to_do()
    finished.assert_whole()
    done = finished.computed()
    assert len(done) == len(set(done)) == len(finished.runs())
    found(1, f"Snakemake did {len(done)} runs; `dvc status` is clean")


def test_dvc_runs_and_snakemake_has_nothing_to_do(
    fresh: Study, finished: Study, tmp_path: Path, found: Callable[[int, str], None]
) -> None:
    study = fresh.copy(tmp_path / "study")
    study.run("dvc")
    study.assert_nothing_to_do()
    assert study.runs() == finished.runs()
    assert study.tables() == finished.tables()
    assert study.record() == finished.record()
    found(2, f"DVC did {len(study.computed())} runs; Snakemake has nothing to do; equal results")
