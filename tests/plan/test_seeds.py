"""Seeds in the plan: each is a chain of its own, which knows nothing of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from voxseq.config import Config, load_config, read_yaml
from voxseq.plan import Plan, build_plan

REPORT = {"tables/all", "figures/all"}
BEYOND = read_yaml(ROOT / "workflow/scales/beyond.yaml")


def config(**changes: Any) -> Config:
    """The demo with the rows beyond the paper and two seeds, and some changes."""
    return load_config(ROOT / "params.yaml", [BEYOND, {"seeds": 2, **changes}])


def planned(**changes: Any) -> Plan:
    return build_plan(config(**changes))


DEMO, PLAN = config(), planned()


def differing() -> set[str]:
    """Runs of another fingerprint than when the results folder was empty."""
    now = planned().runs
    assert now.keys() == PLAN.runs.keys()
    return {name for name, run in now.items() if run.fingerprint != PLAN.runs[name].fingerprint}


@pytest.mark.parametrize("number", [1, 5])
def test_a_seed_does_not_depend_on_the_number_of_seeds(number: int) -> None:
    other = planned(seeds=number)
    fewer, more = sorted((PLAN, other), key=lambda plan: len(plan.runs))
    kept = fewer.runs.keys() - REPORT
    assert {name: more.runs[name] for name in kept} == {name: fewer.runs[name] for name in kept}
    further = more.runs.keys() - fewer.runs.keys()
    first = min(number, DEMO.seeds)
    assert {int(name.rsplit("s", 1)[1]) for name in further} == set(
        range(first, max(number, DEMO.seeds))
    )
    reports = {key for key in fewer.jobs if key[0] in ("tables", "figures")}
    assert {k: j for k, j in fewer.jobs.items() if k not in reports}.items() <= more.jobs.items()


def seed_of(name: str) -> str:
    return name.rsplit("/", 1)[1].rsplit("_", 1)[-1]


def test_jobs_and_inputs_never_mix_seeds() -> None:
    for job in PLAN.jobs.values():
        assert len({seed_of(run.id) for run in job.runs}) == 1
    for run in PLAN.runs.values():
        if run.id not in REPORT:
            assert {seed_of(name) for name in run.inputs} <= {seed_of(run.id)}


def test_each_seed_has_phantoms_and_trainings_of_its_own() -> None:
    for seed, name in ((0, "s0"), (1, "s1")):
        phantoms = PLAN.runs[f"download/la/{name}"].config.phantoms
        assert phantoms.seed == DEMO.data.phantoms.seed + seed
        assert PLAN.runs[f"pretrain/ours/{name}"].config.seed == seed
        run = PLAN.runs[f"finetune/la/ours/{name}"]
        assert (run.config.seed, run.config.pretrained) == (seed, f"pretrain/ours/{name}")
        assert PLAN.runs[f"label_ratio/la/ours/r10_{name}"].config.seed == seed
    assert len({PLAN.runs[name].config.study for name in ("scores/s0", "scores/s1")}) == 1


def test_real_images_are_prepared_once_for_all_seeds() -> None:
    plan = planned(data={"root": "data/here"})
    shared = {r.id for r in plan.runs.values() if r.stage in ("download", "preprocess")}
    assert {"download/la", "preprocess/task/la", "preprocess/source/amos22"} <= shared
    assert not any(name.endswith(("/s0", "/s1")) for name in shared)
    for seed in range(2):
        inputs = plan.runs[f"pretrain/ours/s{seed}"].inputs
        assert {"sequences/all", "preprocess/source/amos22"} <= set(inputs)
        assert "preprocess/task/la" in plan.runs[f"finetune/la/unetr/s{seed}"].inputs


def test_further_seeds_in_the_results_reach_the_report_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/table5/scores"
    folder.mkdir(parents=True)
    for name in ("seed-1.json", "seed-x.json", "notes.json"):
        (folder / name).write_text("planned, or no seed")
    assert differing() == set()
    prints = set()
    for content in ("one", "another"):
        (folder / "seed-7.json").write_text(content)
        assert differing() == REPORT
        further = planned().runs["tables/all"].config.further
        assert list(further) == ["results/table5/scores/seed-7.json"]
        prints |= set(further.values())
    assert len(prints) == 2
