"""`voxseq config`: what is printed means the same study, and the schema takes every file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.helpers import ROOT
from tests.helpers.calling import Call
from voxseq.cli.schema import PLACE, schema, text
from voxseq.config import load_config, read_yaml

SCALES = sorted((ROOT / "workflow/scales").glob("*.yaml"))
OVERLAYS = [None, *SCALES]
STANDALONE = """\
standalone: true
scale: mine
results: results/mine
data: {sets: {scans: {layout: files, folder: /scans, modality: CT}}}
sequences:
  volume_shape: [16, 16, 16]
  length: 4
  sources: [{dataset: scans, kind: spatial}]
  spatial: {crops_per_volume: 5, crop_shape: [24, 24, 24], window_shape: [16, 16, 16], stride: 2}
encoder: {width: 96, depth: 2, heads: 4, mlp_width: 192, patch_size: [4, 4, 4]}
pretrain: {steps: 10, batch_size: 4, methods: {ours: {optimiser: {warmup_steps: 1}}}}
finetune: {tasks: {}, scratch: []}
"""


def errors(content: Any) -> list[str]:
    found = jsonschema.Draft202012Validator(schema()).iter_errors(content)
    return [f"{error.json_path}: {error.message}" for error in found]


@pytest.mark.parametrize("options", [[], ["--all"]], ids=["differences", "all"])
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem if path else "demo")
def test_what_is_shown_means_the_same_study(
    workspace: Path, call: Call, overlay: Path | None, options: list[str]
) -> None:
    laid = [] if overlay is None else ["--overlay", str(overlay)]
    shown = call("config", "show", *options, *laid).out
    (workspace / "shown.yaml").write_text(shown)
    expected = load_config(
        ROOT / "params.yaml", [] if overlay is None else [read_yaml(overlay)]
    ).model_dump()
    assert load_config(workspace / "shown.yaml").model_dump() == expected


def test_only_what_differs_from_the_defaults_is_shown(workspace: Path, call: Call) -> None:
    (workspace / "mine.yaml").write_text(STANDALONE)
    shown = yaml.safe_load(call("config", "show", "--overlay", "mine.yaml").out)
    assert shown["pretrain"] == {
        "steps": 10,
        "batch_size": 4,
        # A learning rate has no default of its own.
        "methods": {"ours": {"optimiser": {"lr": 1e-4, "warmup_steps": 1}}},
    }
    assert set(shown) == {
        *("scale", "results", "data", "sequences", "encoder", "pretrain", "finetune")
    }
    every = yaml.safe_load(call("config", "show", "--all", "--overlay", "mine.yaml").out)
    assert {"execution", "report", "store"} <= set(every)


def test_networks_of_one_task_are_shown_there(workspace: Path, call: Call) -> None:
    task = "{networks: {unet3d: {optimiser: null}}}"
    (workspace / "own.yaml").write_text(f"finetune: {{tasks: {{la: {task}}}}}\n")
    shown = yaml.safe_load(call("config", "show", "--overlay", "own.yaml").out)
    own = {name: task.get("networks") for name, task in shown["finetune"]["tasks"].items()}
    assert own.pop("la") == {"unet3d": {"optimiser": None}}
    assert not any(own.values())


def test_the_schema_is_that_of_the_models() -> None:
    assert (ROOT / PLACE).read_text(encoding="utf-8") == text(), (
        f"voxseq config schema --write {PLACE}"
    )


def test_the_editor_finds_the_schema() -> None:
    first = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={PLACE}"


@pytest.mark.parametrize(
    "path",
    [ROOT / "params.yaml", *SCALES, ROOT / "tests/workflow/tiny.yaml"],
    ids=lambda path: path.name,
)
def test_the_schema_takes_every_file(path: Path) -> None:
    assert errors(read_yaml(path)) == []


def test_the_schema_takes_a_study_that_stands_alone() -> None:
    assert errors(yaml.safe_load(STANDALONE)) == []


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"pretrain": {"stepps": 1}}, "$.pretrain"),
        ({"pretrain": {"steps": -1}}, "$.pretrain.steps"),
        ({"pretrain": {"methods": {"ours": {"attention": "some"}}}}, "$.pretrain.methods.ours"),
        ({"pretrain": {"methods": {"nobody": {}}}}, "$.pretrain.methods"),
        ({"finetune": {"tasks": {"la": {"roi": [1, 2]}}}}, "$.finetune.tasks.la"),
        ({"finetune": {"tasks!": {"la": {"rio": 1}}}}, "$.finetune['tasks!'].la"),
        ({"finetune": {"defaults": {"counting": {}}}}, "$.finetune.defaults"),
        ({"nothing": 1}, "$"),
    ],
    ids=json.dumps,
)
def test_the_schema_refuses_mistakes(content: dict[str, Any], place: str) -> None:
    assert [line for line in errors(content) if line.startswith(place)]


def test_the_schema_is_written_where_one_likes(workspace: Path, call: Call) -> None:
    call("config", "schema", "--write", "here.json")
    assert json.loads((workspace / "here.json").read_text()) == json.loads(
        call("config", "schema").out
    )
