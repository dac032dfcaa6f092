"""What dvc.yaml names against what the plan reads: every value of the demo is changed once."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import ROOT
from voxseq.base.errors import ConfigError
from voxseq.catalogue import CATALOGUE
from voxseq.config import Config, load_config, merge, read_yaml
from voxseq.config.load import validate
from voxseq.plan import READS, STAGES, Plan, build_plan

#: Tasks that differ from others in values alone, and are in no stage that those are not.
ALIKE = ("task07_pancreas", "task09_spleen", "task10_colon")


def study() -> dict[str, Any]:
    """The demo without these, with the rows beyond the paper, which fill the last of its stages."""
    demo = read_yaml(ROOT / "params.yaml")
    tasks = {name: task for name, task in demo["finetune"]["tasks"].items() if name not in ALIKE}
    beyond = read_yaml(ROOT / "workflow/scales/beyond.yaml")
    merged = merge(demo, {**beyond, "finetune": {"runs_per_job": 2, "tasks!": tasks}})
    merged["beyond"]["trivial"] = [*tasks]
    return merged


RAW = study()
DEMO = validate(RAW, "the demo")
PLAN = build_plan(DEMO)
Path_ = tuple[Any, ...]
CODE_FILE = "src/voxseq/code.json"
#: What is done in each stage; the demo has all of it.
ACTIONS = {stage: {r.action for r in PLAN.runs.values() if r.stage == stage} for stage in STAGES}


def leaves(tree: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Places of all values, and of all lists as a whole."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
        return
    yield path, tree
    if isinstance(tree, list):
        for key, value in enumerate(tree):
            yield from leaves(value, (*path, key))


WORDS = [
    *("spatial", "semantic", "prefix", "causal", "raster", "norm", "window", "zscore", "none"),
    *("uniform", "class_balanced", "la", "msd", "nodule", "stored", "native", "poly", "constant"),
    *("auc", "accuracy_plus_auc", "bf16-mixed", "ricord", "task06_lung", "mae3d"),
    *("large", "small", "multistep", "zstd", "cpu", "fork"),
]


def candidates(path: Path_, value: Any) -> list[Any]:
    """Other values for a place, some of which the configuration accepts."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        near = [value + 1, value - 1, value * 2, value / 2, value + 0.05, value - 0.01]
        return [*near, value // 2, value + 4, value * 4, value - 4]
    if isinstance(value, str):
        names = list(CATALOGUE) if "dataset" in str(path[-1]) else []
        return [*names, *(word for word in WORDS if word != value), f"{value}x", f"{value}/x"]
    if isinstance(value, list):
        further = (7, "la", "ours", "tensorboard")
        lists = [value[:-1], value[1:], value[::-1], *([*value, word] for word in further)]
        if value and all(isinstance(v, int | float) for v in value):
            lists += [[v * 2 for v in value], [v + 1 for v in value], [v / 2 for v in value]]
            lists += [[v - 4 for v in value]]
        return lists
    numbers = [0, 1, 0.5, 200, "elsewhere", [2, 2, 2], [16, 16, 16], [0, 9], [1] * 2, [1] * 3]
    return [*numbers, "prefix", "raster", "norm", "spatial", ["ours"]]


def put(tree: dict[str, Any], path: Path_, value: Any) -> dict[str, Any]:
    """A copy of ``tree`` with another value in one place; only the way there is copied."""
    head, *rest = path
    copied: Any = list(tree) if isinstance(tree, list) else dict(tree)
    copied[head] = put(tree[head], tuple(rest), value) if rest else value
    return copied


#: Which of the other values was accepted for a key of this name: it is tried first the next time.
ACCEPTED: dict[str, int] = {}


def perturbed(tree: dict[str, Any], path: Path_, value: Any) -> Config | None:
    others = candidates(path, value)
    first = ACCEPTED.get(str(path[-1]), 0)
    for number in sorted(range(len(others)), key=lambda n: n != first):
        try:
            config = validate(put(tree, path, others[number]), "perturbed")
        except ConfigError:
            continue
        if config != DEMO:
            ACCEPTED[str(path[-1])] = number
            return config
    return None


class Dvc:
    """What dvc.yaml says of each stage."""

    def __init__(self, path: Path) -> None:
        stages = yaml.safe_load(path.read_text())["stages"]
        named = {name: stage["params"] for name, stage in stages.items()}
        self.params = {n: [p for p in ps if isinstance(p, str)] for n, ps in named.items()}
        #: Actions the versions of whose code each stage names.
        self.code = {
            name: {
                key.removesuffix(".version")
                for part in params
                if isinstance(part, dict)
                for key in part[CODE_FILE]
            }
            for name, params in named.items()
        }
        prefix = "artifacts/${scale}/"
        self.needs = {
            name: {d.removeprefix(prefix) for d in stage.get("deps", []) if d.startswith(prefix)}
            for name, stage in stages.items()
        }

    def notices(self, stage: str, path: Path_, changed: set[str]) -> bool:
        """Whether DVC runs a stage again after a change of one key that changed some stages."""
        dotted = ".".join(str(part) for part in path)
        named = any(dotted == p or dotted.startswith(f"{p}.") for p in self.params[stage])
        return named or bool(self.needs[stage] & changed)


def stages_that_differ(one: Plan, other: Plan) -> set[str]:
    """Stages of which some job or run is another."""

    def contents(plan: Plan, stage: str) -> set[tuple[str, str]]:
        runs = {(r.id, r.fingerprint) for r in plan.runs.values() if r.stage == stage}
        return runs | {(j.name, j.fingerprint) for j in plan.of_stage(stage)}  # type: ignore[arg-type]

    return {stage for stage in STAGES if contents(one, stage) != contents(other, stage)}


RESOLVED = DEMO.model_dump(mode="json")
DEFAULTS = {"finetune": {key: RAW["finetune"][key] for key in ("defaults", "networks")}}
#: In the resolved configuration these are laid over each task already.
LAID_OVER = ("finetune", "networks")
CASES = [
    *((RESOLVED, path, value) for path, value in leaves(RESOLVED) if path[:2] != LAID_OVER),
    *((RAW, path, value) for path, value in leaves(DEFAULTS)),
]
#: Keys below these change no run at all.
WITHOUT_EFFECT = ("execution.", "results", "data.fetch_at_most_gb")
#: Network with settings of its own → the type of task that it is for.
NETWORKS = {"unet3d": "segmentation", "resnet": "classification"}
#: Values that no other value can replace alone, because they must agree with a second key.
COUPLED = re.compile(
    r"data\.split_ratio\.\d|beyond\.trivial\.\d|encoder\.patch_size\.\d|finetune\.scratch\.\d"
    r"|sequences\.(volume_shape|length|spatial\.window_shape)(\.\d)?|sequences\.\w+\.weight"
    r"|finetune\.tasks\.\w+\.(type|labels|precision|data\.resize|data\.spacing)"
    r"|finetune\.(tasks\.\w+\.)?networks\.unet3d\.norm|execution\.pretrain\.nodes"
    r"|sequences\.sources\.\d+\.kind|sequences\.sources\.1[23]\.dataset"
    r"|sequences\.contrast\.contrasts\.\d|pretrain\.methods\.\w+\.optimiser\.layer_decay"
    r"|pretrain\.methods\.ours\.(attention|sequences|token_order|loss)"
    r"|finetune\.(tasks\.\w+|defaults\.segmentation)\.roi\.\d"
    r"|ablation\.variants\.\w+\.(without|sequences|attention)"
    # The demo's images have one channel: their only choice is a list, of the first.
    r"|sequences\.sources\.\d+\.channels|finetune\.(tasks|defaults)\.\w+\.data\.channels"
)
JOINT: list[dict[str, Any]] = [
    {"finetune.tasks.la.data.channels": [0]},
    {"finetune.tasks.la.precision": "bf16-mixed"},
    {"sequences.volume_shape": [16, 16, 32], "sequences.spatial.window_shape": [16, 16, 32]},
    {"sequences.volume_shape": [32, 16, 32], "sequences.spatial.window_shape": [32, 16, 32]},
    {"sequences.length": 2, "sequences.contrast.contrasts": ["t1n", "t1c"]},
    {f"sequences.{kind}.weight": 1.0 for kind in ("spatial", "contrast", "semantic")},
    {"encoder.patch_size": [2, 2, 2]},
    {"pretrain.methods.ours.token_order": "raster", "beyond.token_order": []},
    {"pretrain.methods.ours.loss": "norm", "beyond.loss": []},
    {"pretrain.methods.ours.attention": "causal", "ablation.tasks": []},
    {"pretrain.methods.ours.sequences": False, "ablation.tasks": []},
    {
        "ablation.variants.without_spatial.without": "semantic",
        "ablation.variants.without_semantic.without": "spatial",
    },
    {
        "finetune.tasks.task03_liver.labels": ["liver", "cancer"],
        "finetune.tasks.task03_liver.class_weights": None,
        "finetune.tasks.task03_liver.data.merge_labels": {},
    },
    {"finetune.tasks.nodule": {**RAW["finetune"]["tasks"]["la"], "title": "other"}},
    {"finetune.tasks.la.data": {"normalise": "none", "resize": [32, 32, 32], "spacing": None}},
]


def test_the_tasks_left_out_have_the_keys_of_others_and_no_stage_of_their_own() -> None:
    demo = load_config(ROOT / "params.yaml")
    tasks = {name: keys(task.model_dump()) for name, task in demo.finetune.tasks.items()}
    others = [found for name, found in tasks.items() if name not in ALIKE]
    assert all(tasks[name] in others for name in ALIKE)
    beyond = DEMO.beyond.model_dump()
    del beyond["trivial"]
    chosen = (demo.ablation.tasks, demo.label_ratio.tasks, *beyond.values())
    assert not {name for names in chosen for name in names} & {*ALIKE}


def keys(tree: Any) -> set[str]:
    """Dotted places of all values; a list is one."""
    return {".".join(path) for path, _ in leaves(tree) if all(isinstance(k, str) for k in path)}


def test_dvc_names_every_stage_and_what_it_reads_from() -> None:
    dvc = Dvc(ROOT / "dvc.yaml")
    assert list(dvc.params) == list(STAGES)
    for stage in STAGES:
        read = {
            PLAN.runs[name].stage
            for run in PLAN.runs.values()
            if run.stage == stage
            for name in run.inputs
        }
        assert read - {stage} <= dvc.needs[stage]
        assert dvc.needs[stage] == set(READS[stage])


def test_dvc_names_the_versions_of_the_code_of_each_stage() -> None:
    """And not the file that holds them: a change that keeps all results is none for DVC."""
    dvc = Dvc(ROOT / "dvc.yaml")
    for stage, actions in ACTIONS.items():
        assert dvc.code[stage] == set(actions), stage
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    assert not any(CODE_FILE in stage.get("deps", []) for stage in stages)


@pytest.mark.slow
def test_dvc_notices_every_change_that_the_plan_notices() -> None:
    """Whichever value changes, each stage with other runs names it or follows one that changed."""
    dvc = Dvc(ROOT / "dvc.yaml")
    unnoticed, untried, idle = [], [], []
    for tree, path, value in CASES:
        config = perturbed(tree, path, value)
        dotted = ".".join(str(part) for part in path)
        if config is None:
            untried.append(dotted)
            continue
        changed = stages_that_differ(PLAN, build_plan(config))
        # Phantoms are there whether a source is optional or not.
        has_none = dotted.startswith(WITHOUT_EFFECT) or dotted.endswith(".optional")
        if has_none or is_of_another_type(path):
            assert not changed, dotted
        elif not changed:
            idle.append(dotted)
        unnoticed += [
            f"{stage} of {dotted}" for stage in changed if not dvc.notices(stage, path, changed)
        ]
    assert unnoticed == []
    assert [key for key in untried if not COUPLED.fullmatch(key)] == []
    assert idle == []


def is_of_another_type(path: tuple[Any, ...]) -> bool:
    """Whether a key belongs to a network that no task of its type has."""
    if path[:2] != ("finetune", "tasks") or path[3:4] != ("networks",):
        return False
    return bool(RAW["finetune"]["tasks"][path[2]]["type"] != NETWORKS[path[4]])


@pytest.mark.parametrize("changes", JOINT, ids=lambda c: next(iter(c)))
def test_dvc_notices_changes_of_values_that_must_agree(changes: dict[str, Any]) -> None:
    dvc = Dvc(ROOT / "dvc.yaml")
    content = copy.deepcopy(RAW)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        place = content
        for key in parents:
            place = place[key]
        place[last] = value
    changed = stages_that_differ(PLAN, build_plan(validate(content, "test")))
    assert changed
    for stage in changed:
        assert any(dvc.notices(stage, tuple(key.split(".")), changed) for key in changes)


def test_every_parameter_that_dvc_names_stands_in_the_file(root: Path) -> None:
    content = yaml.safe_load((root / "params.yaml").read_text())
    for names in Dvc(root / "dvc.yaml").params.values():
        for name in names:
            below = content
            for key in name.split("."):
                assert key in below, f"dvc.yaml names {name}, which params.yaml lacks"
                below = below[key]
