"""A real pre-training and a real fine-tuning, stopped and resumed, end with the same files."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from voxseq.base.errors import IntegrityError
from voxseq.config import load_config, read_yaml
from voxseq.engine.workspace import Workspace
from voxseq.plan import Job, Plan, build_plan
from voxseq.training.loop import Interrupted

TASK = "task06_lung"


@pytest.fixture(scope="module")
def plan(root: Path) -> Plan:
    overlay = read_yaml(root / "workflow/scales/smoke.yaml")
    overlay["sequences"]["sources!"] = [
        {"dataset": "amos22", "kind": "spatial"},
        {"dataset": "brats23", "kind": "contrast"},
        {"dataset": "deeplesion", "kind": "semantic"},
    ]
    overlay["data"]["phantoms_per_job"] = 1
    overlay["seeds"] = 1
    return build_plan(load_config(root / "params.yaml", [overlay]))


@pytest.fixture(scope="module")
def prepared(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose data are ready."""
    folder = tmp_path_factory.mktemp("prepared")
    needed = {"amos22", "brats23", "deeplesion", TASK}
    for job in plan.jobs.values():
        if job.stage in ("download", "preprocess") and needed & {*job.name.split(".")}:
            Workspace(folder, plan).execute(job)
    # The index asks for every task's list of held-out images; here the one task's will do.
    (sequences,) = plan.of_stage("sequences")
    run = sequences.runs[0]
    known = tuple(name for name in run.inputs if needed & {*name.split("/")})
    Workspace(folder, plan).execute(replace(sequences, runs=(replace(run, inputs=known),)))
    return folder


@pytest.fixture(scope="module")
def straight(plan: Plan, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same workspace after undisturbed trainings."""
    folder = tmp_path_factory.mktemp("straight") / "x"
    shutil.copytree(prepared, folder)
    for job in jobs(plan):
        Workspace(folder, plan).execute(job)
    return folder


def jobs(plan: Plan) -> list[Job]:
    finetuning = plan.jobs["finetune", "ours.s0.part0"]
    one = tuple(run for run in finetuning.runs if f"/{TASK}/" in run.id)
    return [plan.jobs["pretrain", "ours.s0"], replace(finetuning, runs=one)]


def results(folder: Path, job: Job) -> dict[str, bytes]:
    """Files of a job's runs."""
    found = {}
    for run in job.runs:
        base = folder / "artifacts/smoke" / run.id
        found |= {
            str(path.relative_to(folder)): path.read_bytes()
            for path in base.rglob("*")
            if path.is_file()
        }
    assert any(name.endswith("metrics.csv") for name in found)
    return found


def stop_at(
    monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], None]
) -> pytest.MonkeyPatch:
    """Let something happen before the given step's forward pass, in any training."""
    from voxseq.training.loop import Trainable

    real = nn.Module.__call__

    def watched(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, Trainable) and len(args) == 2 and args[1] == step:
            action()
        return real(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", watched)
    return monkeypatch


class Killed(BaseException):
    """Stands for the end of the process."""


def kill() -> None:
    raise Killed


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", [terminate, kill])
def test_interrupted_trainings_end_with_the_same_files(
    plan: Plan,
    prepared: Path,
    straight: Path,
    tmp_path: Path,
    how: Callable[[], None],
    workers: int,
) -> None:
    folder = tmp_path / "x"
    shutil.copytree(prepared, folder)
    workspace = Workspace(folder, plan, None, workers)
    for job, step in zip(jobs(plan), (4, 3), strict=True):
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, step, how)
            with pytest.raises((Interrupted, Killed)):
                workspace.execute(job)
        run = job.runs[0]
        assert not workspace.is_finished(run)
        assert not (folder / plan.marker(job)).exists()
        assert (workspace.state(run) / "checkpoint.pt").exists()
        workspace.execute(job)
        assert results(folder, job) == results(straight, job)
        assert not workspace.state(run).exists()


def test_a_damaged_checkpoint_stops_the_run_by_name(
    plan: Plan, prepared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "x"
    shutil.copytree(prepared, folder)
    workspace = Workspace(folder, plan)
    job = plan.jobs["pretrain", "ours.s0"]
    path = workspace.state(job.runs[0]) / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    with pytest.raises(IntegrityError, match="cannot be read") as caught:
        workspace.execute(job)
    assert str(path) in str(caught.value)
    assert not workspace.is_finished(job.runs[0])
