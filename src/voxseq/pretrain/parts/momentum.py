"""Networks that follow another one as a moving average of its weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from voxseq.training.schedule import half_cosine

Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(module: Module) -> Module:
    """Copy a module with its weights and buffers; the copy's parameters get no gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def update_average(
    average: nn.Module, module: nn.Module, momentum: float, *, buffers: bool = True
) -> None:
    """Move a copy towards its module: ``average = momentum * average + (1 - momentum) * module``.

    With momentum 1 the copy stays as it is, with 0 it becomes the module, both to the bit.

    Args:
        average: made by :func:`frozen_copy`; changed in place.
        module: of the same structure.
        momentum: share of the average that is kept, 0..1.
        buffers: whether to copy buffers too; ``False`` leaves the copy those of its own, such as
            the statistics of a normalisation that sees its own features.

    Raises:
        ValueError: a momentum outside 0..1, or modules that are not alike.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum {momentum}: expected a number in 0..1")
    pairs = list(zip(average.parameters(), module.parameters(), strict=True))
    if pairs:
        slow, fast = zip(*pairs, strict=True)
        # A few kernels on a GPU instead of one for each weight.
        torch._foreach_lerp_(slow, fast, 1 - momentum)
    if buffers:
        for kept, current in zip(average.buffers(), module.buffers(), strict=True):
            kept.copy_(current)


def rising_momentum(start: float, step: int, total: int) -> float:
    """Momentum that rises from ``start`` at step 0 to 1 at step ``total`` along half a cosine.

    1 - (1 - start) (1 + cos(pi step / total)) / 2 (Grill et al. 2020; published code of MoCo v3).
    """
    return half_cosine(start, 1.0, step, total)
