"""Which files a run publishes in the results folder: those that its study can have.

The Snakefile declares these files, the stages write them, and the results folder is compared with
them. A study without a segmentation has no Table 1, one without an ablation no Table 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from voxseq.plan.model import Run

#: Pages of curves and the stage whose runs each shows.
CURVES: Mapping[str, str] = {
    "curves": "finetune",
    "curves_label_ratio": "label_ratio",
    "curves_ablation": "ablation",
    "curves_beyond": "beyond",
}
#: Seconds and memory differ from call to call: made from records, in no marker and not in DVC.
COSTS: Mapping[str, tuple[str, ...]] = {
    "tables": ("cost/cost.csv", "cost/cost.md", "cost/cost.tex", "cost/index.html"),
}
METRICS = "metrics.json"
#: Data of the plots that dvc.yaml names, whatever the study is: without rows where there are none.
PLOTS = ("plots/pretraining.csv", "plots/finetuning.csv", "plots/label_ratio.csv")
INDEX_PAGE = "report/index.html"
CASES_PAGE = "report/cases.html"
#: The method that the others are compared with.
_REFERENCE = "ours"

Study = Mapping[str, Any]


def published(run: Run) -> tuple[str, ...]:
    """All files of a run in the results folder, costs included; none for most stages."""
    return (*lasting(run.stage, run.config), *COSTS.get(run.stage, ()))


def lasting(stage: str, study: Study) -> tuple[str, ...]:
    """Files that the stage writes, the same bytes in every call.

    Args:
        stage: "tables" or "figures"; other stages publish nothing.
        study: configuration of the stage's run.
    """
    if stage == "tables":
        return tuple(_tables(study))
    return tuple(_figures(study)) if stage == "figures" else ()


def table_numbers(study: Study) -> tuple[int, ...]:
    """Numbers of the tables that a study has."""
    types = _finetuned_types(study)
    stages = {cell["stage"] for cell in study["runs"]}
    present = {
        1: "segmentation" in types,
        2: "classification" in types,
        3: "label_ratio" in stages,
        4: "ablation" in stages,
        5: "beyond" in stages,
    }
    return tuple(number for number, there in present.items() if there)


def is_trained(stage: str, variant: str | None, kind: str) -> bool:
    """Whether a run of a task of this type logs a curve; probes and baselines do not."""
    is_probe = variant == "frozen" and kind == "classification"
    return stage != "beyond" or not (variant == "trivial" or is_probe)


def _tables(study: Study) -> Iterator[str]:
    for number in table_numbers(study):
        yield from (f"tables/table{number}.{ending}" for ending in ("csv", "md", "tex"))
    if _is_compared(study):
        yield from _both("differences")
    if study["pretrain_runs"]:
        yield from _both("collapse")
    if study["runs"]:
        yield from ("tables/scores.csv", "tables/scores_per_class.csv")
    yield from PLOTS
    yield METRICS


def _figures(study: Study) -> Iterator[str]:
    types = _finetuned_types(study)
    if (study.get("sequences") or {}).get("sources"):
        yield "figures/figure1.png"
    if "segmentation" in types:
        yield "figures/figure2.png"
    if len({cell["method"] for cell in _finetuned(study)}) > 1:
        yield "figures/heatmap.png"
    if 3 in table_numbers(study):
        yield "figures/label_ratio.png"
    if "classification" in types:
        yield from _reliability()
    for page, stage in CURVES.items():
        if stage in _trained_stages(study):
            yield f"figures/{page}.png"
    yield INDEX_PAGE
    if types:
        yield CASES_PAGE


def _both(name: str) -> tuple[str, str]:
    return f"tables/{name}.csv", f"tables/{name}.md"


def _reliability() -> tuple[str, ...]:
    return (
        "figures/reliability.png",
        *("figures/calibration.csv", "figures/calibration_bins.csv"),
    )


def _finetuned(study: Study) -> list[Mapping[str, Any]]:
    """The runs with all labels, one per task, method and seed."""
    return [cell for cell in study["runs"] if cell["stage"] == "finetune"]


def _finetuned_types(study: Study) -> set[str]:
    return {study["tasks"][cell["task"]]["type"] for cell in _finetuned(study)}


def _trained_stages(study: Study) -> set[str]:
    """Stages with a training; the methods' own pre-training counts as that of "finetune"."""
    kinds = {name: task["type"] for name, task in study["tasks"].items()}
    stages = {
        str(cell["stage"])
        for cell in study["runs"]
        if is_trained(cell["stage"], cell["variant"], kinds[cell["task"]])
    }
    first = {str(run["id"]).split("/")[0] for run in study["pretrain_runs"]}
    return stages | {"finetune" if stage == "pretrain" else stage for stage in first}


def _is_compared(study: Study) -> bool:
    """Whether some row has a reference other than itself."""
    ours = {cell["task"] for cell in _finetuned(study) if cell["method"] == _REFERENCE}
    others = (
        cell
        for cell in study["runs"]
        if cell["stage"] == "ablation"
        or (cell["stage"] == "finetune" and cell["method"] != _REFERENCE)
    )
    rows = study.get("beyond") or ()
    return any(cell["task"] in ours for cell in others) or any(
        row["reference_method"]
        and (row["reference_method"], row["reference_variant"]) != (row["method"], row["variant"])
        for row in rows
    )
