"""Runs that make tables and figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from voxseq.base.digest import digest
from voxseq.base.errors import ConfigError
from voxseq.base.files import sha256
from voxseq.config import Config
from voxseq.config.finetune import RegressionTask, SegmentationTask, Task
from voxseq.config.report_run import (
    ControlRow,
    FinetunedRun,
    PretrainedRun,
    ReportRun,
    ReportTask,
    ScoresRun,
)
from voxseq.config.study_rows import study_methods
from voxseq.plan.builder import Builder
from voxseq.plan.chain import Chain
from voxseq.plan.data import reading_settings
from voxseq.plan.model import Run
from voxseq.plan.outputs import SCORES
from voxseq.plan.training import ResultKey


def add_scores_run(builder: Builder, chain: Chain, cells: list[ResultKey]) -> None:
    """The run that gathers the scores of one seed, from all that was trained with it."""
    config = chain.config
    cells = sorted(cells, key=lambda cell: cell.id)
    pretrained = [run for run in _pretrainings(builder) if run.config.seed == chain.seed]
    trained = [*(cell.id for cell in cells), *(run.id for run in pretrained)]
    fingerprints = {name: builder.runs[name].fingerprint for name in trained}
    first = builder.runs.get("scores/s0")
    run = ScoresRun(
        scale=config.scale,
        seed=chain.seed,
        # All seeds bear the word of the first one: they are one study.
        study=first.config.study if first else digest(fingerprints),
        phantoms=_has_phantoms(builder),
        runs=_scored(cells),
        pretrain_runs=tuple(map(_pretrained, pretrained)),
        fingerprints=fingerprints,
    )
    builder.add("scores", "scores", f"s{chain.seed}", run, trained)


def add_report_runs(
    builder: Builder, config: Config, cells: list[ResultKey], beyond: list[ControlRow]
) -> None:
    """Tables and figures, which read the scores of all seeds, and what the trainings logged."""
    # Sorted, because the order of keys in a file must not matter: DVC does not see it, and the
    # resolved configuration that jobs read has sorted keys.
    cells = sorted(cells, key=lambda cell: cell.id)
    rows = study_methods(config)
    pretrained = _pretrainings(builder)
    scored = [run for run in builder.runs.values() if run.stage == "scores"]
    word = scored[0].config.study
    study = ReportRun(
        scale=config.scale,
        study=word,
        further=further_files(config),
        phantoms=_has_phantoms(builder),
        report=config.report,
        methods=tuple(rows),
        titles={name: row.title for name, row in rows.items() if row.is_outside},
        tasks=_tasks(config),
        seeds=tuple(range(config.seeds)),
        ratios=tuple(sorted({1.0, *config.label_ratio.ratios}, reverse=True)),
        ratio_tasks=config.label_ratio.tasks,
        ablation_tasks=config.ablation.tasks,
        ablation=dict(sorted(config.ablation.variants.items())),
        beyond_tasks=config.beyond.tasks,
        beyond=tuple(beyond),
        runs=_scored(cells),
        pretrain_runs=tuple(map(_pretrained, pretrained)),
    )
    read = [run.id for run in scored]
    read += [*(cell.id for cell in cells), *(run.id for run in pretrained)]
    study = _of_planned_tasks(study)
    builder.add("tables", "tables", "all", study, read)
    ours = config.pretrain.methods.get("ours", {})
    figures = study.model_copy(
        update={
            "sequences": reading_settings(config.sequences),
            "encoder": config.encoder,
            "token_order": ours.get("token_order", "patch_major"),
        }
    )
    # Sequences of the first seed are shown: its index, and the stores that this was built from.
    index = next(iter(run for run in builder.runs.values() if run.stage == "sequences"), None)
    data = [] if index is None else [index.id, *(i for i in index.inputs if "/source/" in i)]
    builder.add("figures", "figures", "all", figures, [*read, *data, "tables/all"])


def _pretrainings(builder: Builder) -> list[Run]:
    trainings = (run for run in builder.runs.values() if run.action == "pretrain")
    return sorted(trainings, key=lambda run: run.id)


def _has_phantoms(builder: Builder) -> bool:
    examined = (run for run in builder.runs.values() if run.stage == "download")
    return any(run.config.phantoms for run in examined)


def _scored(cells: Iterable[ResultKey]) -> tuple[FinetunedRun, ...]:
    return tuple(
        FinetunedRun.model_validate({**vars(cell), "variant": cell.variant or ""}) for cell in cells
    )


def further_files(config: Config) -> dict[str, str]:
    """Seeds beyond the plan's that lie in the results folder: path of the file → its SHA-256.

    Raises:
        ConfigError: one cannot be read.
    """
    folder, found = Path(config.results) / SCORES, {}
    for path in sorted(folder.glob("seed-*.json")):
        number = path.stem.removeprefix("seed-")
        if number.isdecimal() and int(number) >= config.seeds:
            try:
                found[path.as_posix()] = sha256(path)
            except OSError as error:
                raise ConfigError(
                    f"{path} cannot be read: {error}", "delete it, or fetch it again"
                ) from None
    return found


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
        variant="" if run.stage == "pretrain" else run.id.split("/")[2],
        seed=run.config.seed,
        stride=run.config.sequences.spatial.stride,
        stage_starts=tuple(stage.start for stage in stages[1:]),
    )
