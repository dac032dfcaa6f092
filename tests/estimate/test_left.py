"""The time that a study still takes, from the runs that were done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.helpers import ROOT
from voxseq.config import Config, load_config, read_yaml
from voxseq.engine.states import RunState, State
from voxseq.estimate.left import time_left
from voxseq.plan import Plan, build_plan

TRAINED = ("pretrain", "finetune", "ablation", "label_ratio", "beyond")


@pytest.fixture(scope="module")
def config() -> Config:
    smoke = read_yaml(ROOT / "workflow/scales/smoke.yaml")
    return load_config(ROOT / "params.yaml", [smoke, {"seeds": 2}])


@pytest.fixture(scope="module")
def plan(config: Config) -> Plan:
    return build_plan(config)


def states(
    plan: Plan, known: Mapping[str, State], record: Mapping[str, Any] | None = None
) -> list[RunState]:
    """Fine-tunings and pre-trainings, of which some are known; all others are finished."""
    return [
        RunState(run, known.get(run.id, "finished"), (record or {}) if run.id in known else {})
        for run in plan.runs.values()
    ]


def took(plan: Plan, **seconds: float) -> dict[str, float]:
    """Seconds of runs whose id has a word in it."""
    return {
        run.fingerprint: value
        for run in plan.runs.values()
        for word, value in seconds.items()
        if word in run.id.split("/")
    }


@pytest.mark.parametrize(
    ("known", "seconds", "expected"),
    [
        # The same in another seed, before all others of its task or method.
        ({"finetune/la/ours/s1": "waiting"}, {"s0": 3.0, "mae3d": 99.0}, 3.0),
        # Another of its task; another of its type; per step of another method.
        ({f"finetune/la/ours/s{n}": "waiting" for n in (0, 1)}, {"la": 4.0}, 8.0),
        ({f"finetune/nodule/ours/s{n}": "waiting" for n in (0, 1)}, {"ricord": 5.0}, 10.0),
        ({"pretrain/ours/s0": "waiting"}, {"mae3d": 7.0}, 7.0),
    ],
)
def test_a_run_takes_what_the_likest_took(
    config: Config,
    plan: Plan,
    known: dict[str, State],
    seconds: dict[str, float],
    expected: float,
) -> None:
    found = time_left(config, plan, states(plan, known), took(plan, **seconds))
    assert found.seconds == pytest.approx(expected)
    assert found.unknown == ()
    assert not found.is_estimated


def test_what_nobody_has_done_is_named(config: Config, plan: Plan) -> None:
    found = time_left(config, plan, states(plan, {"pretrain/ours/s0": "waiting"}), {})
    assert (found.seconds, found.unknown) == (0.0, ("pretrain",))
    done = time_left(config, plan, states(plan, {}), {})
    assert (done.seconds, done.unknown) == (0.0, ())


def test_a_run_under_way_tells_its_own_time_and_that_of_others(config: Config, plan: Plan) -> None:
    record = {"doing": "training", "done": 2, "total": 6, "seconds_left": 40.0}
    known: dict[str, State] = {"pretrain/ours/s0": "running"}
    found = time_left(config, plan, states(plan, known, record), {})
    assert found.seconds == pytest.approx(40.0)
    others = [
        RunState(s.run, "waiting") if s.run.id == "pretrain/mae3d/s0" else s
        for s in states(plan, known, record)
    ]
    # 10 s per step.
    assert time_left(config, plan, others, {}).seconds == pytest.approx(40.0 + 60.0)
    # Two at once take half the time; what comes between two stages says nothing of the steps.
    known = {f"pretrain/{name}/s0": "running" for name in ("ours", "mae3d")}
    assert time_left(config, plan, states(plan, known, record), {}).seconds == pytest.approx(40.0)
    aside = {**record, "doing": "features"}
    told = time_left(config, plan, states(plan, known, aside), took(plan, simclr=12.0))
    assert told.seconds == pytest.approx(12.0)


def test_a_stopped_training_has_its_last_steps_left(config: Config, plan: Plan) -> None:
    record = {"doing": "training", "done": 3, "total": 6}
    stopped = states(plan, {"pretrain/ours/s0": "stopped"}, record)
    assert time_left(config, plan, stopped, took(plan, mae3d=8.0)).seconds == pytest.approx(4.0)


def test_a_study_on_gpus_is_estimated_before_it_begins(
    config: Config, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config.execution.pretrain.model_copy(update={"gpu": 1})
    execution = config.execution.model_copy(update={"pretrain": asked})
    on_gpu = config.model_copy(update={"execution": execution})
    monkeypatch.setattr("voxseq.estimate.estimate.estimate", lambda *_, **__: Hours())
    waiting = states(plan, {"pretrain/ours/s0": "waiting", "tables/all": "waiting"})
    found = time_left(on_gpu, plan, waiting, {})
    assert (found.seconds, found.unknown, found.is_estimated) == (7200.0, ("tables",), True)


class Hours:
    """Stands for an estimate: counting takes seconds, and has tests of its own."""

    def hours(self, run: object) -> float:
        return 2.0
