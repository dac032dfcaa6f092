"""Learning-rate schedules against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxseq.training.schedule import lr_factor

SCHEDULES = ["cosine", "poly", "constant", "multistep"]
EIGHTH = 0.5 * (1 + math.cos(math.pi / 4))


@pytest.mark.parametrize(
    ("schedule", "warmup", "steps", "expected"),
    [
        ("cosine", 4, 12, {0: 0, 1: 0.25, 2: 0.5, 3: 0.75, 4: 1, 6: EIGHTH, 8: 0.5}),
        ("cosine", 4, 12, {11: 0.0380602, 12: 0, 99: 0}),
        # (1 - t/T)^0.9, the schedule of the classification recipe.
        ("poly", 0, 10, {0: 1, 5: 0.5**0.9, 9: 0.1**0.9, 10: 0, 11: 0}),
        ("constant", 2, 10, {0: 0, 1: 0.5, 2: 1, 9: 1, 10: 1}),
        # A tenth from half and again from three quarters of the steps (MedMNIST v2).
        ("multistep", 0, 100, {0: 1, 49: 1, 50: 0.1, 74: 0.1, 75: 0.01, 99: 0.01, 100: 0.01}),
        # The milestones are those of what is left after warm-up.
        ("multistep", 20, 100, {10: 0.5, 20: 1, 59: 1, 60: 0.1, 79: 0.1, 80: 0.01}),
        # A warm-up as long as the training ends at the top.
        *((name, 5, 5, {0: 0, 1: 0.2, 2: 0.4, 3: 0.6, 4: 0.8, 5: 1}) for name in SCHEDULES),
    ],
)
def test_factors_by_hand(
    schedule: str, warmup: int, steps: int, expected: dict[int, float]
) -> None:
    factor = lr_factor(schedule, warmup, steps)
    assert {step: factor(step) for step in expected} == pytest.approx(expected, abs=1e-6)


@settings(deadline=None)
@given(st.sampled_from(SCHEDULES), st.integers(0, 50), st.integers(1, 200))
def test_factors_rise_then_fall_between_0_and_1(schedule: str, warmup: int, steps: int) -> None:
    values = [lr_factor(schedule, warmup, steps)(step) for step in range(steps + 1)]
    assert all(0 <= value <= 1 for value in values)
    rising, falling = values[: warmup + 1], values[warmup:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown schedule 'linear'; expected one of cosine"):
        lr_factor("linear", 0, 10)
