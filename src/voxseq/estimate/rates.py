"""How fast a GPU computes, by kind of operation and precision."""

from __future__ import annotations

from dataclasses import dataclass, field

from voxseq.base.devices import CONVOLUTIONS, DEVICES, PRODUCTS, USABLE, USUAL, Device, Kind
from voxseq.estimate.run_cost import Packing, RunCost

_TERA = 1e12


@dataclass(frozen=True)
class Assumptions:
    """Assumptions of the estimate besides the configuration.

    Attributes:
        device: the GPU.
        tf32: whether 32-true computes in TensorFloat-32 (``execution.tf32``).
        given: rate that matrix products sustain, of any kind, in 10^12 operations per second;
            None: that of the device.
        packing: bytes of stored voxels.
    """

    device: Device = DEVICES[USUAL]
    tf32: bool = False
    given: float | None = None
    packing: Packing = field(default_factory=Packing)

    def kind(self, precision: str) -> Kind:
        """Arithmetic of a precision of the configuration."""
        if precision != "32-true":
            return "16 bits"
        return "TF32" if self.tf32 else "32 bits"

    def products(self, kind: Kind) -> float:
        """Rate that matrix products sustain, in 10^12 operations per second."""
        return self.device.peaks[kind] * PRODUCTS[kind] if self.given is None else self.given

    def convolutions(self, kind: Kind) -> float:
        """Rate that convolutions sustain; beside a given rate they keep the usual ratio."""
        if self.given is not None:
            return self.given * CONVOLUTIONS["16 bits"] / PRODUCTS["16 bits"]
        return self.device.peaks[kind] * CONVOLUTIONS[kind]

    @property
    def usable(self) -> float:
        """Bytes of the device that a training can use."""
        return self.device.memory * USABLE

    def hours(self, cost: RunCost) -> float:
        """GPU hours of a run."""
        clustering = self._hours(cost.clustered, 0.0, "32-true")
        return self._hours(cost.matrix, cost.convolution, cost.precision) + clustering

    def scoring_hours(self, cost: RunCost) -> float:
        """GPU hours of a run's validations and of its final scoring."""
        return self._hours(cost.scored_matrix, cost.scored_convolution, cost.precision)

    def staging_hours(self, cost: RunCost) -> float:
        """GPU hours between two stages of a run."""
        clustering = self._hours(cost.clustered, 0.0, "32-true")
        return self._hours(cost.encoded_matrix, 0.0, cost.precision) + clustering

    def _hours(self, matrix: float, convolution: float, precision: str) -> float:
        kind = self.kind(precision)
        seconds = matrix / self.products(kind) + convolution / self.convolutions(kind)
        return seconds / _TERA / 3600
