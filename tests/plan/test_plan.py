"""The plan: what exists, what depends on what, and what a change of the configuration reaches."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from tests.helpers import ROOT
from voxseq.config import Config, merge, read_yaml
from voxseq.config.load import validate
from voxseq.config.registry import METHODS
from voxseq.config.runs import TaskRun
from voxseq.plan import STAGES, Plan, build_plan

#: The demo with the rows beyond the paper, and two seeds.
RAW = merge(
    read_yaml(ROOT / "params.yaml"),
    {**read_yaml(ROOT / "workflow/scales/beyond.yaml"), "seeds": 2},
)
DEMO = validate(RAW, "the demo")
PLAN = build_plan(DEMO)
REPORT = {"tables/all", "figures/all"}
SCORES = {"scores/s0", "scores/s1"}
#: Runs that load no pre-trained weights.
WITHOUT_ENCODER = re.compile(r"/(unetr|vit|unet3d|resnet)(/|_)|_trivial/")


def changed_config(changes: dict[str, Any]) -> Config:
    """The demo with some keys changed, given by dotted path; ``None`` in a path's dict is kept."""
    content = copy.deepcopy(RAW)
    for dotted, value in changes.items():
        place = content
        *parents, last = dotted.split(".")
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = value
    return validate(content, "test")


def differing(config: Config) -> tuple[set[str], set[str], set[str]]:
    """Runs of other fingerprint, runs removed, runs added."""
    other = build_plan(config).runs
    same = PLAN.runs.keys() & other.keys()
    moved = {name for name in same if PLAN.runs[name].fingerprint != other[name].fingerprint}
    return moved, set(PLAN.runs) - set(other), set(other) - set(PLAN.runs)


def runs_of(task: str) -> set[str]:
    """The runs on a downstream task."""
    return {
        r.id for r in PLAN.runs.values() if isinstance(r.config, TaskRun) and r.config.task == task
    }


def followers(plan: Plan, first: set[str]) -> set[str]:
    """``first`` and all runs that depend on them."""
    reached = set(first)
    for run in plan.runs.values():
        if reached & set(run.inputs):
            reached.add(run.id)
    return reached


def test_planning_is_a_pure_function() -> None:
    before = DEMO.model_dump()
    assert build_plan(DEMO) == PLAN
    assert DEMO.model_dump() == before


def test_every_input_exists_and_comes_earlier() -> None:
    seen: set[str] = set()
    for name, run in PLAN.runs.items():
        assert run.id == name
        assert set(run.inputs) <= seen
        assert run.id not in run.inputs
        assert run.inputs == tuple(sorted(set(run.inputs)))
        seen.add(name)


def test_names_are_unique_and_are_safe_as_paths() -> None:
    for words in (
        [run.id for run in PLAN.runs.values()],
        [run.fingerprint for run in PLAN.runs.values()],
        [PLAN.marker(job) for job in PLAN.jobs.values()],
    ):
        assert max(Counter(words).values()) == 1
        assert len({word.lower() for word in words}) == len(words)
    for run in PLAN.runs.values():
        assert all(part and part.replace("_", "").isalnum() for part in run.id.split("/"))
        assert not any(run.id.startswith(f"{other}/") for other in PLAN.runs)
        assert run.job.replace("_", "").replace(".", "").isalnum()


def test_jobs_hold_every_run_once_and_come_after_what_they_need() -> None:
    members = [run.id for job in PLAN.jobs.values() for run in job.runs]
    assert sorted(members) == sorted(PLAN.runs)
    order = list(PLAN.jobs)
    for key, job in PLAN.jobs.items():
        assert key == (job.stage, job.name)
        assert {run.action for run in job.runs} == {job.action}
        needed = {
            (PLAN.runs[name].stage, PLAN.runs[name].job) for run in job.runs for name in run.inputs
        }
        assert set(job.needs) == needed - {key}
        assert all(order.index(need) < order.index(key) for need in job.needs)
        shared = DEMO.data.phantoms_per_job if "phantoms." in job.name else 1
        assert len(job.runs) <= max(DEMO.finetune.runs_per_job, shared)
    assert {job.stage for job in PLAN.jobs.values()} == set(STAGES)


def test_phantoms_share_jobs_and_nothing_else_changes() -> None:
    def of_data(plan: Plan) -> dict[str, list[int]]:
        stages = ("download", "preprocess")
        return {stage: sorted(len(job.runs) for job in plan.of_stage(stage)) for stage in stages}

    alone, six, real = (
        build_plan(changed_config({"data.phantoms_per_job": size, "data.root": root}))
        for size, root in ((1, None), (6, None), (6, "/data"))
    )
    # Phantoms are of one seed, as are the jobs that make them; real images are the same in all.
    assert of_data(real) == {"download": [1] * 23, "preprocess": [1] * 23}
    assert of_data(alone) == {"download": [1] * 46, "preprocess": [1] * 46}
    shared = sorted([5, 6, 6, 6] * 2)
    assert of_data(six) == {"download": shared, "preprocess": shared}
    assert alone.runs.keys() == six.runs.keys()
    assert all(run.fingerprint == six.runs[name].fingerprint for name, run in alone.runs.items())


def test_configurations_of_runs_are_plain_json() -> None:
    for run in PLAN.runs.values():
        assert json.loads(json.dumps(run.settings, allow_nan=False)) == run.settings


def test_the_grid_of_the_demo() -> None:
    """Rows by tasks by seeds, worked out by hand from params.yaml."""
    count = Counter(run.stage for run in PLAN.runs.values())
    tasks, sources, seeds, variants = 9, 14, 2, 7
    assert count["download"] == count["preprocess"] == (tasks + sources) * seeds
    assert count["sequences"] == count["scores"] == seeds
    assert count["tables"] == count["figures"] == 1
    methods = len(DEMO.pretrain.methods)
    assert count["pretrain"] == methods * seeds
    rows = 2 + methods  # two networks from scratch for each type of task
    assert count["finetune"] == tasks * rows * seeds
    assert count["label_ratio"] == 2 * 2 * 3 * seeds  # the network from scratch, and ours
    assert count["ablation"] == (variants + variants * 2) * seeds
    own = 2 * (1 + 2)  # raster order, and the loss of equation 2
    recipes = 3 * 2
    frozen = 2 * (1 + methods)  # a random encoder and every method, on LA and on nodules
    trivial = 7 * 2 + 2 * 4
    assert count["beyond"] == (own + recipes + frozen + trivial) * seeds
    assert "finetune/la/unetr/s0" in PLAN.runs
    assert "finetune/la/vit/s0" not in PLAN.runs
    assert "finetune/nodule/vit/s1" in PLAN.runs
    assert "label_ratio/ricord/ours/r25_s1" in PLAN.runs
    assert "ablation/finetune/task06_lung/stride12/s0" in PLAN.runs


def printed(code: str, **environment: str) -> list[Any]:
    """The JSON lines that a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


PLANNING = (
    "import json, sys, voxseq.cli.main; from pathlib import Path\n"
    "from voxseq.config import load_config, read_yaml\n"
    "from voxseq.plan import build_plan\n"
    "beyond = read_yaml(Path('workflow/scales/beyond.yaml'))\n"
    "plan = build_plan(load_config(Path('params.yaml'), [beyond, {'seeds': 2}]))\n"
)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_fingerprints_are_the_same_in_every_process(seed: str) -> None:
    code = (
        "print(json.dumps([[r.id, r.fingerprint] for r in plan.runs.values()]))\n"
        "print(json.dumps([plan.marker(j) for j in plan.jobs.values()]))\n"
    )
    runs, jobs = printed(PLANNING + code, PYTHONHASHSEED=seed, TZ=f"UTC+{seed}")
    assert runs == [[r.id, r.fingerprint] for r in PLAN.runs.values()]
    assert jobs == [PLAN.marker(job) for job in PLAN.jobs.values()]


def test_planning_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'monai', 'pandas', 'numpy', 'matplotlib', 'sklearn', 'scipy'}"
    assert printed(f"{PLANNING}print(json.dumps(sorted({heavy} & set(sys.modules))))") == [[]]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("la.steps", 161),
        ("la.augmentation", "none"),
        ("la.overlap", 0.25),
        ("la.pretrained", {"lr": 5e-4}),
        ("ricord.steps", 161),
    ],
)
def test_a_recipe_of_one_task_reaches_that_task_and_the_report(key: str, value: Any) -> None:
    task, name = key.split(".")
    moved, removed, added = differing(changed_config({f"finetune.tasks.{key}": value}))
    expected = runs_of(task)
    if name == "pretrained":
        recipe = DEMO.finetune.tasks["la"].pretrained
        trained = {n for n in expected if PLAN.runs[n].action == "finetune"}
        expected = {n for n in trained if PLAN.runs[n].config.optimiser == recipe}
        assert "beyond/finetune/la/unetr_frozen/s0" in expected
        assert "beyond/finetune/la/ours_scratch_recipe/s0" not in expected
    if task == "ricord":
        assert any(name.startswith("ablation/") for name in expected)
    assert expected
    assert moved == expected | SCORES | REPORT
    assert not removed | added


@pytest.mark.parametrize(
    ("key", "value", "first"),
    [
        ("finetune.tasks.la.data", {"normalise": "zscore"}, "preprocess/task/la"),
        ("ablation.variants.stride12.stride", 4, "ablation/pretrain/stride12"),
    ],
)
def test_a_change_reaches_its_own_run_and_what_reads_it(key: str, value: Any, first: str) -> None:
    moved, removed, added = differing(changed_config({key: value}))
    assert moved == followers(PLAN, {f"{first}/s{seed}" for seed in range(2)})
    assert not removed | added


def test_a_pretraining_parameter_reaches_the_method_and_what_follows() -> None:
    changes = {"pretrain.methods.ours.optimiser": {"lr": 2e-3}}
    moved, removed, added = differing(changed_config(changes))
    trainings = [run for run in PLAN.runs.values() if run.action == "pretrain"]
    ours = {run.id for run in trainings if run.config.method == "ours"}
    assert ours > {"pretrain/ours/s0", "ablation/pretrain/stride4/s1"}
    assert moved == followers(PLAN, ours)
    assert not removed | added
    assert not any(WITHOUT_ENCODER.search(name) for name in moved)


def test_training_from_scratch_does_not_depend_on_pretraining() -> None:
    for run in PLAN.runs.values():
        if run.action != "finetune":
            continue
        method = METHODS[run.config.method]
        pretrained = [name for name in run.inputs if PLAN.runs[name].action == "pretrain"]
        assert bool(pretrained) == method.is_pretrained == (run.config.pretrained is not None)
    for changes in ({"pretrain.steps": 900}, {"sequences.seed": 9}):
        moved, _, _ = differing(changed_config(changes))
        assert {"pretrain/ours/s0", "pretrain/ours/s1"} <= moved
        assert not any(WITHOUT_ENCODER.search(name) for name in moved)


def without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


NETWORKS = RAW["finetune"]["scratch"]
TRAINED = {r.id for r in PLAN.runs.values() if r.action in ("pretrain", "finetune", "probe")}


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"finetune.scratch": [n for n in NETWORKS if n != "vit"]}, r"/vit(/|_)"),
        ({"finetune.scratch": [n for n in NETWORKS if n != "unetr"]}, r"/unetr(/|_)"),
        ({"pretrain.methods": {}, "ablation.variants": {}}, None),
        ({"ablation.variants": without(RAW["ablation"]["variants"], "stride4")}, "stride4"),
        ({"label_ratio.ratios": [0.5, 0.25]}, "r10_"),
    ],
)
def test_removing_something_removes_its_runs_and_moves_only_the_report(
    changes: dict[str, Any], gone: str | None
) -> None:
    """A network, all methods, a seed, a variant, a label ratio."""
    moved, removed, added = differing(changed_config(changes))
    if gone is None:
        assert removed == {n for n in TRAINED if not WITHOUT_ENCODER.search(n)}
    else:
        assert removed == {name for name in PLAN.runs if re.search(gone, name)}
    assert removed
    assert moved == SCORES | REPORT
    assert not added


@pytest.mark.parametrize(("keep", "seeds"), [("one_seed", {0}), ("all", {0, 1}), ("none", set())])
def test_networks_are_kept_of_the_seeds_that_are_asked_for(keep: str, seeds: set[int]) -> None:
    plan = build_plan(changed_config({"finetune.keep_models": keep}))
    trained = [run for run in plan.runs.values() if run.action == "finetune"]
    kept = {run.id for run in trained if run.config.kept is not None}
    wanted = {r.id for r in trained if r.stage == "finetune" and r.config.seed in seeds}
    assert kept == wanted
    for run in trained:
        if run.id in kept:
            assert run.config.kept.data == DEMO.finetune.tasks[run.config.task].data


def test_the_order_of_keys_in_the_file_is_no_matter() -> None:
    """DVC does not see it, and jobs read a file with sorted keys."""

    def turned(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: turned(tree[key]) for key in reversed(tree)}
        return tree

    other = build_plan(validate(turned(RAW), "test"))
    assert dict(other.runs) == dict(PLAN.runs)
    assert dict(other.jobs) == dict(PLAN.jobs)


def test_where_the_data_lie_is_no_part_of_any_run() -> None:
    one, two = (build_plan(changed_config({"data.root": p})) for p in ("/data/a", "b c/d"))
    assert one == two
    phantoms = build_plan(changed_config({}))
    assert all(
        one.runs[name.rsplit("/", 1)[0]].fingerprint != phantoms.runs[name].fingerprint
        for name in PLAN.runs
        if name.startswith("download/")
    )
    released = build_plan(changed_config({"data.root": "/data/a", "data.release": "2"}))
    assert not {r.fingerprint for r in one.runs.values()} & {
        r.fingerprint for r in released.runs.values()
    }


def test_the_version_of_code_reaches_the_runs_that_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from voxseq import plan as module

    real = module.versions()
    for action, first in (
        ("download", "download/"),
        ("sequences", "sequences/"),
        ("pretrain", "pretrain/"),
        ("finetune", "finetune/"),
        ("tables", "tables/"),
    ):
        monkeypatch.setattr(module, "versions", lambda a=action: {**real, a: real[a] + 1})
        moved, _, _ = differing(DEMO)
        assert next(name for name in PLAN.runs if name in moved).startswith(first)
        assert moved == followers(PLAN, moved)
        assert "tables/all" in moved
    monkeypatch.setattr(module, "versions", lambda: {**real, "another": 99})
    assert differing(DEMO) == (set(), set(), set())


@pytest.mark.parametrize("root", [None, "data"])
def test_only_real_images_are_searched_for_copies(root: str | None) -> None:
    plan = PLAN if root is None else build_plan(changed_config({"data.root": root}))
    downloads = [run.config for run in plan.runs.values() if run.action == "download"]
    assert {run.split.pictures for run in downloads} == {root is not None}
