"""A study of five runs, with tiny actions in place of the real ones."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from voxseq.base.digest import digest
from voxseq.config.report_run import ReportRun
from voxseq.engine import journal
from voxseq.engine import workspace as runs
from voxseq.engine.workspace import Workspace
from voxseq.plan import Job, Plan, Run, Stage
from voxseq.plan.context import RunContext
from voxseq.plan.model import dump
from voxseq.plan.outputs import COSTS, lasting

#: Runs of the tiny study: id → ids of its inputs. A stage's first word is its action as well.
GRID: dict[str, tuple[str, ...]] = {
    "download/a": (),
    "preprocess/task/a": ("download/a",),
    "finetune/a/ours/s0": ("preprocess/task/a",),
    "finetune/a/ours/s1": ("preprocess/task/a",),
    "tables/all": ("finetune/a/ours/s0", "finetune/a/ours/s1"),
}
#: What decides which tables there are.
STUDY: dict[str, Any] = {
    **{"scale": "tiny", "report": {}, "methods": ("ours",), "seeds": (0, 1), "ratios": (1.0,)},
    "runs": [{"id": "a", "stage": "finetune", "task": "a", "method": "ours", "seed": 0}],
    "tasks": {
        "a": {"name": "a", "title": "a", "type": "segmentation", "dataset": "a", "labels": ("a",)}
    },
    "pretrain_runs": [],
}


def tiny_plan(
    values: Mapping[str, int] | None = None, grid: Mapping[str, tuple[str, ...]] = GRID
) -> Plan:
    """A plan whose runs have one number as configuration."""
    made: dict[str, Run] = {}
    groups: dict[tuple[Stage, str], list[Run]] = {}
    for name, inputs in grid.items():
        stage: Stage = name.split("/")[0]  # type: ignore[assignment]
        value = (values or {}).get(name, 0)
        study = ReportRun.model_validate({**STUDY, "seeds": (value,)})
        config = study if stage == "tables" else {"value": value}
        word = digest([name, dump(config), [made[i].fingerprint for i in inputs]])
        key = name.split("/", 1)[1]
        job = key.rsplit("/", 1)[0] if stage == "finetune" else key
        made[name] = Run(name, stage, stage, config, inputs, word, job.replace("/", "."))
        groups.setdefault((stage, made[name].job), []).append(made[name])
    jobs = {
        (stage, name): Job(
            stage, name, stage, tuple(rs), (), digest([run.fingerprint for run in rs])
        )
        for (stage, name), rs in groups.items()
    }
    return Plan("tiny", "results/tiny", made, jobs)


class Actions:
    """What stands for the stage functions; remembers what was computed."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.count = 0
        self.fail: str | None = None
        self.surplus: str | None = None
        self.seen: dict[str, RunContext] = {}

    def execute(self, context: RunContext) -> None:
        self.done.append(context.run_id)
        self.count += 1
        self.seen[context.run_id] = context
        assert list(context.out.iterdir()) == []
        assert not list(context.out.glob("run-*.json"))
        stage = context.run_id.split("/")[0]
        names = lasting(stage, context.config) or ("part.txt", "tables/table1.csv")
        (context.out / names[0]).parent.mkdir(exist_ok=True)
        (context.out / names[0]).write_text("half")
        (context.state / "checkpoint.pt").write_text(f"{self.count}")
        if context.run_id == self.fail:
            raise OSError(28, "No space left on device")
        for name in names[stage != "tables" :]:
            (context.out / name).parent.mkdir(exist_ok=True)
            value = context.config.seeds[0] if stage == "tables" else context.config["value"]
            (context.out / name).write_text(f"{value}\n")
        if self.surplus is not None:
            (context.out / self.surplus).write_text("x")
        (context.state / "cost.json").write_text(f"{self.count}")

    def costs(self, context: RunContext) -> None:
        for name in COSTS["tables"]:
            (context.out / name).parent.mkdir(exist_ok=True)
            (context.out / name).write_text(f"{self.count}")


def install(monkeypatch: pytest.MonkeyPatch) -> Actions:
    """Put tiny actions in the place of the stage functions."""
    made = Actions()
    module = types.ModuleType("tiny_actions")
    module.execute = made.execute  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tiny_actions", module)
    module.costs = made.costs  # type: ignore[attr-defined]
    actions = dict.fromkeys(runs.ACTIONS, "tiny_actions:execute")
    monkeypatch.setattr(runs, "ACTIONS", actions)
    monkeypatch.setattr(runs, "MAKE_COSTS", "tiny_actions:costs")
    monkeypatch.setattr(journal, "environment", lambda: {"python": "x"})
    logger = logging.getLogger("voxseq")
    monkeypatch.setattr(logger, "level", logging.INFO)
    # Loggers remember what they let through.
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    return made


def do_all(workspace: Workspace) -> None:
    for job in workspace.plan.jobs.values():
        if not (workspace.root / workspace.plan.marker(job)).exists():
            workspace.execute(job)


def run_of(workspace: Workspace, name: str) -> Run:
    return workspace.plan.runs[name]


def job_of(workspace: Workspace, stage: Stage) -> Job:
    return workspace.plan.of_stage(stage)[0]


def job_marker(workspace: Workspace, stage: Stage) -> Path:
    return workspace.root / workspace.plan.marker(job_of(workspace, stage))


def do(workspace: Workspace, *stages: Stage) -> None:
    """Do the first job of some stages."""
    for stage in stages:
        workspace.execute(job_of(workspace, stage))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
