"""Attention and the masks that decide which tokens a token may see."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn

#: Types that FlashAttention computes in.
_HALVES = (torch.float16, torch.bfloat16)


def prefix_mask(prefix: Tensor, length: int) -> Tensor:
    """Causal attention whose first tokens are visible to all (paper, section 3.2).

    Row i may attend column j when j <= i, or when j <= prefix: the start token and the first
    ``prefix`` tokens of the sequence. With prefix 0 it is plain causal attention.

    Args:
        prefix: (B,) integers in 0..length.
        length: number of tokens L after the start token.

    Returns:
        (B, 1, L + 1, L + 1) bool, True where attention is allowed, on the device of ``prefix``.
    """
    positions = torch.arange(length + 1, device=prefix.device)
    causal = positions[None, :] <= positions[:, None]
    visible = positions[None, :] <= prefix[:, None]
    return (causal[None] | visible[:, None, :])[:, None]


class Segments(NamedTuple):
    """Prefix attention as two attentions without a mask, for all samples in one call each.

    The first rows of a sample, its start token and prefix, attend to one another in full; the rows
    behind them causally to all rows, aligned to the end. Samples lie one after the other, and each
    array says where segments begin. Rows that an attention leaves out are a segment of queries
    without keys, whose result is 0, and one of keys without queries: nothing is copied together,
    and no shape depends on the prefix.

    Attributes:
        full_queries: (3 B + 1,) int32, of the first attention.
        full_keys: the same.
        causal_queries: (2 B + 1,) int32, of the second attention.
        causal_keys: the same.
    """

    full_queries: Tensor
    full_keys: Tensor
    causal_queries: Tensor
    causal_keys: Tensor


#: Which tokens a token sees: None: all of them; a tensor (B or 1, 1, N, N) that is added to the
#: scores, -inf = not seen; or the segments of a prefix.
Visible = Tensor | Segments | None


def prefix_segments(prefix: Tensor, length: int) -> Segments:
    """Segments of the attention that :func:`prefix_mask` describes.

    Args:
        prefix: (B,) integers in 0..length.
        length: number of tokens L after the start token.
    """
    rows = length + 1
    first = torch.arange(len(prefix), device=prefix.device) * rows
    split, last = first + prefix + 1, first + rows

    def starts(*bounds: Tensor) -> Tensor:
        ends = torch.stack(bounds, dim=1).flatten().to(torch.int32)
        return functional.pad(ends, (1, 0))

    return Segments(
        full_queries=starts(split, last, last),
        full_keys=starts(split, split, last),
        causal_queries=starts(split, last),
        causal_keys=starts(first, last),
    )


def prefix_visible(prefix: Tensor, length: int, dtype: torch.dtype) -> Tensor | Segments:
    """How all blocks of a step compute the attention of :func:`prefix_mask`.

    Segments where FlashAttention computes, on a CUDA GPU in 16 bits; elsewhere a mask.

    Args:
        prefix: (B,) integers in 0..length, on the device that computes.
        length: number of tokens L after the start token.
        dtype: of the tokens; autocast may compute in another.
    """
    kind = prefix.device.type
    if kind == "cuda":
        computed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else dtype
        if computed in _HALVES:
            return prefix_segments(prefix, length)
    return additive(prefix_mask(prefix, length), dtype)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Boolean mask, True = attend, as what is added to the scores, made once for all blocks."""
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill_(~mask, -torch.inf)


def prefix_attention(query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> Tensor:
    """Attention whose first tokens are visible to all, without a mask.

    Only pairs of tokens that see each other are computed. FlashAttention's causal form aligns to
    the end where there are fewer queries than keys, writes 0 for queries without keys, and gives
    keys without queries a gradient of 0.

    Args:
        query: (B, N, H, D) in 16 bits on a CUDA GPU.
        key: the same.
        value: the same.
        segments: of :func:`prefix_segments` for N - 1 tokens.

    Returns:
        (B, N, H, D).
    """
    rows = query.shape[1]
    queries, keys, values = (part.flatten(0, 1) for part in (query, key, value))
    of_queries, of_keys = segments.full_queries, segments.full_keys
    full = varlen_attn(queries, keys, values, of_queries, of_keys, rows, rows)
    of_queries, of_keys = segments.causal_queries, segments.causal_keys
    causal = varlen_attn(
        queries, keys, values, of_queries, of_keys, rows, rows, window_size=(-1, 0)
    )
    assert isinstance(full, Tensor)
    assert isinstance(causal, Tensor)
    # Each row is 0 in one of the two.
    return (full + causal).view_as(query)


def chosen_rows(tokens: Tensor, rows: Tensor) -> Tensor:
    """Take ``rows`` (R,), places in 0..B·N - 1, of (B, N, C): (R, C)."""
    return tokens.flatten(0, 1).index_select(0, rows)


class SelfAttention(nn.Module):
    """Multi-head self-attention without bias on queries, keys and values (published code).

    Queries, keys and values come from one matrix product; rows of ``qkv.weight``: all queries,
    then all keys, then all values, each head by head.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not divisible by heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width)

    def forward(
        self, tokens: Tensor, visible: Visible = None, rows: Tensor | None = None
    ) -> Tensor:
        """Map (B, N, C) to (B, N, C), or to (R, C) with ``rows``.

        Args:
            tokens: (B, N, C).
            visible: which tokens each one sees.
            rows: (R,) int64, the places in 0..B·N - 1 whose outputs are wanted; None: all.
        """
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads)
        if isinstance(visible, Segments):
            query, key, value = qkv.unbind(2)
            mixed = prefix_attention(query, key, value, visible)
        else:
            query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
            mixed = mixed.transpose(1, 2)
        mixed = mixed.reshape(batch, count, width)
        out: Tensor = self.projection(mixed if rows is None else chosen_rows(mixed, rows))
        return out
