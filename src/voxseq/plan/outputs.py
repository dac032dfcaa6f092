"""Which files a run publishes in the results folder: those that its study can have.

The Snakefile declares these files, the stages write them, and the results folder is compared with
them. A study without a segmentation has no Table 1, one without an ablation no Table 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from voxseq.config.report_run import MAIN_TABLES, REFERENCE, ReportRun, ReportTask, ScoresRun
from voxseq.config.task_types import PROBED
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
#: Folder of the files of seeds, which may hold more than a plan has.
SCORES = "scores"
#: All sheets with their numbers, from which the report's page is made.
SHEETS = "tables/tables.json"
#: Data of the plots that dvc.yaml names, whatever the study is: without rows where there are none.
PLOTS = ("plots/pretraining.csv", "plots/finetuning.csv", "plots/label_ratio.csv")
INDEX_PAGE = "report/index.html"
CASES_PAGE = "report/cases.html"


def published(run: Run) -> tuple[str, ...]:
    """All files of a run in the results folder, costs included; none for most stages."""
    return (*lasting(run.stage, run.config), *COSTS.get(run.stage, ()))


def seed_file(seed: int) -> str:
    """The file of a seed's scores."""
    return f"{SCORES}/seed-{seed}.json"


def lasting(stage: str, study: ReportRun | ScoresRun) -> tuple[str, ...]:
    """Files that the stage writes, the same bytes in every call.

    Args:
        stage: "scores", "tables" or "figures"; other stages publish nothing.
        study: configuration of the stage's run.
    """
    if isinstance(study, ScoresRun):
        return (seed_file(study.seed),)
    if stage not in ("tables", "figures"):
        return ()
    of_stage = _tables if stage == "tables" else _figures
    return tuple(of_stage(study))


def table_numbers(study: ReportRun) -> tuple[int, ...]:
    """Numbers of the tables that a study has: of its types of task first."""
    types = {task.type for task in _finetuned(study)}
    stages = {run.stage for run in study.runs}
    present = {
        **{number: kind in types for kind, number in MAIN_TABLES.items()},
        3: "label_ratio" in stages,
        4: "ablation" in stages,
        5: "beyond" in stages,
    }
    return tuple(number for number, there in present.items() if there)


def is_trained(stage: str, variant: str, kind: str) -> bool:
    """Whether a run of a task of this type logs a curve; probes and baselines do not."""
    is_probe = variant == "frozen" and kind in PROBED
    return stage != "beyond" or not (variant == "trivial" or is_probe)


def _tables(study: ReportRun) -> Iterator[str]:
    for number in table_numbers(study):
        yield from (f"tables/table{number}.{ending}" for ending in ("csv", "md", "tex"))
    if has_claims(study):
        yield from ("tables/claims.csv", "tables/claims.md")
    if _is_compared(study):
        yield from ("tables/differences.csv", "tables/differences.md")
    if study.pretrain_runs:
        yield from ("tables/collapse.csv", "tables/collapse.md")
    if study.runs:
        yield from ("tables/scores.csv", "tables/scores_per_class.csv")
    if detailed_tasks(study):
        yield from ("tables/structures.csv", "tables/structures.md")
    yield from (SHEETS, *PLOTS, METRICS)


def _figures(study: ReportRun) -> Iterator[str]:
    tasks = _finetuned(study)
    if study.sequences and study.sequences.sources:
        yield "figures/figure1.png"
    if any(task.type == "segmentation" for task in tasks):
        yield "figures/figure2.png"
    if len({run.method for run in study.finetuned}) > 1:
        yield "figures/heatmap.png"
    if 3 in table_numbers(study):
        yield "figures/label_ratio.png"
    if any(task.type == "regression" for task in tasks):
        yield "figures/regression.png"
    if any(task.has_many_classes for task in tasks):
        yield "figures/confusion.png"
    if any(task.has_two_classes for task in tasks):
        yield "figures/reliability.png"
        yield from ("figures/calibration.csv", "figures/calibration_bins.csv")
    for page, stage in CURVES.items():
        if stage in _trained_stages(study):
            yield f"figures/{page}.png"
    yield INDEX_PAGE
    if tasks:
        yield CASES_PAGE


def detailed_tasks(study: ReportRun) -> tuple[ReportTask, ...]:
    """The tasks whose structures or classes have a table: those that the paper does not have."""
    kinds = ("segmentation", "classification")
    tasks = [task for task in _finetuned(study) if not task.is_papers]
    return tuple(task for kind in kinds for task in tasks if task.type == kind)


def has_claims(study: ReportRun) -> bool:
    """Whether a study has a verdict on the paper's claims: if it has its tasks and its method."""
    return study.is_papers and any(run.method == REFERENCE for run in study.finetuned)


def _finetuned(study: ReportRun) -> list[ReportTask]:
    """The tasks that some method is fine-tuned on with all labels."""
    names = {run.task for run in study.finetuned}
    return [task for task in study.tasks.values() if task.name in names]


def _trained_stages(study: ReportRun) -> set[str]:
    """Stages with a training; the methods' own pre-training counts as that of "finetune"."""
    stages = {
        run.stage
        for run in study.runs
        if is_trained(run.stage, run.variant, study.tasks[run.task].type)
    }
    first = {run.stage for run in study.pretrain_runs}
    return stages | {"finetune" if stage == "pretrain" else stage for stage in first}


def _is_compared(study: ReportRun) -> bool:
    """Whether some row has a reference other than itself."""
    reference = study.reference
    known = {run.task for run in study.finetuned if run.method == reference}
    others = (
        run
        for run in study.runs
        if run.stage == "ablation" or (run.stage == "finetune" and run.method != reference)
    )
    return any(run.task in known for run in others) or any(row.is_compared for row in study.beyond)
