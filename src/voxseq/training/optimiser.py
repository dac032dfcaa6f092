"""AdamW as all trainings use it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from voxseq.config.model import OptimiserConfig


def adamw(
    groups: Iterable[dict[str, Any]], config: OptimiserConfig, precision: str = "32-true"
) -> torch.optim.AdamW:
    """AdamW whose update is one pass over the weights, where the precision allows it.

    Args:
        groups: parameter groups; what they say overrides ``config``.
        config: learning rate, betas and weight decay.
        precision: with ``16-mixed`` gradients are scaled, and Fabric clips none that such an update
            would scale back by itself.
    """
    return torch.optim.AdamW(
        groups,
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=precision != "16-mixed",
    )
