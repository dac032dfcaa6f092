"""How each metric is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """Name, unit and digits of a score in print.

    Attributes:
        factor: of a value 0..1 in the printed unit.
    """

    title: str
    unit: str = ""
    digits: int = 4
    factor: float = 1.0

    @property
    def header(self) -> str:
        """Title and unit: "Dice %"."""
        return f"{self.title} {self.unit}".rstrip()

    @property
    def label(self) -> str:
        """Title and unit beside an axis: "Dice (%)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


#: Dice is printed in percent; AUC and accuracy between 0 and 1, as in the paper.
PRINTED: Mapping[str, Metric] = {
    "dice": Metric("Dice", "%", 2, 100.0),
    "auc": Metric("AUC"),
    "accuracy": Metric("ACC"),
}
