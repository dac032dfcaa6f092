"""Arithmetic and table of the measurements; nothing is timed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.flops import counted
from benchmarks.harness import (
    Unmeasured,
    exponent,
    faster,
    figure,
    in_process,
    in_turn,
    peak_mib,
    smaller,
)
from benchmarks.material import demo_config, typical_step
from benchmarks.table import document, line
from voxseq.base.random import torch_generator
from voxseq.config.methods import OursSettings
from voxseq.pretrain.methods.ours import AutoregressiveMethod

SECONDS = {"ours": [1.0, 2.0, 4.0], "other": [3.0, 4.0, 20.0]}


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    row = faster("a", "b", SECONDS, 2.5, items=10)
    assert (row.ratio, row.low, row.high, row.rounds) == (3.0, 2.0, 5.0, 3)
    assert (row.ours, row.other, row.unit, row.is_met) == (200.0, 400.0, "ms", True)
    # Less is better for sizes.
    row = smaller("a", "b", SECONDS, 0.3, "MiB")
    assert row.ratio == pytest.approx(1 / 3)
    assert not row.is_met
    assert smaller("a", "b", SECONDS, None, "MiB").is_met is None
    assert figure("a", "the clock", [3.0, 1.0, 2.0], 2.0, "s", "at most").is_met
    assert not figure("a", "the clock", [3.0, 1.0, 2.0], 2.1, "s", "at least").is_met


def test_no_side_always_follows_the_other() -> None:
    assert in_turn(3, ["a", "b"]) == [["a", "b"], ["b", "a"], ["a", "b"]]


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5])
def test_exponents(power: float) -> None:
    sizes = (1, 10, 100)
    assert exponent(sizes, [3 * n**power for n in sizes]) == pytest.approx(power, abs=1e-12)


@pytest.mark.slow
def test_memory_is_that_of_the_work_alone() -> None:
    held = np.ones(2**23)
    # Pages that the system takes back meanwhile are missing in the growth, never too many in it.
    grown = max(peak_mib(lambda: np.ones(2**22).sum()) for _ in range(3))
    assert held.nbytes == 2**26
    assert 31 < grown < 48
    grown, found = in_process(partial(sum, [1, 2]), "spawn")
    assert (found, grown < 16) == (3, True)
    with pytest.raises(RuntimeError, match="status 1"):
        peak_mib(lambda: 1 / 0)


def test_operations_of_products_and_attention() -> None:
    left = torch.zeros(3, 5, requires_grad=True)
    assert counted(lambda: left @ torch.zeros(5, 7)) == 2 * 3 * 5 * 7
    query, key = torch.zeros(2, 4, 6, 8), torch.zeros(2, 4, 9, 8)
    found = counted(lambda: torch.nn.functional.scaled_dot_product_attention(query, key, key))
    assert found == 2 * (2 * 4) * 2 * 6 * 9 * 8


def test_the_step_that_is_measured_scores_half_of_its_tokens() -> None:
    config = demo_config()
    method = AutoregressiveMethod(OursSettings(), config.encoder, config.sequences, 0)
    step = typical_step(method, 16)
    prefix = method.draw_prefix(16, torch_generator(0, "method", step))
    assert 0.48 <= 1 - float(prefix.float().mean()) / method.length <= 0.52


def test_the_table_names_what_is_missed_and_what_is_not_measured() -> None:
    rows = [
        faster("quick", "slow", SECONDS, 2.5, "sizes of it"),
        smaller("large", "small", SECONDS, 0.3, "MiB"),
        Unmeasured("demo", "a finished demo"),
    ]
    page = document(rows, ["2 cores"], 120)
    lines = page.splitlines()
    assert (
        "| quick | slow | 2000 | 4000 | ms | 3 | 2 to 5 | 3 | ≥ 2.5 | yes | sizes of it |" in lines
    )
    assert any(text.startswith("| large |") and "**no**" in text for text in lines)
    assert any("not measured" in text and "a finished demo" in text for text in lines)
    assert line(rows[1]).endswith("MISSED")
    assert "- 2 cores" in lines
