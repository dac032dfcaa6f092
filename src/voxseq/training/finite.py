"""Numbers that must be finite: after an overflow nothing that follows means anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from voxseq.base.errors import NotFiniteError


def require_finite(what: str, value: Tensor) -> None:
    """Raise a NotFiniteError about ``what`` if ``value`` has infinite or undefined entries."""
    if not is_finite(value):
        found = f"is {float(value.detach())}" if value.ndim == 0 else "is not finite"
        raise NotFiniteError(f"{what} {found}")


def require_finite_rows(what: str, names: Sequence[str], value: Tensor) -> None:
    """As :func:`require_finite`, for rows (N, ...); the first that is not finite is named."""
    if not is_finite(value):
        row = int((~torch.isfinite(value).flatten(1).all(dim=1)).nonzero()[0])
        raise NotFiniteError(f"{what} of {names[row]} are not finite")


def is_finite(value: Tensor) -> bool:
    """Whether no entry is infinite or undefined."""
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def finite(module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, bool]:
    """Whether each weight, buffer (such as a running statistic) and moment is finite, by name."""
    weights = dict(module.named_parameters())
    found = {f"weight {name}": is_finite(value) for name, value in weights.items()}
    found |= {f"buffer {name}": is_finite(value) for name, value in module.named_buffers()}
    for name, weight in weights.items():
        for moment, value in optimiser.state.get(weight, {}).items():
            if isinstance(value, Tensor):
                found[f"{moment} of {name}"] = is_finite(value)
    return found
