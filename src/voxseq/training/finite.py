"""Numbers that must be finite: after an overflow nothing that follows means anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


class FiniteWatch:
    """Checks the numbers of a training's steps without waiting for a GPU.

    To read a number is to wait until all is done that the device was asked to do, and meanwhile it
    is asked for nothing more. So numbers on a GPU are read when the step after theirs has been
    handed to it, others at once.

    Attributes:
        failed: step and items of the numbers that were not finite, once an error was raised.
    """

    def __init__(self) -> None:
        self.failed: tuple[int, Tensor | None] | None = None
        self._step: int = 0
        self._ids: Tensor | None = None
        self._now: list[_Later] = []
        self._before: list[_Later] = []

    def begin(self, step: int, ids: Tensor | None) -> None:
        """Begin a step, and read the numbers of the step before the last.

        Raises:
            NotFiniteError: one of them is not finite.
        """
        self._read(self._before)
        self._step, self._ids = step, ids
        self._before, self._now = self._now, []

    def require(self, what: str, value: Tensor) -> None:
        """Note that a scalar of this step must be finite.

        Raises:
            NotFiniteError: it is not, and was read at once.
        """
        later = _Later.of(what, value.detach(), self._step, self._ids)
        if value.is_cuda:
            self._now.append(later)
        else:
            self._read([later])

    def settle(self) -> None:
        """Read all that was noted: before weights are checked, scored or written.

        Raises:
            NotFiniteError: a number that is not finite, the earliest first.
        """
        noted, self._before, self._now = [*self._before, *self._now], [], []
        self._read(noted)

    def _read(self, noted: Sequence[_Later]) -> None:
        for later in noted:
            try:
                require_finite(later.what, later.read())
            except NotFiniteError:
                self.failed = (later.step, later.ids)
                raise


@dataclass(frozen=True)
class _Later:
    """A scalar on its way to the host, into memory from which no copy waits."""

    what: str
    value: Tensor
    arrived: torch.Event | None
    step: int
    ids: Tensor | None

    @classmethod
    def of(cls, what: str, value: Tensor, step: int, ids: Tensor | None) -> _Later:
        """Start to copy it."""
        host, arrived = value.to("cpu", non_blocking=True), None
        if value.is_cuda:
            arrived = torch.Event(value.device)
            arrived.record()
        return cls(what, host, arrived, step, ids)

    def read(self) -> Tensor:
        """The value, once it is there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.value
