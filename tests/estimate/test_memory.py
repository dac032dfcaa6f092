"""Bytes counted on tensors without values: by hand, and against the same step with values."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.helpers import ROOT
from voxseq.config import load_config, read_yaml
from voxseq.config.runs import PretrainRun
from voxseq.estimate import memory
from voxseq.estimate.count import Numbers, batch_of, fed_shape
from voxseq.estimate.counts import Counts
from voxseq.estimate.memory import Ledger
from voxseq.plan import build_plan
from voxseq.pretrain.methods.mae3d import MAE3DMethod
from voxseq.pretrain.run import build_method
from voxseq.sequences.sampler import SequenceSampler

KILO = 1000 * 4


def methods() -> dict[str, PretrainRun]:
    """Configuration of each method at the smoke scale."""
    overlay = read_yaml(ROOT / "workflow/scales/smoke.yaml")
    plan = build_plan(load_config(ROOT / "params.yaml", [overlay]))
    runs = (run.config for run in plan.runs.values() if run.stage == "pretrain")
    return {own.method: own for own in runs}


METHODS = methods()


def ledger() -> Ledger:
    return Ledger(FakeTensorMode(allow_non_fake_inputs=True))


def test_what_lives_at_the_same_time_by_hand() -> None:
    counted, given = ledger(), torch.zeros(1000)
    counted.hold([given, given.view(10, 100)])
    assert counted.live == KILO
    with counted:
        doubled = given * 2
        raised = doubled + 1
        del doubled
        raised.view(10, 100).add_(1)
    assert (counted.live, counted.peak) == (2 * KILO, 3 * KILO)
    counted.restart()
    assert counted.peak == 2 * KILO
    del raised
    assert counted.live == KILO


def test_what_the_backward_pass_needs_is_kept() -> None:
    counted, weight = ledger(), torch.ones(1000, requires_grad=True)
    counted.hold([weight])
    with counted:
        loss = weight.exp().sin().sum()
        # Input and output of exp, input of sin; the output of sin is needed by nobody.
        assert counted.live == 2 * KILO + 4
        loss.backward()  # type: ignore[no-untyped-call]
    del loss
    assert weight.grad is not None
    assert counted.live == 2 * KILO


def test_large_tensors_get_no_values() -> None:
    counted = ledger()
    with counted:
        made = torch.arange(3) + torch.zeros(2**24, 1)
    assert counted.live == 3 * 2**24 * 4
    assert type(made).__name__ == "FakeTensor"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_takes_what_the_same_step_with_values_takes(name: str, precision: str) -> None:
    own = METHODS[name].model_copy(update={"precision": precision})
    method = build_method(own)
    method.begin(own.steps, cast(SequenceSampler, Numbers()))

    def values(*size: int, dtype: torch.dtype) -> Tensor:
        return torch.rand(*size).to(dtype)

    batch = batch_of(method, fed_shape(method), "MRI", own.batch_size, values)
    counted = ledger()
    counted.hold([*method.parameters(), *method.buffers(), *batch.values()])
    training = memory._step(method, own, batch, 1, counted)
    found = memory.pretraining(own, own.batch_size, 1, False)
    assert found.training == pytest.approx(training, rel=0.01)
    assert found.weights < found.validation
    assert found.takes_sequences == (name == "ours")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ours", "mae3d", "dino"])
def test_memory_follows_rows_parts_and_recomputation(name: str) -> None:
    own = METHODS[name].model_copy(update={"validation_sequences": 2})
    whole = memory.pretraining(own, 16, 1, False)
    sizes = [memory.pretraining(own, rows, 1, False).training for rows in (32, 64)]
    assert sizes[1] - sizes[0] == pytest.approx(2 * (sizes[0] - whole.training), rel=0.1)
    assert memory.pretraining(own, 16, 1, True).training < whole.training
    if own.settings.accumulates:
        parts = memory.pretraining(own, 16, 4, False)
        assert parts.training < whole.training
        assert parts.inputs == whole.inputs


def test_a_method_whose_shapes_depend_on_voxels_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def loss(self: MAE3DMethod, batch: dict[str, Tensor], *_: object) -> dict[str, Tensor]:
        bright = batch["volume"][batch["volume"] > 0.5]
        return {"loss": bright.mean()}

    monkeypatch.setattr(MAE3DMethod, "training_loss", loss)
    found = memory.pretraining(METHODS["mae3d"], 4, 1, False)
    assert (found.is_counted, found.peak) == (False, 0.0)
    assert "mae3d: its memory is not counted" in caplog.text


def test_it_is_kept_beside_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "counts.json"
    counts = Counts(path)
    first = counts.memory("pretraining", METHODS["mae3d"], 4, 1, False)
    counts.keep()
    monkeypatch.delattr(memory, "pretraining")
    assert Counts(path).memory("pretraining", METHODS["mae3d"], 4, 1, False) == first
