"""Runs that make tables and figures."""

from __future__ import annotations

from collections.abc import Iterable

from voxseq.config import Config
from voxseq.config.report_run import (
    ControlRow,
    FinetunedRun,
    PretrainedRun,
    ReportRun,
    ReportTask,
)
from voxseq.plan.builder import Builder
from voxseq.plan.data import reading_settings
from voxseq.plan.model import Run
from voxseq.plan.training import ResultKey, in_table_order


def add_report_runs(
    builder: Builder, config: Config, cells: list[ResultKey], beyond: list[ControlRow]
) -> None:
    """Tables and figures, which read all that was trained."""
    # Sorted, because the order of keys in a file must not matter: DVC does not see it, and the
    # resolved configuration that jobs read has sorted keys.
    cells = sorted(cells, key=lambda cell: cell.id)
    trainings = (run for run in builder.runs.values() if run.action == "pretrain")
    pretrained = sorted(trainings, key=lambda run: run.id)
    examined = [run for run in builder.runs.values() if run.stage == "download"]
    study = ReportRun(
        scale=config.scale,
        phantoms=any(run.config.phantoms for run in examined),
        report=config.report,
        methods=tuple(in_table_order([*config.finetune.scratch, *config.pretrain.methods])),
        tasks={n: task for n, task in _tasks(config).items() if _planned((n,), cells)},
        seeds=config.finetune.seeds,
        ratios=tuple(sorted({1.0, *config.label_ratio.ratios}, reverse=True)),
        ratio_tasks=_planned(config.label_ratio.tasks, cells, "label_ratio"),
        ablation_tasks=_planned(config.ablation.tasks, cells, "ablation"),
        ablation=dict(sorted(config.ablation.variants.items())),
        beyond_tasks=_planned(config.beyond.tasks, cells, "beyond"),
        beyond=tuple(beyond),
        runs=tuple(
            FinetunedRun.model_validate({**vars(cell), "variant": cell.variant or ""})
            for cell in cells
        ),
        pretrain_runs=tuple(map(_pretrained, pretrained)),
    )
    trained = [*(cell.id for cell in cells), *(run.id for run in pretrained)]
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


def _planned(tasks: Iterable[str], cells: Iterable[ResultKey], stage: str = "") -> tuple[str, ...]:
    """Those of some tasks that a run of the stage, or of any, is planned for.

    A task may have none: no method of the study has a network for its type.
    """
    known = {cell.task for cell in cells if not stage or cell.stage == stage}
    return tuple(task for task in tasks if task in known)


def _tasks(config: Config) -> dict[str, ReportTask]:
    return {
        name: ReportTask(
            name=name,
            title=task.title,
            type=task.type,
            dataset=task.dataset,
            labels=getattr(task, "labels", ()),
            score_grid=task.score_grid if task.type == "segmentation" else "",
            surface=getattr(task, "surface", False),
            target=getattr(task, "target", ""),
            unit=getattr(task, "unit", ""),
        )
        for name, task in sorted(config.finetune.tasks.items())
    }


def _pretrained(run: Run) -> PretrainedRun:
    return PretrainedRun(
        id=run.id,
        method=run.config.method,
        variant="" if run.stage == "pretrain" else run.id.split("/")[-1],
        stride=run.config.sequences.spatial.stride,
    )
