"""Paired comparisons of two methods on the same test cases: pure functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
WILCOXON = "Wilcoxon signed-rank"
DELONG = "DeLong"


@dataclass(frozen=True)
class Comparison:
    """Difference of two methods, the reference minus the other, in units of the score (0..1).

    Attributes:
        low: lower end of the 95 % interval; NaN where it is undefined.
        p: two-sided p value before correction.
        test: the test behind ``p``.
        cases: test cases that both have.
        seeds: seeds of the reference.
        seeds_other: seeds of the other.
    """

    difference: float
    low: float
    high: float
    p: float
    test: str
    cases: int
    seeds: int
    seeds_other: int


@dataclass(frozen=True)
class Pairing:
    """Classification scores of two methods on the same cases.

    Attributes:
        target: class of each case, 0 or 1, shape (cases,).
        ours: probability of class 1 by the reference, shape (seeds, cases).
        other: the same of the other method; its seeds may be of another number.
        paired: whether seed i of the one belongs to seed i of the other.
    """

    target: Array
    ours: Array
    other: Array
    paired: bool = True


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws, the same for every comparison of as many cases or seeds.

    Attributes:
        samples: number of bootstrap samples.
        seed: entropy of the generator.
    """

    samples: int
    seed: tuple[int, ...]
    _known: dict[tuple[int, int], Array] = field(default_factory=dict, repr=False, compare=False)

    def counts(self, n: int, stream: int) -> Array:
        """How often each of n items is drawn in each sample, shape (samples, n).

        Args:
            n: number of items.
            stream: draws of different streams are independent.
        """
        if (n, stream) not in self._known:
            rng = np.random.default_rng([*self.seed, stream, n])
            drawn = rng.multinomial(n, np.full(n, 1.0 / n), size=self.samples)
            self._known[n, stream] = drawn.astype(np.float64)
        return self._known[n, stream]


#: Streams of ``Draws``: seeds of the reference (and of both where paired), of the other, cases.
_SEEDS, _SEEDS_OTHER, _CASES = 0, 1, 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; NaN stays NaN and does not count as a test.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    valid = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(valid):
        running = max(running, min(1.0, p * (len(valid) - rank)))
        adjusted[index] = running
    return adjusted


def wilcoxon(differences: Array) -> float:
    """Two-sided Wilcoxon signed-rank p value; 1 where every difference is zero, NaN if empty.

    Differences are rounded to 12 decimals first, so that ties are not broken by rounding errors.
    """
    from scipy import stats

    finite = np.round(differences[np.isfinite(differences)], 12)
    if not finite.size:
        return math.nan
    if not np.any(finite):
        return 1.0
    return float(stats.wilcoxon(finite, zero_method="wilcox").pvalue)


def smallest_p(cases: int) -> float:
    """The smallest two-sided p value of a signed-rank test over that many cases."""
    return min(1.0, 2.0 ** (1 - cases))


def compare_dice(ours: Array, other: Array, draws: Draws, *, paired: bool = True) -> Comparison:
    """Compare two segmentation methods on one task; see :func:`compare_mean_dice`."""
    return compare_mean_dice([(ours, other)], draws, paired=paired)


def compare_mean_dice(
    tasks: Sequence[tuple[Array, Array]], draws: Draws, *, paired: bool = True
) -> Comparison:
    """Compare two segmentation methods by the mean of their scores over tasks.

    The score is that of the tables: mean over cases, then over classes, then over seeds. The
    bootstrap draws the cases of each task, the same for both methods, and seeds: the same for both
    where they are paired, else for each method on its own. The test is over the cases of all
    tasks, each averaged over seeds and classes, because the seeds of one case are no independent
    cases.

    Args:
        tasks: for each task Dice of the reference, shape (seeds, cases, classes), and of the other
            method, shape (seeds of its own, cases, classes); NaN where a case lacks the class.
        draws: the bootstrap draws.
        paired: whether seed i of the one belongs to seed i of the other.

    Raises:
        ValueError: paired methods with different numbers of seeds.
    """
    seeds, seeds_other = tasks[0][0].shape[0], tasks[0][1].shape[0]
    if paired and seeds != seeds_other:
        raise ValueError(f"{seeds} and {seeds_other} seeds cannot be paired")
    sides = [_common(ours, other) for ours, other in tasks]
    points, boots, gaps = [], [], []
    for number, (ours, other, valid) in enumerate(sides):
        cases = draws.counts(valid.shape[0], _CASES + number)
        once = np.ones((1, valid.shape[0]))
        parts = [ours - other] if paired else [ours, -other]
        points.append(math.fsum(float(_dice(part, valid, once).mean()) for part in parts))
        boots.append([_dice(part, valid, cases) for part in parts])
        means = [_nanmean(np.where(valid, part, np.nan), (0, 2)) for part in parts]
        gaps.append(np.sum(means, axis=0))
    boot = _over_seeds([np.mean(part, axis=0) for part in zip(*boots, strict=True)], draws)
    cases_of_all = np.concatenate(gaps)
    return Comparison(
        float(np.mean(points)),
        *_interval(boot),
        wilcoxon(cases_of_all),
        WILCOXON,
        len(cases_of_all),
        seeds,
        seeds_other,
    )


def compare_auc(pair: Pairing, draws: Draws) -> Comparison:
    """Compare areas under the ROC curve.

    AUC is no mean over cases, so that a signed-rank test does not apply. The p value is DeLong's
    for two correlated curves, with each case's placement averaged over seeds. No p value is given
    that is below what a test of that many pairs can reach; otherwise two curves without any
    spread would differ with certainty, whatever the number of cases.

    Source: DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated
    receiver operating characteristic curves, 1988.
    """
    positive, negative = pair.target > 0, pair.target <= 0
    shape = (len(pair.target), len(pair.ours), len(pair.other))
    if not positive.any() or not negative.any():
        nan = math.nan
        return Comparison(nan, nan, nan, nan, DELONG, *shape)
    wins = [np.stack([_wins(p[positive], p[negative]) for p in s]) for s in (pair.ours, pair.other)]
    gap = wins[0].mean(axis=0) - wins[1].mean(axis=0)
    parts = [wins[0] - wins[1]] if pair.paired else [wins[0], -wins[1]]
    counts = draws.counts(len(pair.target), _CASES)
    boots = [_auc(part, counts[:, positive], counts[:, negative]) for part in parts]
    boot = _over_seeds(boots, draws)
    return Comparison(float(gap.mean()), *_interval(boot), _delong(gap), DELONG, *shape)


def _common(ours: Array, other: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Both with 0 where a value is undefined, and where none is, shape (cases, classes)."""
    valid: NDArray[np.bool_] = np.isfinite(np.concatenate([ours, other])).all(axis=0)
    return np.where(valid, ours, 0.0), np.where(valid, other, 0.0), valid


def _dice(values: Array, valid: NDArray[np.bool_], weights: Array) -> Array:
    """Weighted mean over cases, then over classes: shape (samples, seeds)."""
    total = np.tensordot(weights, values, axes=(1, 1))
    count = weights @ valid.astype(np.float64)
    return _nanmean(_divided(total, np.broadcast_to(count[:, None], total.shape)), (2,))


def _auc(wins: Array, positive: Array, negative: Array) -> Array:
    """Weighted mean of wins (seeds, P, N): shape (samples, seeds)."""
    norm = positive.sum(axis=1) * negative.sum(axis=1)
    total = np.stack([((positive @ part) * negative).sum(axis=1) for part in wins], axis=1)
    # A sample that drew one class only has no AUC.
    return _divided(total, np.broadcast_to(norm[:, None], total.shape))


def _over_seeds(parts: Sequence[Array], draws: Draws) -> Array:
    """Sum of the parts (samples, seeds), each averaged over the seeds drawn for it."""
    means = []
    for part, stream in zip(parts, (_SEEDS, _SEEDS_OTHER), strict=False):
        seeds = draws.counts(part.shape[1], stream)
        means.append((part * seeds).sum(axis=1) / seeds.sum(axis=1))
    total: Array = np.sum(means, axis=0)
    return total


def _delong(gap: Array) -> float:
    """Two-sided p value of the mean of ``gap``, placements of the difference, shape (P, N)."""
    from scipy import stats

    point = float(gap.mean())
    if point == 0.0 or min(gap.shape) < 2:
        return 1.0 if point == 0.0 else math.nan
    rows, columns = gap.mean(axis=1), gap.mean(axis=0)
    variance = rows.var(ddof=1) / rows.size + columns.var(ddof=1) / columns.size
    p = 2 * float(stats.norm.sf(abs(point) / math.sqrt(variance))) if variance > 0 else 0.0
    return max(p, smallest_p(rows.size + columns.size))


def _wins(positive: Array, negative: Array) -> Array:
    """1 where the positive case ranks above the negative one, ½ for a tie: shape (P, N)."""
    gap = positive[:, None] - negative[None]
    return np.where(gap > 0, 1.0, np.where(gap == 0, 0.5, 0.0))


def _interval(boot: Array) -> tuple[float, float]:
    finite = boot[np.isfinite(boot)]
    if not finite.size:
        return math.nan, math.nan
    low, high = np.quantile(finite, (0.025, 0.975))
    return float(low), float(high)


def _nanmean(values: Array, axes: tuple[int, ...]) -> Array:
    valid = np.isfinite(values)
    total = np.where(valid, values, 0.0).sum(axis=axes)
    return _divided(total, valid.sum(axis=axes, dtype=np.float64))


def _divided(total: Array, count: Array) -> Array:
    """The quotient, NaN where there is nothing to divide by."""
    quotient: Array = np.full(total.shape, np.nan)
    np.divide(total, count, out=quotient, where=count > 0)
    return quotient
