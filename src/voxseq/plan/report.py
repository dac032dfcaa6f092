"""Runs that make tables and figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from voxseq.config import Config
from voxseq.config.finetune import RegressionTask, SegmentationTask, Task
from voxseq.config.report_run import (
    ControlRow,
    FinetunedRun,
    PretrainedRun,
    ReportRun,
    ReportTask,
)
from voxseq.config.study_rows import study_methods
from voxseq.plan.builder import Builder
from voxseq.plan.data import reading_settings
from voxseq.plan.model import Run
from voxseq.plan.training import ResultKey


def add_report_runs(
    builder: Builder, config: Config, cells: list[ResultKey], beyond: list[ControlRow]
) -> None:
    """Tables and figures, which read all that was trained."""
    # Sorted, because the order of keys in a file must not matter: DVC does not see it, and the
    # resolved configuration that jobs read has sorted keys.
    cells = sorted(cells, key=lambda cell: cell.id)
    rows = study_methods(config)
    trainings = (run for run in builder.runs.values() if run.action == "pretrain")
    pretrained = sorted(trainings, key=lambda run: run.id)
    examined = [run for run in builder.runs.values() if run.stage == "download"]
    study = ReportRun(
        scale=config.scale,
        phantoms=any(run.config.phantoms for run in examined),
        report=config.report,
        methods=tuple(rows),
        titles={name: row.title for name, row in rows.items() if row.is_outside},
        tasks=_tasks(config),
        seeds=config.finetune.seeds,
        ratios=tuple(sorted({1.0, *config.label_ratio.ratios}, reverse=True)),
        ratio_tasks=config.label_ratio.tasks,
        ablation_tasks=config.ablation.tasks,
        ablation=dict(sorted(config.ablation.variants.items())),
        beyond_tasks=config.beyond.tasks,
        beyond=tuple(beyond),
        runs=tuple(
            FinetunedRun.model_validate({**vars(cell), "variant": cell.variant or ""})
            for cell in cells
        ),
        pretrain_runs=tuple(map(_pretrained, pretrained)),
    )
    trained = [*(cell.id for cell in cells), *(run.id for run in pretrained)]
    study = _of_planned_tasks(study)
    builder.add("tables", "tables", "all", study, trained)
    ours = config.pretrain.methods.get("ours", {})
    figures = study.model_copy(
        update={
            "sequences": reading_settings(config.sequences),
            "encoder": config.encoder,
            "token_order": ours.get("token_order", "patch_major"),
        }
    )
    data = [r for r in builder.runs if r.startswith(("sequences/", "preprocess/source/"))]
    builder.add("figures", "figures", "all", figures, [*trained, *data, "tables/all"])


def _of_planned_tasks(study: ReportRun) -> ReportRun:
    """The study with those tasks only that a run is planned for.

    A task may have none: no method of the study has a network for its type.
    """

    def planned(tasks: Iterable[str], *stages: str) -> tuple[str, ...]:
        known = {run.task for run in study.runs if not stages or run.stage in stages}
        return tuple(task for task in tasks if task in known)

    return study.model_copy(
        update={
            "tasks": {name: study.tasks[name] for name in planned(study.tasks)},
            "ratio_tasks": planned(study.ratio_tasks, "label_ratio"),
            "ablation_tasks": planned(study.ablation_tasks, "ablation"),
            "beyond_tasks": planned(study.beyond_tasks, "beyond"),
        }
    )


def _tasks(config: Config) -> dict[str, ReportTask]:
    return {
        name: ReportTask(
            name=name,
            title=task.title,
            type=task.type,
            dataset=task.dataset,
            labels=task.labels,
            **_facts(task),
        )
        for name, task in sorted(config.finetune.tasks.items())
    }


def _facts(task: Task) -> dict[str, Any]:
    """What the report tells of a type of task beside its labels."""
    match task:
        case SegmentationTask():
            return {"score_grid": task.score_grid, "surface": task.surface}
        case RegressionTask():
            return {"target": task.target, "unit": task.unit}
    return {}


def _pretrained(run: Run) -> PretrainedRun:
    stages = run.config.settings.stages(run.config.steps)
    return PretrainedRun(
        id=run.id,
        method=run.config.method,
        variant="" if run.stage == "pretrain" else run.id.split("/")[-1],
        stride=run.config.sequences.spatial.stride,
        stage_starts=tuple(stage.start for stage in stages[1:]),
    )
