"""Plans of tasks of every type: their needs, controls and facts for the report."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers import ROOT
from voxseq.base.errors import ConfigError
from voxseq.catalogue import CATALOGUE
from voxseq.config import Config, read_yaml
from voxseq.config.load import validate
from voxseq.config.overlay import merge
from voxseq.config.report_run import METRICS
from voxseq.plan import Plan, build_plan

RECIPE = {"lr": 1e-3}
AGE = {
    "type": "regression",
    "title": "Age",
    "dataset": "nodule",
    "target": "age",
    "unit": "years",
    "steps": 10,
    "validate_every": 5,
    "data": {"normalise": "none", "resize": [16, 16, 16]},
    "pretrained": RECIPE,
    "scratch": RECIPE,
}
BEYOND = {part: ["age"] for part in ("recipes", "frozen", "trivial")} | {"token_order": []}
STUDY = {
    "data": {"root": "data"},
    "finetune": {"tasks!": {"age": AGE}},
    "ablation": {"tasks": ["age"]},
    "label_ratio": {"tasks": ["age"], "methods": None},
    "beyond!": BEYOND,
}


@pytest.fixture(autouse=True)
def _any_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set whose labels may be for any type of task, as one's own may be."""
    from dataclasses import replace

    row = replace(CATALOGUE["nodule"], task="", classes=())
    monkeypatch.setitem(CATALOGUE, "nodule", row)


def config(changes: dict[str, Any] | None = None) -> Config:
    content = merge(read_yaml(ROOT / "params.yaml"), STUDY)
    return validate(merge(content, changes or {}), "test")


def on_age(plan: Plan, action: str) -> set[str]:
    return {r.id for r in plan.runs.values() if r.action == action and "/age/" in r.id}


def test_a_regression_has_every_row_and_control() -> None:
    plan = build_plan(config())
    tuned = on_age(plan, "finetune")
    assert {"finetune/age/ours/s0", "finetune/age/resnet/s0", "finetune/age/vit/s0"} <= tuned
    assert not any("unetr" in run or "unet3d" in run for run in tuned)
    assert on_age(plan, "baseline") == {
        f"beyond/finetune/age/{name}_trivial/s0"
        for name in ("mean_value", "intensity_ridge", "histogram_ridge", "voxel_ridge")
    }
    assert "beyond/finetune/age/ours_frozen/s0" in on_age(plan, "probe")
    needs = plan.runs["download/nodule"].config.task
    assert (needs.type, needs.labels, needs.ignore_label) == ("regression", 0, None)
    task = plan.runs["tables/all"].config.tasks["age"]
    assert (task.target, task.unit, task.metrics) == ("age", "years", METRICS["regression"])


def test_the_need_of_a_shape_and_the_lack_of_phantoms_are_named() -> None:
    with pytest.raises(ConfigError, match=r"age\.data\.resize: a regression task needs a shape"):
        config({"finetune": {"tasks": {"age": {"data": {"resize": None}}}}})
    with pytest.raises(ConfigError, match=r"tasks\.age\.type: no phantom has a number to predict"):
        config({"data": {"root": None}})


@pytest.mark.parametrize(
    ("changes", "native", "metrics"),
    [
        ({}, False, ("dice",)),
        ({"score_grid": "native"}, True, ("dice",)),
        ({"surface": True}, True, METRICS["segmentation"]),
    ],
)
def test_scores_of_surfaces_need_the_native_labels(
    changes: dict[str, Any], native: bool, metrics: tuple[str, ...]
) -> None:
    study = merge(read_yaml(ROOT / "params.yaml"), {"finetune": {"tasks": {"la": changes}}})
    plan = build_plan(validate(study, "test"))
    assert plan.runs["preprocess/task/la/s0"].config.task.native_labels is native
    assert plan.runs["tables/all"].config.tasks["la"].metrics == metrics


def test_the_value_of_the_unknown_reaches_the_stages_of_the_data() -> None:
    overlay = {"finetune": {"tasks": {"la": {"ignore_label": 9}}}}
    plan = build_plan(validate(merge(read_yaml(ROOT / "params.yaml"), overlay), "test"))
    for run in ("download/la/s0", "preprocess/task/la/s0"):
        assert plan.runs[run].config.task.ignore_label == 9
