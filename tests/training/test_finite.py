"""Numbers of steps that are read late, and whose step and items are named all the same."""

from __future__ import annotations

import pytest
import torch

from voxseq.base.errors import NotFiniteError
from voxseq.training import finite
from voxseq.training.finite import FiniteWatch

NAN = torch.tensor(float("nan"))


class OnDevice(torch.Tensor):
    """A scalar that says that it is on a GPU, and arrives when an event says so."""

    is_cuda = True  # type: ignore[assignment]

    def detach(self) -> torch.Tensor:
        return self


class Arrival:
    """Counts who waits."""

    waits = 0

    def __init__(self, device: torch.device) -> None:
        self.is_recorded = False

    def record(self) -> None:
        self.is_recorded = True

    def synchronize(self) -> None:
        assert self.is_recorded
        Arrival.waits += 1


def on_device(value: float) -> torch.Tensor:
    return torch.tensor(value).as_subclass(OnDevice)


@pytest.fixture(autouse=True)
def events(monkeypatch: pytest.MonkeyPatch) -> None:
    Arrival.waits = 0
    monkeypatch.setattr(finite.torch, "Event", Arrival)


def test_the_cpu_is_read_at_once() -> None:
    watch = FiniteWatch()
    watch.begin(4, torch.tensor([7]))
    watch.require("the norm", torch.tensor(1.0))
    with pytest.raises(NotFiniteError, match="the loss is nan"):
        watch.require("the loss", NAN)
    assert watch.failed == (4, torch.tensor([7]))


def test_a_device_is_read_when_the_next_step_is_under_way() -> None:
    watch = FiniteWatch()
    for step, value in enumerate((1.0, float("inf"), 1.0)):
        watch.begin(step, torch.tensor([step]))
        watch.require("the loss", on_device(value))
        # Nothing has been waited for but what is two steps old.
        assert Arrival.waits == max(step - 1, 0)
    with pytest.raises(NotFiniteError, match="the loss is inf"):
        watch.begin(3, torch.tensor([3]))
    assert watch.failed == (1, torch.tensor([1]))


def test_all_is_read_before_weights_are_used() -> None:
    watch = FiniteWatch()
    watch.begin(0, None)
    watch.require("the gradient norm", on_device(float("nan")))
    watch.begin(1, None)
    watch.require("the loss", on_device(float("nan")))
    with pytest.raises(NotFiniteError, match="the gradient norm is nan"):
        watch.settle()
    assert watch.failed == (0, None)
    watch.settle()
