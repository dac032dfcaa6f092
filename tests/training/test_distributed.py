"""Several processes that train together: what they exchange, how they stop and resume."""

from __future__ import annotations

import os
import signal
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers.several import STEPS, Plan, curve, note, noted, together, train_plan, train_plans
from voxseq.base.errors import Interrupted, TrainingError
from voxseq.pretrain.run import PretrainTask
from voxseq.training import pieces
from voxseq.training.distributed import (
    WHOLE,
    BatchShard,
    SynchronisedBatchNorm,
    processes,
    shard_of,
    synchronise_batch_norms,
)

TOLERANCE = 1e-5
STOP_AT = 9
METHODS = ("ours", "medcoss")
#: Axes of a batch norm's input behind channels, and whether it is computed in pieces.
WAYS = list(product(range(4), (False, True)))


def test_shares_cover_the_batch_in_order() -> None:
    batch = {"x": torch.arange(12.0).reshape(6, 2), "ids": torch.arange(6)}
    parts = [shard_of(batch, BatchShard(index, 3)) for index in range(3)]
    assert torch.equal(torch.cat([part["x"] for part in parts]), batch["x"])
    assert all(torch.equal(part["ids"], batch["ids"]) for part in parts)
    assert BatchShard(2, 3).global_size(2) == 6


def test_the_whole_batch_is_handed_through() -> None:
    rows = torch.rand(4, 2)
    assert WHOLE.local(rows) is rows
    assert WHOLE.gather(rows) is rows
    assert WHOLE.mean(rows) is rows


def test_items_of_accumulated_parts_cannot_meet() -> None:
    for meet in (BatchShard(1, 2).gather, BatchShard(1, 2).mean):
        with pytest.raises(ValueError, match="cannot be accumulated"):
            meet(torch.rand(4, 2))


def network(dimensions: int) -> tuple[nn.Module, torch.Tensor]:
    generator = torch.Generator().manual_seed(dimensions)
    shape = (8, 3, *[4] * dimensions)
    norm = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions]
    module = nn.Sequential(norm(3), nn.Tanh(), norm(3, affine=False)).double()
    with torch.no_grad():
        module[0].weight.copy_(torch.rand(3, generator=generator) + 0.5)
    return module, torch.randn(shape, generator=generator, dtype=torch.float64)


def _batch_norms(folder: Path) -> None:
    here = processes()
    pieces.PIECE = 3 * 4**3
    for dimensions, divided in WAYS:
        module, values = network(dimensions)
        own = BatchShard(here.rank, here.world_size).local(values).clone().requires_grad_()
        if divided:
            result = pieces.in_pieces(list(module), own)
        else:
            synchronise_batch_norms(module)
            assert isinstance(module[0], SynchronisedBatchNorm)
            result = module(own)
        gathered = BatchShard(here.rank, here.world_size).gather(result)
        # The loss of the whole batch in every process, as contrastive methods have it.
        (gathered.square().flatten(1).sum(dim=1) * torch.arange(8)).mean().backward()
        found = {
            "output": gathered.detach(),
            "inputs": BatchShard(here.rank, here.world_size).gather(own.grad) / here.world_size,
            "weight": sum_of(module[0].weight.grad) / here.world_size,
            **module.state_dict(),
        }
        if here.is_first:
            torch.save(found, folder / f"{dimensions}{divided}.pt")


def test_norms_on_gpus_are_pytorchs_own() -> None:
    module, _ = network(3)
    names, weight = list(module.state_dict()), module[0].weight
    synchronise_batch_norms(module, "cuda")
    assert all(isinstance(module[place], nn.SyncBatchNorm) for place in (0, 2))
    assert list(module.state_dict()) == names
    # The optimiser holds this very tensor.
    assert module[0].weight is weight


def sum_of(value: torch.Tensor) -> torch.Tensor:
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total


@pytest.mark.slow
def test_batch_norm_over_processes_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    together(2, _batch_norms, tmp_path)
    for dimensions, divided in WAYS:
        module, values = network(dimensions)
        values.requires_grad_()
        result = module(values)
        (result.square().flatten(1).sum(dim=1) * torch.arange(8)).mean().backward()
        found = torch.load(tmp_path / f"{dimensions}{divided}.pt", weights_only=True)
        expected = {
            "output": result.detach(),
            "inputs": values.grad,
            "weight": module[0].weight.grad,
            **module.state_dict(),
        }
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


def _stopped(plans: list[Plan]) -> None:
    """One process, not the first, is asked to stop."""

    def ask(_: PretrainTask, step: int) -> None:
        if step == STOP_AT and processes().rank == processes().world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    for plan in plans:
        try:
            train_plan(plan, ask)
        except Interrupted as request:
            note(plan.folder, str(request))


def _spoilt(plan: Plan) -> None:
    """The weights of the second process alone are no longer finite."""

    def spoil(task: PretrainTask, step: int) -> None:
        if step == 3 and processes().rank == 1:
            task.method.backbone.start_token.data.fill_(float("nan"))

    try:
        train_plan(plan, spoil)
    except TrainingError as error:
        note(plan.folder, str(error))


def _in_both(stopped: list[Plan], resumed: list[Plan], spoilt: Plan) -> None:
    _stopped(stopped)
    train_plans(resumed)
    _spoilt(spoilt)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders straight; down, stopped with two processes; up, stopped with one; spoilt."""
    base = tmp_path_factory.mktemp("resumed")
    straight, down, up = (
        [Plan(method, base / name / method, steps=STEPS) for method in METHODS]
        for name in ("straight", "down", "up")
    )
    train_plans(straight)
    _stopped(up)
    together(2, _in_both, down, up, Plan("ours", base / "spoilt"))
    train_plans(down)
    return base


@pytest.mark.slow
@pytest.mark.parametrize("way", ["down", "up"])
@pytest.mark.parametrize("method", METHODS)
def test_a_training_goes_on_with_another_number_of_processes(
    trained: Path, way: str, method: str
) -> None:
    expected = curve(trained / "straight" / method)
    assert len(expected) == STEPS
    found = curve(trained / way / method)
    assert found == pytest.approx(expected, rel=0, abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_request_to_one_process_stops_all_at_the_same_step(trained: Path, method: str) -> None:
    first, second = noted(trained / "down" / method)
    assert first == second
    assert f"stopped at step {STOP_AT + 1};" in first


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_process_ends_all(trained: Path) -> None:
    first, second = noted(trained / "spoilt")
    assert "the loss of another process is nan at step 3" in first
    assert "the loss is nan at step 3, items" in second
