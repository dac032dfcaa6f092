"""Attention and the masks that decide which tokens a token may see."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


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
        self, tokens: Tensor, attn_mask: Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Map (B, N, C) to (B, N, C), or to (R, C) with ``rows``.

        Args:
            tokens: (B, N, C).
            attn_mask: (B or 1, 1, N, N): bool, True = attend; or floats that are added to the
                scores, -inf = do not attend.
            rows: (R,) int64, the places in 0..B·N - 1 whose outputs are wanted; None: all.
        """
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        mixed = mixed.transpose(1, 2).reshape(batch, count, width)
        out: Tensor = self.projection(mixed if rows is None else chosen_rows(mixed, rows))
        return out
