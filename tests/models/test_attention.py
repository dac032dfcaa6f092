"""Prefix attention without a mask: the packing, with a stand-in for FlashAttention's kernel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.helpers.methods import generator
from voxseq.models import attention
from voxseq.models.attention import (
    Segments,
    SelfAttention,
    Visible,
    additive,
    prefix_attention,
    prefix_mask,
    prefix_segments,
    prefix_visible,
)

LENGTH = 11


def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """FlashAttention's rule, segment by segment.

    The last query of a segment sees its last key; queries without keys give 0.
    """
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert cu_seq_q[-1] == len(query)
    assert cu_seq_k[-1] == len(key)
    results = []
    for number in range(len(cu_seq_q) - 1):
        rows = slice(*cu_seq_q[number : number + 2].tolist())
        seen = slice(*cu_seq_k[number : number + 2].tolist())
        queries, keys = rows.stop - rows.start, seen.stop - seen.start
        assert queries <= max_q
        assert keys <= max_k
        if queries == 0 or keys == 0:
            results.append(torch.zeros_like(query[rows]))
            continue
        scores = torch.einsum("qhd,khd->hqk", query[rows], key[seen])
        scores = scores / math.sqrt(query.shape[-1])
        if window_size == (-1, 0):
            hidden = torch.ones(queries, keys).triu(keys - queries + 1) > 0
            scores = scores.masked_fill(hidden, -torch.inf)
        results.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), value[seen]))
    return torch.cat(results)


PREFIXES = [
    [0, 0],
    [LENGTH, LENGTH],
    [0, LENGTH],
    torch.randint(LENGTH + 1, (7,), generator=generator(0)).tolist(),
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_two_attentions_without_a_mask_are_the_masked_one(
    prefix: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "varlen_attn", flash)
    torch.manual_seed(0)
    layer = SelfAttention(12, 3).double()
    tokens = torch.randn(len(prefix), LENGTH + 1, 12, dtype=torch.float64)
    pull = torch.randn(tokens.shape, dtype=torch.float64)

    def result(visible: Visible) -> list[Tensor]:
        given = tokens.clone().requires_grad_()
        out = layer(given, visible)
        return [out.detach(), *torch.autograd.grad(out, [given, *layer.parameters()], pull)]

    places = torch.tensor(prefix)
    masked = result(additive(prefix_mask(places, LENGTH), torch.float64))
    for found, expected in zip(result(prefix_segments(places, LENGTH)), masked, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_shapes_of_segments_do_not_depend_on_the_prefix() -> None:
    one, other = (prefix_segments(torch.tensor(p), LENGTH) for p in ([0, 3], [LENGTH, 5]))
    assert [part.shape for part in one] == [part.shape for part in other]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cpu_attends_with_a_mask(dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mask = prefix_visible(torch.tensor([2]), LENGTH, dtype)
    assert isinstance(mask, Tensor)
    assert mask.dtype == dtype


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlashAttention needs a GPU")
@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_gpus_kernel_follows_the_rule(prefix: list[int]) -> None:
    """It aligns causal attention to the end, and leaves out empty segments, backward too."""
    places = torch.tensor(prefix, device="cuda")
    visible = prefix_visible(places, LENGTH, torch.bfloat16)
    assert isinstance(visible, Segments)
    shape = (3, len(prefix), LENGTH + 1, 2, 64)
    exact = torch.randn(shape, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    halves = exact.bfloat16().requires_grad_()
    whole = halves.detach().float().requires_grad_()
    found = prefix_attention(*halves.unbind(0), visible)
    mask = prefix_mask(places, LENGTH)
    query, key, value = whole.transpose(2, 3).unbind(0)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(found.float(), expected.transpose(1, 2), rtol=2e-2, atol=2e-2)
    found.float().square().sum().backward()
    expected.square().sum().backward()
    assert halves.grad is not None
    torch.testing.assert_close(halves.grad.float(), whole.grad, rtol=5e-2, atol=5e-2)
