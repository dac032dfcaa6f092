"""The device of a training: how it is chosen, what it is given, what it cost."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.helpers.methods import NAMES
from tests.helpers.several import Plan, train_plan
from voxseq.base.errors import ConfigError, TrainingError
from voxseq.config.execution import DeviceConfig
from voxseq.training import device


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_leaves_voxels_and_targets_as_they_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a module is given, and what its losses compare with, to the bit."""
    seen: list[Tensor] = []
    mse_loss = torch.nn.functional.mse_loss

    def spied(prediction: Tensor, target: Tensor) -> Tensor:
        seen.append(target.detach().clone())
        return mse_loss(prediction, target)

    monkeypatch.setattr(torch.nn.functional, "mse_loss", spied)

    def trained(precision: str) -> list[Tensor]:
        seen.clear()
        given: list[Tensor] = []

        def watch(task: torch.nn.Module, batch: dict[str, Tensor]) -> None:
            given.extend(batch[key].clone() for key in sorted(batch))

        plan = Plan(name, tmp_path / precision, steps=1, precision=precision)
        # In 16 bits a CPU's transposed convolutions may leave no number behind.
        with suppress(TrainingError):
            train_plan(plan, look=watch)
        return [*given, *seen[:1]]

    exact, mixed = trained("32-true"), trained("bf16-mixed")
    assert len(exact) == len(mixed)
    for one, other in zip(exact, mixed, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("asked", "cuda", "mps", "found"),
    [
        *(("auto", True, False, "cuda"), ("auto", False, True, "cpu"), ("cpu", True, True, "cpu")),
        *(("mps", False, True, "mps"), ("cuda", False, True, None), ("mps", True, False, None)),
    ],
)
def test_a_device_is_the_one_that_was_asked_for(
    asked: str, cuda: bool, mps: bool, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    config = DeviceConfig.model_validate({"device": asked})
    if found is not None:
        assert device.accelerator(config) == found
        return
    with pytest.raises(ConfigError, match=f"execution.device {asked}"):
        device.accelerator(config)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("32-true", None), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)],
)
def test_work_outside_the_loop_can_have_its_precision(
    precision: str, dtype: torch.dtype | None
) -> None:
    make = device.autocast_of(precision, "cpu")
    for _ in range(2):
        with make():
            assert torch.is_autocast_enabled("cpu") is (dtype is not None)
            if dtype is not None:
                assert torch.get_autocast_dtype("cpu") == dtype
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("chosen", [True, False])
def test_arithmetic_is_set_for_products_and_convolutions(chosen: bool) -> None:
    device.set_arithmetic(DeviceConfig(tf32=chosen, deterministic=chosen))
    try:
        assert torch.backends.cuda.matmul.allow_tf32 is chosen
        assert torch.backends.cudnn.allow_tf32 is chosen
        assert torch.are_deterministic_algorithms_enabled() is chosen
    finally:
        device.set_arithmetic(DeviceConfig())


@pytest.mark.parametrize(("system", "peak"), [("linux", 3 * 2**20), ("darwin", 3 * 2**30)])
def test_peak_memory_is_in_mb_on_every_system(
    system: str, peak: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=peak))
    assert device.costs() == {"peak_memory_mb": 3072.0}


def test_the_memory_of_a_gpu_is_among_the_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        **{"is_initialized": True, "get_device_name": "H200"},
        **{"max_memory_allocated": 2**30, "max_memory_reserved": 2**31},
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    found = device.costs()
    assert (found["device"], found["tf32"]) == ("H200", False)
    assert (found["device_allocated_mb"], found["device_reserved_mb"]) == (1024, 2048)
