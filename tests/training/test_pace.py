"""What a training's log says of its speed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from voxseq.base.devices import peak
from voxseq.config.execution import DeviceConfig
from voxseq.training import pace as module
from voxseq.training.device import device_peak
from voxseq.training.pace import Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now.seconds)
    return now


def step(pace: Pace, clock: SimpleNamespace, waiting: float, working: float) -> None:
    with pace.waiting():
        clock.seconds += waiting
    with pace.counting():
        clock.seconds += working
        torch.ones(10, 20) @ torch.ones(20, 30)
    pace.done(8)


def test_samples_a_second_and_the_share_of_waiting(clock: SimpleNamespace) -> None:
    pace = Pace()
    assert str(pace) == "before the first step"
    assert pace.numbers() == {}
    for _ in range(2):
        step(pace, clock, 1.0, 3.0)
        clock.seconds += 50  # a validation
    assert pace.numbers() == {"samples_per_second": 2.0, "waiting_for_data": 0.25}
    assert str(pace) == "2 samples/s, 25.0% of the time waiting for data"


def test_the_share_of_the_peak_is_that_of_a_counted_step(clock: SimpleNamespace) -> None:
    pace = Pace(peak=24_000.0)
    step(pace, clock, 0.0, 1.0)
    assert pace.share_of_peak is None
    for _ in range(3):
        step(pace, clock, 0.0, 1.0)
    assert pace.operations == 2 * 10 * 20 * 30
    assert pace.share_of_peak == pytest.approx(0.5)
    assert "50.0% of the device's peak" in str(pace)
    assert pace.numbers()["share_of_peak"] == 0.5


def test_peaks_are_those_of_known_devices_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak("NVIDIA H200", "16 bits") == 989e12
    assert peak("NVIDIA A100-SXM4-80GB", "32 bits") == 19.5e12
    assert peak("another", "16 bits") is None
    assert device_peak(torch.device("cpu"), "bf16-mixed", DeviceConfig()) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    cuda = torch.device("cuda")
    assert device_peak(cuda, "bf16-mixed", DeviceConfig()) == 989e12
    assert device_peak(cuda, "32-true", DeviceConfig()) == 67e12
    assert device_peak(cuda, "32-true", DeviceConfig(tf32=True)) == 494e12
    assert device_peak(cuda, "bf16-mixed", DeviceConfig(compile=True)) is None
