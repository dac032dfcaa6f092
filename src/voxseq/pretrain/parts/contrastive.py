"""Heads and losses of the contrastive methods."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from voxseq.models.initialise import initialise_linears


def projection_head(widths: Sequence[int], last_norm: Literal["plain", "scale"]) -> nn.Sequential:
    """Perceptron of bias-free linear layers, each with batch norm, with ReLU between them.

    Its weights are drawn from the process-wide generator; build it inside ``seeded``.

    Args:
        widths: channels of the input and of each layer's output.
        last_norm: the last batch norm is ``plain``, without learned scale and shift (MoCo v3), or
            has a learned ``scale`` but no shift (SimCLR; both published code).

    Returns:
        Module that maps (B, widths[0]) to (B, widths[-1]).
    """
    layers: list[nn.Module] = []
    for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        layers.append(nn.Linear(fan_in, fan_out, bias=False))
        if number < len(widths) - 1:
            layers += [nn.BatchNorm1d(fan_out), nn.ReLU()]
            continue
        norm = nn.BatchNorm1d(fan_out, affine=last_norm == "scale")
        if last_norm == "scale":
            norm.bias.requires_grad_(False)
        layers.append(norm)
    head = nn.Sequential(*layers)
    initialise_linears(head)
    return head


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy (Chen et al. 2020, equation 1).

    Each of the 2B vectors has the other view of its sample as positive and the 2B - 2 others as
    negatives. In float32.

    Args:
        first: (B, C) projections of one view; need not be normalised.
        second: (B, C) projections of the other view, in the same order.
        temperature: divides the cosine similarities.

    Returns:
        The scalar mean over all 2B vectors.
    """
    with torch.autocast(first.device.type, enabled=False):
        both = torch.cat([first, second]).float()
        logits = cosines(both, both) / temperature
        others = logits.masked_fill(torch.eye(len(both), device=both.device).bool(), -torch.inf)
        positives = torch.arange(len(both), device=both.device).roll(len(first))
        return functional.cross_entropy(others, positives)


def query_key_loss(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Contrastive loss of MoCo v3 for one pair of views (Chen et al. 2021, algorithm 1).

    2 t CE(q k / t): each query has the key of its own sample as positive and the other keys of
    the batch as negatives. Both are normalised to length 1; keys receive no gradient.

    Args:
        queries: (B, C).
        keys: (B, C), in the same order.
        temperature: t.

    Returns:
        A scalar, the mean over the queries.
    """
    with torch.autocast(queries.device.type, enabled=False):
        logits = cosines(queries.float(), keys.detach().float()) / temperature
        target = torch.arange(len(logits), device=logits.device)
        return 2 * temperature * functional.cross_entropy(logits, target)


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of every vector of ``first`` (A, C) with every one of ``second`` (B, C): (A, B)."""
    return functional.normalize(first, dim=1) @ functional.normalize(second, dim=1).T


@torch.no_grad()
def matching_accuracy(first: Tensor, second: Tensor) -> Tensor:
    """Share of samples whose two views (B, C) find each other among all second views.

    1/B where the vectors have collapsed to one.
    """
    nearest = cosines(first.float(), second.float()).argmax(dim=1)
    return (nearest == torch.arange(len(first), device=first.device)).float().mean()
