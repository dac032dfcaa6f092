"""Index and sequence building at a twentieth of the paper's counts, with the bounds in proportion.

``benchmarks/large_index.py`` does the same at full size, where the bounds are 10 minutes and 4 GiB.
"""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers import ROOT
from voxseq.sequences.build import distinct_draws

SCRIPT = ROOT / "benchmarks/large_index.py"
SHARE = 0.05
FULL_SECONDS, FULL_MB = 600, 4096
#: What Python and its libraries take before the first row.
IMPORTS_MB = 500


@pytest.fixture(scope="module")
def benchmark() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("large_index", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_simulated_counts_are_the_papers(benchmark: types.ModuleType) -> None:
    assert sum(benchmark.SPATIAL.values()) == 23_287
    assert len(benchmark.SPATIAL) == 12
    config = benchmark.paper()
    simulated = {*benchmark.SPATIAL, "brats23", "deeplesion"}
    assert simulated == {s.dataset for s in config.sequences.sources}
    assert set(benchmark.TASKS) == {t.dataset for t in config.finetune.tasks.values()}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
def test_a_twentieth_of_the_paper_keeps_its_share_of_the_bounds(tmp_path: Path) -> None:
    """In a process of its own, whose largest memory is measured."""
    words = [sys.executable, str(SCRIPT), "--share", str(SHARE), "--folder", str(tmp_path / "x")]
    before = _cpu_seconds()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Of the processor, so that a busy machine is no failure; imports are included.
    assert _cpu_seconds() - before < SHARE * FULL_SECONDS
    line = next(row for row in done.stdout.splitlines() if row.startswith("all but simulate"))
    assert float(line.split()[-1]) < IMPORTS_MB + SHARE * FULL_MB
    index = tmp_path / "x" / "sequences"
    semantic = pd.read_parquet(index / "semantic.parquet")
    items = pd.read_parquet(index / "semantic_items.parquet")
    assert len(items) == round(9816 * SHARE)
    assert semantic.groupby("category").size().tolist() == [1000] * 8
    contrast = pd.read_parquet(index / "contrast.parquet")
    assert len(contrast) == 100 * round(2995 * SHARE)
    spatial = pd.read_parquet(index / "spatial.parquet")
    # 33 crops of a volume thinner than 128, 50 of any other.
    per_volume = spatial.groupby(["store", "row"]).size()
    assert set(per_volume) == {33, 50}
    assert len(per_volume) == pytest.approx(23_287 * SHARE, abs=12)


@pytest.mark.parametrize("count", [4, 9, 100])
def test_draws_do_not_depend_on_how_many_keys_are_held(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    whole = distinct_draws(count, 4, 50, np.random.default_rng(3))
    monkeypatch.setattr("voxseq.sequences.build._KEYS", 7 * count)
    parts = distinct_draws(count, 4, 50, np.random.default_rng(3))
    assert np.array_equal(whole, parts)
    assert whole.shape == (50, 4)
    assert all(len(set(row)) == 4 for row in whole.tolist())
    assert set(whole.ravel().tolist()) <= set(range(count))
