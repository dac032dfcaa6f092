"""AdamW and the clipping of gradients, as all trainings use them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from voxseq.config.model import OptimiserConfig


def adamw(
    groups: Iterable[dict[str, Any]], config: OptimiserConfig, precision: str = "32-true"
) -> torch.optim.AdamW:
    """AdamW whose update is one pass over the weights, where the precision allows it.

    Args:
        groups: parameter groups, whose own values override ``config``.
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


def clip_gradients(fabric: Fabric, module: Any, optimiser: Any, largest: float) -> Tensor:
    """Scale the gradient down to a norm of ``largest``.

    Returns:
        The norm that it had: finite, or a reason to stop. With 16-bit floats an overflow is no
        fault, because the scaler of the loss leaves the step out; it counts as finite.
    """
    norm: Any = fabric.clip_gradients(module, optimiser, max_norm=largest, error_if_nonfinite=False)
    assert isinstance(norm, Tensor)
    return norm.nan_to_num() if fabric.strategy.precision.precision == "16-mixed" else norm
