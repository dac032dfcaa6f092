"""Studies without some of their parts: which are accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voxseq.base.errors import ConfigError
from voxseq.config import Config, load_config
from voxseq.plan import build_plan

NO_STUDIES: dict[str, Any] = {
    "ablation!": {"tasks": [], "variants": {}},
    "label_ratio": {"tasks": [], "methods": None},
    "beyond!": {"token_order": [], "recipes": [], "frozen": [], "trivial": []},
}
NO_METHODS = {"pretrain": {"methods!": {}}}
CLASSIFICATION = {
    "type": "classification",
    "title": "Nodule",
    "dataset": "nodule",
    "labels": ["benign", "malignant"],
    "data": {"scale": 255, "normalise": "none"},
}


def load(root: Path, *overlays: dict[str, Any]) -> Config:
    return load_config(root / "params.yaml", [NO_STUDIES, *overlays])


def test_a_study_may_end_with_pretraining(root: Path) -> None:
    plan = build_plan(load(root, {"finetune": {"tasks!": {}}}))
    assert {run.stage for run in plan.runs.values()} == {
        *("download", "preprocess", "sequences", "pretrain", "tables", "figures")
    }


def test_a_study_may_do_without_pretraining_and_its_sources(root: Path) -> None:
    plan = build_plan(load(root, NO_METHODS, {"sequences": {"sources!": []}}))
    assert {run.stage for run in plan.runs.values()} == {
        *("download", "preprocess", "finetune", "tables", "figures")
    }


@pytest.mark.parametrize(
    "finetune",
    [
        {"tasks!": {}},
        {"scratch": []},
        {"scratch": ["unetr"], "tasks!": {"nodule": CLASSIFICATION}},
    ],
)
def test_a_study_that_trains_nothing_is_refused(root: Path, finetune: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="nothing would be trained") as caught:
        load(root, NO_METHODS, {"finetune": finetune})
    assert "params.yaml" in str(caught.value)


def test_baselines_without_a_network_are_work(root: Path) -> None:
    beyond = {"beyond": {"trivial": ["nodule"]}}
    assert build_plan(load(root, NO_METHODS, {"finetune": {"scratch": []}}, beyond)).runs
