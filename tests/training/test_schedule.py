"""Learning-rate schedules against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxseq.training.schedule import lr_factor

SCHEDULES = ["cosine", "poly", "constant", "multistep"]


def test_cosine_with_warm_up_by_hand() -> None:
    factor = lr_factor("cosine", 4, 12)
    assert [factor(step) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert factor(6) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert factor(8) == pytest.approx(0.5)
    assert factor(11) == pytest.approx(0.0380602, abs=1e-6)
    assert factor(12) == pytest.approx(0, abs=1e-12)
    assert factor(99) == pytest.approx(0, abs=1e-12)


def test_poly_by_hand() -> None:
    """(1 - t/T)^0.9, the schedule of the classification recipe."""
    factor = lr_factor("poly", 0, 10)
    assert factor(0) == 1
    assert factor(5) == pytest.approx(0.5**0.9)
    assert factor(9) == pytest.approx(0.1**0.9)
    assert factor(10) == 0
    assert factor(11) == 0


def test_constant_by_hand() -> None:
    factor = lr_factor("constant", 2, 10)
    assert [factor(step) for step in (0, 1, 2, 9, 10)] == [0, 0.5, 1, 1, 1]


def test_multistep_by_hand() -> None:
    """A tenth from half and again from three quarters of the steps (MedMNIST v2)."""
    factor = lr_factor("multistep", 0, 100)
    assert [factor(step) for step in (0, 49, 50, 74, 75, 99, 100)] == [1, 1, 0.1, 0.1, 0.01] + [
        0.01
    ] * 2
    # The milestones are those of what is left after warm-up.
    factor = lr_factor("multistep", 20, 100)
    assert [factor(step) for step in (10, 20, 59, 60, 79, 80)] == [0.5, 1, 1, 0.1, 0.1, 0.01]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_as_long_as_the_training_ends_at_the_top(schedule: str) -> None:
    factor = lr_factor(schedule, 5, 5)
    assert [factor(step) for step in range(5)] == [0, 0.2, 0.4, 0.6, 0.8]
    assert factor(5) == 1


@settings(deadline=None)
@given(
    st.sampled_from(SCHEDULES),
    st.integers(0, 50),
    st.integers(1, 200),
)
def test_factors_rise_then_fall_between_0_and_1(schedule: str, warmup: int, steps: int) -> None:
    values = [lr_factor(schedule, warmup, steps)(step) for step in range(steps + 1)]
    assert all(0 <= value <= 1 for value in values)
    rising, falling = values[: warmup + 1], values[warmup:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown schedule 'linear'; expected one of cosine"):
        lr_factor("linear", 0, 10)
