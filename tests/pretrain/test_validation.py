"""Validation of a pre-training: shared by the processes, in the training's precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.methods import NAMES, equal
from tests.helpers.several import Plan, setup, train_plan
from tests.helpers.training import PhantomSampler
from voxseq.pretrain import run
from voxseq.pretrain.base import PretrainMethod
from voxseq.training.loop import Batch


class Sent(BaseException):
    """What a process hands to the others."""


@dataclass
class Process:
    """One of several, to which the others have handed their parts, or will."""

    rank: int
    world_size: int
    parts: list[Any] = field(default_factory=list)

    def gather(self, value: Any) -> list[Any]:
        if not self.parts:
            raise Sent(value)
        return self.parts


def task_of(name: str) -> run.PretrainTask:
    """Validated on four batches of at most 3 items, the last one of 2."""
    made = setup(Plan(name, Path())).model_copy(
        update={"batch_size": 3, "validation_sequences": 11}
    )
    data = PhantomSampler(24)
    method = run.build_method(made)
    method.begin(made.steps, data)
    return run.PretrainTask(method, data, made).eval()


@pytest.mark.parametrize("name", NAMES)
def test_processes_find_together_what_one_finds_alone(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """To the bit, also where some have nothing to do; each validates its part alone."""
    task = task_of(name)
    with torch.no_grad():
        alone = task.validate()
        for size in (2, 3, 6):
            parts = []
            for rank in range(size):
                here = Process(rank, size)
                monkeypatch.setattr(run, "processes", lambda here=here: here)
                with pytest.raises(Sent) as sent:
                    task.validate()
                (part,) = sent.value.args
                assert sorted(part) == list(range(rank, 4, size))
                parts.append(part)
            here = Process(0, size, parts)
            monkeypatch.setattr(run, "processes", lambda here=here: here)
            monkeypatch.setattr(task, "_validated", parts[0].__getitem__)
            assert task.validate() == alone
            monkeypatch.undo()


@dataclass
class Seen:
    """Batches of the losses, and under which precision things were made."""

    batches: dict[str, list[Batch]] = field(
        default_factory=lambda: {"training_loss": [], "validation_loss": []}
    )
    autocast: dict[str, set[bool]] = field(default_factory=dict)

    def now(self, what: str) -> None:
        self.autocast.setdefault(what, set()).add(torch.is_autocast_enabled("cpu"))


def trained(name: str, precision: str, folder: Path) -> Seen:
    """Two steps and the validation behind them."""
    seen, kind = Seen(), run.method_class(name)

    def loss(patch: pytest.MonkeyPatch, what: str) -> None:
        real = getattr(kind, what)

        def spied(self: PretrainMethod, batch: Batch, *args: Any) -> dict[str, Tensor]:
            seen.now(what)
            seen.batches[what].append({n: value.clone() for n, value in batch.items()})
            found: dict[str, Tensor] = real(self, batch, *args)
            return found

        patch.setattr(kind, what, spied)

    def maker(patch: pytest.MonkeyPatch, what: str) -> None:
        real = getattr(run, what)

        def spied(*args: Any) -> Any:
            seen.now(what)
            return real(*args)

        patch.setattr(run, what, spied)

    with pytest.MonkeyPatch.context() as patch:
        loss(patch, "training_loss")
        loss(patch, "validation_loss")
        maker(patch, "volumes_of")
        maker(patch, "views_of")
        train_plan(Plan(name, folder / precision, steps=2, precision=precision))
    return seen


def assert_full(batch: Batch) -> None:
    """Voxels are float32, whatever the losses are computed in."""
    voxels = [values for name, values in batch.items() if name not in ("ids", "ct")]
    assert {values.dtype for values in voxels} == {torch.float32}


# A few gradients of PCRLv2's decoder are not finite in bfloat16 on some CPUs.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "pcrlv2"])
def test_losses_are_in_the_training_s_precision_and_voxels_in_full(
    tmp_path: Path, name: str
) -> None:
    rounded, exact = (trained(name, kind, tmp_path) for kind in ("bf16-mixed", "32-true"))
    for what in ("training_loss", "validation_loss"):
        assert rounded.autocast[what] == {True}
        assert exact.autocast[what] == {False}
    for seen in (rounded, exact):
        assert seen.autocast["volumes_of"] == seen.autocast["views_of"] == {False}
    for what, batches in exact.batches.items():
        assert len(batches) == len(rounded.batches[what]) > 0
        for one, other in zip(batches, rounded.batches[what], strict=True):
            assert equal(one, other)
            assert_full(other)


@pytest.mark.parametrize("name", NAMES)
def test_a_validation_makes_its_views_in_full(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, seen = task_of(name), []
    real = task.method.validation_loss

    def spied(batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        assert torch.is_autocast_enabled("cpu")
        assert len(batch["ids"]) <= 3
        assert_full(batch)
        seen.append(batch)
        return real(batch, generator)

    monkeypatch.setattr(task.method, "validation_loss", spied)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first = task.validate()
    with torch.no_grad():
        monkeypatch.setattr(task.method, "validation_loss", real)
        exact = task.validate()
    assert len(seen) == 4
    assert first.keys() == exact.keys()
    assert first != exact
    assert first["loss"] == pytest.approx(exact["loss"], rel=0.5, abs=0.05)
