"""Floating-point operations of a training step, and the rate that a matrix product reaches.

Counted are matrix products, convolutions and attention, forward and backward; a multiply-add is
two operations. What an implementation computes twice to save memory, as attention does with its
scores, is counted once: only useful work counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import ROUNDS, Row, share, timed
from voxseq.training.memory import keep_freed_memory

_SIDE = 2048
_PRODUCTS = 3


def _attention(
    query: Sequence[int], key: Sequence[int], *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    """Scores and their product with the values: (N, d) times (d, M) and back, for each head."""
    batch, heads, count, width = query
    return 4 * batch * heads * count * key[2] * width


def _attention_backward(
    gradient: Any, query: Sequence[int], key: Sequence[int], *args: Any, **kwargs: Any
) -> int:
    """Four products of the same size."""
    return 2 * _attention(query, key)


#: torch's counter knows the attention of other devices only.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def prepare() -> None:
    """Settings of a training; benchmarks call its parts one by one."""
    torch.set_num_threads(1)
    keep_freed_memory()


def counted(work: Callable[[], object]) -> int:
    """Operations of one call."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        work()
    return int(counter.get_total_flops())


def product_rate() -> float:
    """Operations a second of a product of two 2048 × 2048 matrices in fp32."""
    left, right = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    seconds = statistics.median(timed(lambda: left @ right) for _ in range(_PRODUCTS))
    return 2 * _SIDE**3 / seconds


def share_of_product(
    name: str,
    step: Callable[[], object],
    flops: int,
    target: float | None,
    note: str,
    rounds: int = ROUNDS,
    calls: int = 1,
) -> Row:
    """A row on the rate of a step over that of a matrix product, measured before and after it.

    Args:
        name: what is measured.
        step: a whole training step, which has been done before: the first one allocates.
        flops: its operations.
        target: smallest share that is wanted.
        note: sizes and conditions.
        rounds: number of rounds.
        calls: steps of a round.
    """
    rates: dict[str, list[float]] = {"ours": [], "other": []}
    before = product_rate()
    for _ in range(rounds):
        seconds = timed(lambda: [step() for _ in range(calls)]) / calls
        after = product_rate()
        rates["ours"].append(flops / seconds / 1e9)
        rates["other"].append((before + after) / 2e9)
        before = after
    return share(name, "2048³ matrix product", rates, target, "GFLOP/s", note)
