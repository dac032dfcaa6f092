"""Which files a study of any shape publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voxseq.config import load_config
from voxseq.config.report_run import ReportRun
from voxseq.plan import Run, build_plan
from voxseq.plan.outputs import COSTS, PLOTS, SHEETS, lasting, published, table_numbers

SOURCE = {"dataset": "a", "kind": "spatial"}
SEG, CLS = "segmentation", "classification"


def cell(stage: str, task: str, method: str, variant: str = "") -> dict[str, Any]:
    names = {"stage": stage, "task": task, "method": method, "variant": variant}
    return {"id": "/".join(names.values()), **names, "seed": 0}


def study(*cells: dict[str, Any], pretrained: tuple[str, ...] = (), **more: Any) -> ReportRun:
    """Configuration of a report; tasks are called by their type, and are the paper's."""
    task = {"title": "a", "labels": ("a", "b")}
    datasets = {SEG: "la", CLS: "ricord"}
    content = {
        **{"scale": "a", "report": {}, "seeds": (0,), "ratios": (1.0,)},
        "methods": tuple(dict.fromkeys(c["method"] for c in cells)),
        "runs": list(cells),
        "tasks": {k: {"name": k, "type": k, "dataset": d, **task} for k, d in datasets.items()},
        "pretrain_runs": [{"id": name, "method": "ours", "stride": 1} for name in pretrained],
        **more,
    }
    return ReportRun.model_validate(content)


def own(kind: str, **facts: Any) -> dict[str, Any]:
    """One task on a data set that the paper does not have."""
    return {kind: {"name": kind, "type": kind, "title": "a", "dataset": "mine", **facts}}


def files(config: ReportRun) -> set[str]:
    """Stems of all files but those of every study."""
    names = {name for stage in ("tables", "figures") for name in lasting(stage, config)}
    assert {"metrics.json", "report/index.html", SHEETS, *PLOTS} <= names
    names -= {*PLOTS, SHEETS}
    return {n.split("/")[1].split(".")[0] for n in names if "/" in n} - {"index"}


TUNED = {"scores", "scores_per_class", "cases", "curves"}
PRETRAINED = {"collapse", "curves"}
RELIABILITY = {"reliability", "calibration", "calibration_bins"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (study(), set()),
        (study(cell("finetune", SEG, "unetr")), {*TUNED, "table1", "figure2"}),
        (study(cell("finetune", CLS, "vit")), {*TUNED, "table2", *RELIABILITY}),
        (
            study(cell("finetune", CLS, "vit"), cell("finetune", CLS, "resnet")),
            {*TUNED, "table2", *RELIABILITY, "heatmap"},
        ),
        (
            study(cell("finetune", CLS, "vit"), cell("finetune", CLS, "ours")),
            {*TUNED, "table2", *RELIABILITY, "heatmap", "differences", "claims"},
        ),
        (
            study(cell("finetune", SEG, "unetr"), cell("finetune", CLS, "ours")),
            {*TUNED, "table1", "table2", "figure2", *RELIABILITY, "heatmap", "claims"},
        ),
        (study(pretrained=("pretrain/ours",)), PRETRAINED),
        (
            study(
                pretrained=("pretrain/ours",),
                sequences={"sources": [{"dataset": "a", "kind": "spatial"}]},
            ),
            {*PRETRAINED, "figure1"},
        ),
        (
            study(cell("finetune", SEG, "unetr"), cell("label_ratio", SEG, "unetr")),
            {*TUNED, "table1", "figure2", "table3", "label_ratio", "curves_label_ratio"},
        ),
        (
            study(
                cell("finetune", SEG, "ours"),
                cell("ablation", SEG, "ours", "causal"),
                pretrained=("pretrain/ours", "ablation/pretrain/causal"),
            ),
            {
                *(*TUNED, *PRETRAINED, "table1", "figure2", "table4", "differences"),
                *("curves_ablation", "claims"),
            },
        ),
        (
            study(cell("finetune", SEG, "unetr"), tasks=own(SEG, labels=("a",))),
            {*TUNED, "table1", "figure2", "structures"},
        ),
        (
            study(cell("finetune", CLS, "vit"), tasks=own(CLS, labels=("a", "b"))),
            {*TUNED, "table2", *RELIABILITY, "structures"},
        ),
        (
            study(cell("finetune", CLS, "vit"), tasks=own(CLS, labels=("a", "b", "c"))),
            {*TUNED, "table2", "confusion", "structures"},
        ),
        (
            study(cell("finetune", "regression", "vit"), tasks=own("regression")),
            {*TUNED, "table6", "regression"},
        ),
        (
            study(
                cell("finetune", SEG, "unetr"),
                cell("finetune", SEG, "theirs"),
                titles={"theirs": "From elsewhere"},
            ),
            {*TUNED, "table1", "figure2", "heatmap", "differences"},
        ),
        (
            study(cell("beyond", CLS, "majority", "trivial")),
            {"table5", "scores", "scores_per_class"},
        ),
        (
            study(cell("beyond", CLS, "vit", "frozen")),
            {"table5", "scores", "scores_per_class"},
        ),
        (
            study(cell("beyond", SEG, "unetr", "frozen")),
            {"table5", "scores", "scores_per_class", "curves_beyond"},
        ),
    ],
)
def test_a_study_publishes_what_it_can_have(config: ReportRun, expected: set[str]) -> None:
    assert files(config) == expected
    numbers = {int(name[5:]) for name in expected if name.startswith("table")}
    assert set(table_numbers(config)) == numbers


@pytest.mark.parametrize(
    ("reference", "is_compared"),
    [(("ours", ""), True), (("vit", "frozen"), False), (("", ""), False)],
)
def test_a_row_is_compared_with_another_row_only(
    reference: tuple[str, str], is_compared: bool
) -> None:
    row = {
        "group": "a",
        "title": "a",
        "method": "vit",
        "variant": "frozen",
        "reference_method": reference[0],
        "reference_variant": reference[1],
    }
    config = study(cell("beyond", SEG, "vit", "frozen"), beyond=[row])
    assert ("differences" in files(config)) == is_compared


def test_costs_are_published_and_not_among_what_is_compared() -> None:
    run = Run("tables/all", "tables", "tables", study(), (), "0" * 16, "all")
    assert set(published(run)) - set(lasting("tables", run.config)) == set(COSTS["tables"])


def test_a_training_publishes_nothing() -> None:
    run = Run("pretrain/ours", "pretrain", "pretrain", {}, (), "0" * 16, "ours")
    assert published(run) == ()


def test_the_plan_of_other_tasks_than_the_papers_does_not_speak_of_ours(root: Path) -> None:
    task = {"title": "Hippocampus", "dataset": "task04_hippocampus", "labels": ["head", "tail"]}
    made = {"type": SEG, "data": {"window": [0, 1]}, "steps": 40, "validate_every": 20, **task}
    overlay = {
        "data": {"root": "data/here"},
        "finetune": {"tasks!": {"hippocampus": made}},
        "beyond!": {key: ["hippocampus"] for key in ("token_order", "recipes", "frozen")},
        "ablation!": {"tasks": []},
        "label_ratio": {"tasks": []},
    }
    plan = build_plan(load_config(root / "params.yaml", [overlay]))
    config = plan.runs["figures/all"].config
    assert not config.is_papers
    assert not config.phantoms
    titles = [row.title for row in config.beyond] + [*map(config.title_of, config.methods)]
    assert not any("ours" in title.lower() for title in titles)
    assert {title for title in titles if title.startswith("AR")} == {
        "AR (autoregressive)",
        "AR (autoregressive), recipe for random weights",
        "AR (autoregressive), tokens in raster order",
    }
    assert {*config.stages()} == {"Pre-training", "Fine-tuning", "Controls"}
    assert {"tables/structures.md", "tables/table5.md"} <= {*lasting("tables", config)}


def test_a_task_that_no_method_is_trained_on_is_not_in_the_report(root: Path) -> None:
    overlay = {
        "pretrain": {"methods!": {}},
        "finetune": {"scratch": ["unetr"]},
        "ablation!": {"tasks": []},
        "label_ratio": {"tasks": ["la", "nodule"], "methods": None},
        "beyond!": {"trivial": ["ricord"]},
    }
    config = build_plan(load_config(root / "params.yaml", [overlay])).runs["tables/all"].config
    assert "nodule" not in config.tasks
    assert {"la", "ricord"} <= {*config.tasks}
    assert (config.ratio_tasks, config.beyond_tasks) == (("la",), ("ricord",))
