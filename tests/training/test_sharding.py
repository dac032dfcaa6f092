"""Weights divided among processes: the same training, whole checkpoints, half of the memory."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "pretrain"))
from several import Plan, curve, together, train, train_all

from voxseq.config import load_config
from voxseq.errors import ConfigError, Interrupted
from voxseq.methods import METHODS
from voxseq.pretrain.run import PretrainTask
from voxseq.training import checkpoint, sharding
from voxseq.training.distributed import team

TOLERANCE = 1e-5
SHARDING = ("ours", "mae3d", "simclr")
#: In double precision where rounding grows; see test_several_processes.py.
PRECISION = {"ours": "32-true", "mae3d": "64-true", "simclr": "64-true"}
STEPS, STOP_AT = 24, 9


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
    (plan.folder / f"rank{team().rank}").write_text(str(caught.value))


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
            kept[name] = sum(sharding.local(value).numel() for value in found)
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
    train(short(base, "to all", sharded=True))
    train(short(base, "from one", sharded=True))
    stop(short(base, "stopped in two", sharded=True))
    count(replace(short(base, "counted", sharded=True), steps=2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders one, sharded, divided by method; the others are of one method."""
    base = tmp_path_factory.mktemp("sharded")
    train_all([*plans_in(base, "one"), short(base, "straight", sharded=False)])
    stop(short(base, "from one", sharded=False))
    stop(short(base, "stopped in one", sharded=False))
    together(2, in_two, base)
    # A single process divides nothing, whatever it is asked for.
    train(short(base, "to one", sharded=True))
    return base


def gradient(folder: Path) -> dict[str, float]:
    norms: dict[str, float] = json.loads((folder / "out/gradient.json").read_text())
    return norms


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
    first, second = ((trained / "to one" / f"rank{rank}").read_text() for rank in (0, 1))
    assert first == second
    assert f"stopped at step {STOP_AT + 1};" in first


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
