"""Schedules as functions of the step, so that a resumed run needs no memory."""

from __future__ import annotations

import math
from collections.abc import Callable


def lr_factor(
    schedule: str, warmup_steps: int, steps: int, final: float = 0.0
) -> Callable[[int], float]:
    """Factor of the base learning rate at each step.

    Args:
        schedule: ``cosine`` (to ``final``), ``poly`` ((1 - t/T)^0.9), ``constant``, or
            ``multistep`` (0.1 from 50 %, 0.01 from 75 %; MedMNIST v2).
        warmup_steps: steps of linear warm-up from 0 before the schedule begins.
        steps: steps of the whole training.
        final: factor at which a falling schedule ends, in 0..1.

    Returns:
        A function from the step (0 is the first update) to the factor, in 0..1.
    """
    shapes: dict[str, Callable[[float], float]] = {
        "cosine": lambda t: 0.5 * (1.0 + math.cos(math.pi * t)),
        "poly": lambda t: (1.0 - t) ** 0.9,
        "constant": lambda _: 1.0,
        "multistep": lambda t: 1.0 if t < 0.5 else 0.1 if t < 0.75 else 0.01,
    }
    if schedule not in shapes:
        raise ValueError(f"unknown schedule {schedule!r}; expected one of {', '.join(shapes)}")
    shape = shapes[schedule]

    def factor(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        span = max(steps - warmup_steps, 1)
        return final + (1.0 - final) * shape(min((step - warmup_steps) / span, 1.0))

    return factor


def half_cosine(first: float, last: float, step: int, total: int) -> float:
    """Value that goes along half a cosine from ``first`` at step 0 to ``last`` at ``total``."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / total))
