"""Scores of predicted numbers: pure functions of (n,) arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def mae(target: Array, value: Array) -> float:
    """Mean absolute error, in the target's unit."""
    return float(np.abs(np.asarray(target, float) - value).mean())


def r2(target: Array, value: Array) -> float:
    """Share of the target's variance that is explained, at most 1; NaN for a constant target.

    A constant prediction of the targets' own mean has 0, a worse one less.
    """
    target = np.asarray(target, float)
    total = float(np.square(target - target.mean()).sum())
    if not total:
        return float("nan")
    return 1.0 - float(np.square(target - value).sum()) / total


def correlation(target: Array, value: Array) -> float:
    """Pearson's correlation, -1..1; NaN where the target or the prediction is constant."""
    deviations = [np.asarray(x, float) - np.mean(x, dtype=float) for x in (target, value)]
    norms = [float(np.linalg.norm(d)) for d in deviations]
    # Rounding leaves a trace of deviation in a constant prediction.
    if any(n <= 1e-12 * np.linalg.norm(x) for n, x in zip(norms, (target, value), strict=True)):
        return float("nan")
    return float(deviations[0] @ deviations[1] / (norms[0] * norms[1]))


def scores(target: Array, value: Array) -> dict[str, float]:
    """All of them by name: "mae", "r2" and "correlation"."""
    return {
        "mae": mae(target, value),
        "r2": r2(target, value),
        "correlation": correlation(target, value),
    }
