"""How each metric is printed, and which of two values of it is the better one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Metric:
    """Name, unit, digits and direction of a score in print.

    Attributes:
        title: of a column.
        words: inside a sentence; empty: the title.
        factor: of a value in the files, in the printed unit.
        lower_is_better: whether the best value is the smallest one.
        is_share: whether a value without a unit lies between 0 and 1.
        significant: digits of a value that count, whatever its size; 0: ``digits`` decimals.
        in_unit_of_task: whether the unit is that of the task's target.
        per_case: whether a run's score is a mean of scores of its cases.
    """

    title: str
    words: str = ""
    unit: str = ""
    digits: int = 3
    factor: float = 1.0
    lower_is_better: bool = False
    is_share: bool = True
    significant: int = 0
    in_unit_of_task: bool = False
    per_case: bool = False

    @property
    def name(self) -> str:
        """Inside a sentence."""
        return self.words or self.title

    @property
    def header(self) -> str:
        """Title and unit: "Dice %"."""
        return f"{self.title} {self.unit}".rstrip()

    @property
    def label(self) -> str:
        """Title and unit beside an axis: "Dice (%)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def range(self) -> str:
        """The unit, or the range of a value without one."""
        return self.unit or ("0-1" if self.is_share else "none")

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest value in the files."""
        if self.unit == "%" or (self.is_share and not self.unit):
            return 0.0, 1.0
        return (0.0 if self.lower_is_better else -math.inf), math.inf

    def decimals(self, value: float) -> int:
        """Decimals of a printed value, and of what is printed beside it."""
        if not self.significant or not math.isfinite(value) or value == 0.0:
            return self.digits
        return min(max(self.significant - 1 - math.floor(math.log10(abs(value))), 0), 9)

    def shown(
        self, value: float, low: float = math.nan, high: float = math.nan, *, signed: bool = False
    ) -> str:
        """A value and its interval in the printed unit: "57.9 [55.2, 60.6]"."""
        if math.isnan(value):
            return "undefined"
        form = f"{'+' if signed else ''}z.{self.decimals(value)}f"
        text = format(value, form)
        known = math.isfinite(low) and math.isfinite(high)
        return f"{text} [{format(low, form)}, {format(high, form)}]" if known else text

    def gap(self, difference: float, low: float, high: float) -> str:
        """A difference of values in the files, and its interval: "+2.1 [-0.3, +4.5]"."""
        scaled = (self.factor * value for value in (difference, low, high))
        return self.shown(*scaled, signed=True)

    def best(self, values: Iterable[float]) -> float:
        """The best of some values, at least one."""
        return min(values) if self.lower_is_better else max(values)

    def is_better(self, difference: float) -> bool:
        """Whether a value that much larger than another is the better one."""
        return difference < 0.0 if self.lower_is_better else difference > 0.0


#: Dice is printed in percent; AUC and accuracy between 0 and 1, as in the paper. Digits are those
#: that an interval leaves room for.
PRINTED: Mapping[str, Metric] = {
    "dice": Metric("Dice", "", "%", 1, 100.0, per_case=True),
    "surface_dice": Metric("Surface Dice", "surface Dice", "%", 1, 100.0, per_case=True),
    "hd95": Metric("HD95", "", "mm", 1, lower_is_better=True, per_case=True),
    "auc": Metric("AUC"),
    "accuracy": Metric("ACC", "accuracy"),
    "mae": Metric(
        "MAE",
        "mean absolute error",
        significant=3,
        lower_is_better=True,
        is_share=False,
        in_unit_of_task=True,
    ),
    "r2": Metric("R²", is_share=False),
    "correlation": Metric("Correlation", "correlation", is_share=False),
}


def printed(name: str, unit: str = "") -> Metric:
    """A metric in the unit of a task's target, where it is in that unit.

    Args:
        name: of the metric.
        unit: of the target; empty or :attr:`Metric.range` of a target without one: none.
    """
    metric = PRINTED[name]
    is_known = metric.in_unit_of_task and unit != metric.range
    return replace(metric, unit=unit) if is_known else metric


def sentence(names: Iterable[str]) -> str:
    """Some metrics inside a sentence: "Dice, surface Dice and HD95"."""
    *first, last = [PRINTED[name].name for name in dict.fromkeys(names)]
    return f"{', '.join(first)} and {last}" if first else last
