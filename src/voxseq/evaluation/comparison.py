"""The result of a comparison, and how it follows from the scores of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxseq.evaluation.effects import TINY, Array, Column, case_part, residual_shares

#: Values of ``Comparison.test``.
POOLED = "t, seeds pooled"
APART = "t, noisy rows apart"
PAIR = "t, paired seeds"
UNPAIRED = "t, unpaired seeds"
OVER_SEEDS = "none, interval over seeds"
NONE = "one seed, no test"
#: Share of the studies in which the smallest difference that a study can see is seen.
POWER = 0.8
#: A case part that is in the seed part but for this share of it is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Comparison:
    """Difference of two rows, the reference minus the other, in units of the score (0..1).

    Attributes:
        difference: mean over seeds of the means over cases; NaN where no case is common.
        low: lower end of the 95 % interval; NaN where a variance cannot be estimated. With one seed
            it is an interval over cases, of this run only.
        high: upper end.
        p: two-sided p value before correction; NaN with one seed.
        df: degrees of freedom of t.
        test: how the seeds' part of the variance was estimated.
        seeds: seeds behind it, of the row that has fewer.
        cases: cases behind it.
    """

    difference: float
    low: float
    high: float
    p: float
    df: float
    test: str
    seeds: int
    cases: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        from scipy import special

        return self.half / float(special.stdtrit(self.df, 0.975))

    def turned(self) -> Comparison:
        """The other row minus the reference."""
        return replace(self, difference=-self.difference, low=-self.high, high=-self.low)

    def scaled(self, factor: float) -> Comparison:
        """The difference times a factor above zero."""
        difference, low, high = (factor * x for x in (self.difference, self.low, self.high))
        return replace(self, difference=difference, low=low, high=high)

    def shifted(self, by: float) -> Comparison:
        """The same for a difference that is larger by a constant."""
        moved, low, high = (x + by for x in (self.difference, self.low, self.high))
        p = self.p
        if not math.isnan(p) and self.half > 0:
            from scipy import special

            p = 2 * float(special.stdtr(self.df, -abs(moved) / self.error))
        return replace(self, difference=moved, low=low, high=high, p=p)

    @property
    def one_sided(self) -> float:
        """p value of the hypothesis that the difference is not above zero; NaN with one seed."""
        return self.p / 2 if self.difference > 0 else 1 - self.p / 2

    def detectable(self, level: float) -> float:
        """Smallest difference that a one-sided test at a level would see four times in five."""
        from scipy import special

        if math.isnan(self.p):
            return math.nan
        quantiles = special.stdtrit(self.df, [1 - level, POWER])
        return float(quantiles.sum()) * self.error


def finished(
    difference: float, variance: float, df: float, test: str, seeds: int, cases: int
) -> Comparison:
    """The comparison of which the difference, its variance and its degrees of freedom are known."""
    from scipy import special

    error = math.sqrt(variance)
    p = math.nan
    if error < TINY:
        # Identical scores in all seeds: what a sign test over seeds gives, however many cases.
        error = 0.0
        p = 1.0 if abs(difference) < TINY else 2.0 ** (1 - seeds)
    else:
        p = 2 * float(special.stdtr(df, -abs(difference) / error))
    half = float(special.stdtrit(df, 0.975)) * error
    if seeds == 1:
        p, test = math.nan, NONE
    return Comparison(difference, difference - half, difference + half, p, df, test, seeds, cases)


def unknown(seeds: int) -> Comparison:
    """Of rows that have no case in common."""
    nan = math.nan
    return Comparison(nan, nan, nan, nan, nan, NONE, seeds, 0)


def combined(seed: float, case: float, residual: float) -> float:
    """Variance of a difference, from what seeds and cases bring and what is in both of them."""
    if math.isnan(case):
        return case
    rest = case - residual
    return max(seed + rest, case) if rest > _ROUNDING * case else max(seed, case)


def contrast_of(column: Column, weights: Sequence[float] | Array) -> Comparison:
    """Sum of the rows' scores with weights, estimated from this contrast alone.

    Args:
        column: all of its seeds have cases.
        weights: of the rows.
    """
    weighed = np.asarray(weights, dtype=np.float64)
    groups, gaps = column.groups(), weighed @ column.means
    seeds, cases = gaps.size, sum(len(members) for members in groups)
    share = np.tensordot(weighed, column.shares, 1)
    case, case_df = case_part(share.sum(axis=0) / seeds, groups)
    if seeds == 1:
        return finished(float(gaps[0]), case, case_df, NONE, seeds, cases)
    seed = float(gaps.var(ddof=1)) / seeds
    residuals = np.tensordot(weighed, residual_shares(column, groups), 1)
    variance = combined(seed, case, float((residuals**2).sum()))
    return finished(float(gaps.mean()), variance, min(seeds - 1, case_df), PAIR, seeds, cases)
