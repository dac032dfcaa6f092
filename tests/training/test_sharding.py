"""Weights divided among processes: the same training, whole checkpoints, half of the memory."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from tests.helpers.several import Plan, curve, gradient, note, noted, together, train, train_all
from voxseq.base.errors import ConfigError, Interrupted, TrainingError
from voxseq.config import load_config
from voxseq.config.registry import METHODS
from voxseq.pretrain.run import PretrainTask
from voxseq.training import checkpoint, loop, sharding
from voxseq.training.distributed import team

TOLERANCE = 1e-5
SHARDING = ("ours", "mae3d", "simclr")
#: In double precision where rounding grows; see test_several_processes.py.
PRECISION = {"ours": "32-true", "mae3d": "64-true", "simclr": "64-true"}
STEPS, STOP_AT = 24, 9
CLIPPED = {"optimiser": {"lr": 1e-3, "warmup_steps": 5, "clip_norm": 0.05}}


def local(value: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor; all of one that is not divided."""
    return value.to_local() if isinstance(value, DTensor) else value


def plans_in(base: Path, name: str, **changes: object) -> list[Plan]:
    plans = [Plan(m, base / name / m, precision=PRECISION[m]) for m in SHARDING]
    return [replace(plan, **changes) for plan in plans]  # type: ignore[arg-type]


def short(base: Path, name: str, *, sharded: bool) -> Plan:
    return Plan("ours", base / name, steps=STEPS, sharded=sharded)


def stop(plan: Plan) -> None:
    """Train; the last process is asked to stop."""

    def ask(_: PretrainTask, step: int) -> None:
        if step == STOP_AT and team().rank == team().size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as caught:
        train(plan, ask)
    note(plan.folder, str(caught.value))


def stop_during_validation(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train; the time that a request leaves runs out in each process by itself."""

    def runs_out(_: PretrainTask) -> dict[str, float]:
        raise Interrupted("stopped by SIGTERM")

    monkeypatch.setattr(PretrainTask, "validate", runs_out)
    with pytest.raises(Interrupted) as caught:
        train(plan)
    note(plan.folder, str(caught.value))


def train_by_other_clocks(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train; only by the clock of the second process the end gets a checkpoint of its own."""
    monkeypatch.setattr(loop, "LATE", (1e9, -1.0)[team().rank])
    train(plan)


def spoil(plan: Plan) -> None:
    """Train; before a checkpoint a weight is no longer finite, which the second process has."""

    def watch(task: PretrainTask, step: int) -> None:
        if step == 9 and team().rank == 1:
            task.after_step = spoiled(task)  # type: ignore[method-assign]

    def spoiled(task: PretrainTask) -> Callable[[int], None]:
        def after_step(_: int) -> None:
            local(task.method.backbone.start_token.data).fill_(float("nan"))

        return after_step

    with pytest.raises(TrainingError) as caught:
        train(plan, watch)
    note(plan.folder, str(caught.value))


def count_between_parts(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and note how many numbers the gradients of the first of two parts have."""
    optimisers: list[torch.optim.Optimizer] = []
    set_up = sharding.set_up

    def watched(fabric: Any, module: nn.Module, optimiser: torch.optim.Optimizer) -> Any:
        optimisers.append(optimiser)
        return set_up(fabric, module, optimiser)

    def watch(_: PretrainTask, __: int) -> None:
        weights = [weight for group in optimisers[0].param_groups for weight in group["params"]]
        found = [weight.grad for weight in weights if weight.grad is not None]
        note(plan.folder, str(sum(local(gradient).numel() for gradient in found)))

    monkeypatch.setattr(sharding, "set_up", watched)
    train(plan, watch)


def count_loaded(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on, and note how many numbers the optimiser gets as its moments."""
    load = torch.optim.AdamW.load_state_dict

    def watched(self: torch.optim.AdamW, state: dict[str, Any]) -> None:
        moments = [v for entries in state["state"].values() for v in entries.values() if v.ndim]
        note(plan.folder, str(sum(local(value).numel() for value in moments)))
        load(self, state)

    monkeypatch.setattr(torch.optim.AdamW, "load_state_dict", watched)
    train(plan)


def gather(folder: Path) -> None:
    """Put a tensor together that one process keeps."""
    mesh = init_device_mesh("cpu", (team().size,))
    values = torch.arange(6.0)
    divided = distribute_tensor(values, mesh, [Shard(0)])
    found = sharding.whole({"a": [divided]}, kept=team().is_first)["a"][0]
    is_right = torch.equal(found, values) if team().is_first else found is None
    note(folder, str(is_right))


def count(plan: Plan) -> None:
    """Train, and note how many numbers this process keeps at the end of each update."""
    kept: dict[str, int] = {}
    update = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: object) -> object:
        done = update(self, *args)  # type: ignore[arg-type]
        weights = [weight for group in self.param_groups for weight in group["params"]]
        tensors = {
            "weights": weights,
            "gradients": [weight.grad for weight in weights],
            "moments": [v for state in self.state.values() for v in state.values() if v.ndim],
        }
        for name, found in tensors.items():
            kept[name] = sum(local(value).numel() for value in found)
        return done

    torch.optim.AdamW.step = watched  # type: ignore[method-assign, assignment]
    try:
        task = train(plan)
    finally:
        torch.optim.AdamW.step = update  # type: ignore[method-assign]
    assert not any(hasattr(weight, "to_local") for weight in task.parameters())
    kept["all"] = sum(weight.numel() for weight in task.parameters())
    (plan.folder / f"kept{team().rank}.json").write_text(json.dumps(kept))


def in_two(base: Path) -> None:
    train_all(plans_in(base, "sharded", sharded=True))
    divided = {"sharded": True, "accumulate": 2, "recompute": True}
    train_all(plans_in(base, "divided", **divided)[:2])
    stop(short(base, "to one", sharded=True))
    stop(short(base, "to all", sharded=False))
    stop(short(base, "stopped in two", sharded=True))
    count(replace(short(base, "counted", sharded=True), steps=2))
    train(short(base, "from one", sharded=True))
    train(replace(short(base, "clipped in two", sharded=True), settings=CLIPPED))
    train(replace(short(base, "bf16 in two", sharded=True), precision="bf16-mixed"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        parts = replace(short(base, "parts", sharded=True), steps=1, accumulate=2)
        count_between_parts(parts, monkeypatch)
    spoil(short(base, "spoilt", sharded=True))
    gather(base / "gathered")
    with pytest.MonkeyPatch.context() as monkeypatch:
        count_loaded(short(base, "to all", sharded=True), monkeypatch)
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_during_validation(short(base, "in validation", sharded=True), monkeypatch)
    with pytest.MonkeyPatch.context() as monkeypatch:
        train_by_other_clocks(short(base, "clocks", sharded=True), monkeypatch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders one, sharded, divided by method; the others are of one method."""
    base = tmp_path_factory.mktemp("sharded")
    train_all([*plans_in(base, "one"), short(base, "straight", sharded=False)])
    stop(short(base, "from one", sharded=False))
    stop(short(base, "stopped in one", sharded=False))
    train(replace(short(base, "clipped in one", sharded=False), settings=CLIPPED))
    train(replace(short(base, "bf16 in one", sharded=False), precision="bf16-mixed"))
    together(2, in_two, base)
    # A single process divides nothing, whatever it is asked for.
    train(short(base, "to one", sharded=True))
    return base


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "other"),
    [*((m, "sharded") for m in SHARDING), ("ours", "divided"), ("mae3d", "divided")],
)
def test_losses_and_gradients_are_those_of_one_process(
    trained: Path, method: str, other: str
) -> None:
    one, two = trained / "one" / method, trained / other / method
    for split in ("train", "val"):
        expected = curve(one, split)
        assert max(expected) - min(expected) > 100 * TOLERANCE
        assert curve(two, split) == pytest.approx(expected, rel=0, abs=TOLERANCE)
    first, found = gradient(one), gradient(two)
    assert first.keys() == found.keys()
    for name, norm in first.items():
        assert found[name] == pytest.approx(norm, rel=1e-4, abs=1e-6 * max(first.values())), name


@pytest.mark.slow
@pytest.mark.parametrize("way", ["to one", "to all", "from one"])
def test_a_training_goes_on_divided_otherwise(trained: Path, way: str) -> None:
    expected = curve(trained / "straight")
    assert len(expected) == STEPS
    assert curve(trained / way) == pytest.approx(expected, rel=0, abs=TOLERANCE)


@pytest.mark.slow
def test_a_request_to_one_process_stops_all_at_the_same_step(trained: Path) -> None:
    first, second = noted(trained / "to one")
    assert first == second
    assert f"stopped at step {STOP_AT + 1};" in first


@pytest.mark.slow
@pytest.mark.parametrize(("way", "tolerance"), [("clipped", TOLERANCE), ("bf16", 2e-3)])
def test_clipping_and_half_precision_are_those_of_one_process(
    trained: Path, way: str, tolerance: float
) -> None:
    expected = curve(trained / f"{way} in one")
    assert max(expected) - min(expected) > 50 * tolerance
    assert curve(trained / f"{way} in two") == pytest.approx(expected, rel=0, abs=tolerance)


@pytest.mark.slow
def test_clipping_takes_effect(trained: Path) -> None:
    free, clipped = curve(trained / "straight"), curve(trained / "clipped in one")
    assert max(abs(a - b) for a, b in zip(free, clipped, strict=True)) > 100 * TOLERANCE


@pytest.mark.slow
def test_processes_that_did_not_agree_to_stop_write_no_checkpoint(trained: Path) -> None:
    """Each would put another moment's parts together."""
    first, second = noted(trained / "in validation")
    assert first == second
    assert "could not wait for each other" in first
    saved = checkpoint.load(trained / "in validation/state", {"method": "ours"})
    assert saved is not None
    assert saved["progress"]["step"] == 20


@pytest.mark.slow
def test_all_processes_write_the_last_checkpoint_or_none(trained: Path) -> None:
    saved = checkpoint.load(trained / "clocks/state", {"method": "ours"})
    assert saved is not None
    assert saved["progress"]["step"] == STEPS
    assert curve(trained / "clocks", "val") == pytest.approx(
        curve(trained / "straight", "val"), rel=0, abs=TOLERANCE
    )


@pytest.mark.slow
def test_a_weight_that_is_not_finite_in_one_process_ends_all(trained: Path) -> None:
    first, second = noted(trained / "spoilt")
    for said in (first, second):
        assert "start_token after its update is not finite at step 9" in said
    assert not (trained / "spoilt/state" / checkpoint.FILE).exists()


@pytest.mark.slow
def test_gradients_are_divided_between_two_parts_of_a_batch(trained: Path) -> None:
    total = json.loads((trained / "counted/kept0.json").read_text())["all"]
    kept = [int(number) for number in noted(trained / "parts")]
    assert sum(kept) == total


@pytest.mark.slow
def test_moments_are_divided_before_the_optimiser_has_them(trained: Path) -> None:
    total = json.loads((trained / "counted/kept0.json").read_text())["all"]
    loaded = [int(number) for number in noted(trained / "to all")]
    assert sum(loaded) == 2 * total


@pytest.mark.slow
def test_one_process_keeps_what_is_put_together(trained: Path) -> None:
    assert noted(trained / "gathered") == ["True", "True"]


@pytest.mark.slow
def test_each_process_keeps_half_of_the_weights_gradients_and_moments(trained: Path) -> None:
    kept = [json.loads((trained / f"counted/kept{rank}.json").read_text()) for rank in (0, 1)]
    total = kept[0]["all"]
    assert sum(part["weights"] for part in kept) == total
    for part in kept:
        assert part["all"] == total
        assert part["weights"] == pytest.approx(total / 2, rel=0.05)
        assert part["gradients"] == part["weights"]
        assert part["moments"] == 2 * part["weights"]


@pytest.mark.slow
def test_the_checkpoint_of_divided_weights_is_whole(trained: Path) -> None:
    saved, expected = (
        checkpoint.load(trained / f"stopped in {number}" / "state", {"method": "ours"})
        for number in ("two", "one")
    )
    assert saved is not None
    assert expected is not None
    assert saved["model"].keys() == expected["model"].keys()
    for name, value in expected["model"].items():
        torch.testing.assert_close(saved["model"][name], value, rtol=0, atol=TOLERANCE)
    first, second = (s["optimiser"]["state"] for s in (saved, expected))
    for number, entries in second.items():
        for name, value in entries.items():
            torch.testing.assert_close(first[number][name], value, rtol=0, atol=TOLERANCE)


def test_what_is_not_divided_is_handed_through() -> None:
    module = nn.Linear(3, 2)
    state = {"state": module.state_dict(), "numbers": [1, (2, 3)], "none": None}
    again = sharding.whole(state)
    assert again["numbers"] == [1, (2, 3)]
    assert again["none"] is None
    assert all(again["state"][n] is value for n, value in state["state"].items())
    weights = list(module.parameters())
    sharding.make_whole(module)
    assert all(a is b for a, b in zip(weights, module.parameters(), strict=True))
    assert all(
        value is state["state"][name]
        for name, value in sharding.divided_as(state["state"], module).items()
    )


@pytest.mark.parametrize(
    ("sharded", "said"),
    [
        (["dino"], "sharded: dino: weights are used outside"),
        (["ours", "moco_v3"], "sharded: moco_v3: weights are used outside"),
        (["nothing"], "sharded: nothing: there is no such pre-training method"),
    ],
)
def test_methods_that_need_whole_weights_are_refused(
    root: Path, sharded: list[str], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(root / "params.yaml", [{"execution": {"pretrain": {"sharded": sharded}}}])
    assert said in str(caught.value)


def test_half_precision_with_a_scaler_is_refused_with_divided_weights(root: Path) -> None:
    overlay = {
        "pretrain": {"precision": "16-mixed"},
        "execution": {"pretrain": {"sharded": ["ours"]}},
    }
    with pytest.raises(ConfigError) as caught:
        load_config(root / "params.yaml", [overlay])
    assert "bf16-mixed" in str(caught.value)


def test_sharding_methods_say_so() -> None:
    able = {n for n, row in METHODS.items() if row.settings and row.settings.shards}
    assert able == set(SHARDING)
