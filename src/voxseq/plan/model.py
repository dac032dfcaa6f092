"""Parts of a plan: runs, jobs, stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

Settings = dict[str, Any]
Stage = Literal[
    "download",
    "preprocess",
    "sequences",
    "pretrain",
    "finetune",
    "ablation",
    "label_ratio",
    "beyond",
    "scores",
    "tables",
    "figures",
]
STAGES: tuple[Stage, ...] = Stage.__args__  # type: ignore[attr-defined]
#: Folder of the artefacts of every scale, relative to the workspace.
ARTEFACTS = "artifacts"
#: Stages that each stage reads from, as in dvc.yaml.
_TRAINED: tuple[Stage, ...] = ("pretrain", "finetune", "ablation", "label_ratio", "beyond")
READS: Mapping[Stage, tuple[Stage, ...]] = {
    "download": (),
    "preprocess": ("download",),
    "sequences": ("download", "preprocess"),
    "pretrain": ("preprocess", "sequences"),
    "finetune": ("preprocess", "pretrain"),
    "ablation": ("preprocess", "sequences"),
    "label_ratio": ("preprocess", "pretrain"),
    "beyond": ("preprocess", "sequences", "pretrain"),
    "scores": _TRAINED,
    "tables": (*_TRAINED, "scores"),
    "figures": ("preprocess", "sequences", *_TRAINED, "scores", "tables"),
}


def dump(config: BaseModel | Settings) -> Settings:
    """A configuration as plain JSON values."""
    return config.model_dump(mode="json") if isinstance(config, BaseModel) else config


@dataclass(frozen=True)
class Run:
    """One unit of work with one folder and one marker.

    Attributes:
        id: stage and key, also the run's folder below the artefacts.
        action: which stage function does it (``ablation`` and ``label_ratio`` pre-train and
            fine-tune like the others, ``pretrain`` also adopts encoders from elsewhere, ``beyond``
            also probes and scores baselines).
        config: exactly the configuration that the run reads, a model of
            :mod:`voxseq.config.runs`; JSON values for tables and figures.
        inputs: ids of the runs it depends on.
        fingerprint: see :mod:`voxseq.plan.code_versions`.
        job: name of the workflow job it belongs to.
    """

    id: str
    stage: Stage
    action: str
    config: Any
    inputs: tuple[str, ...]
    fingerprint: str
    job: str

    @property
    def settings(self) -> Settings:
        """The configuration as JSON values."""
        return dump(self.config)


@dataclass(frozen=True)
class Job:
    """Runs of one stage that one process does in turn; the unit of the workflow."""

    stage: Stage
    name: str
    action: str
    runs: tuple[Run, ...]
    needs: tuple[tuple[Stage, str], ...]
    fingerprint: str


@dataclass(frozen=True)
class Plan:
    """All runs and jobs of one configuration, in an order in which they can be done."""

    scale: str
    results: str
    runs: Mapping[str, Run]
    jobs: Mapping[tuple[Stage, str], Job]

    @property
    def artefacts(self) -> str:
        """Folder of this scale's artefacts, relative to the workspace."""
        return f"{ARTEFACTS}/{self.scale}"

    def reads_phantoms(self, run: Run) -> bool:
        """Whether a run's data are generated: its own, or those of a run that it depends on."""
        waiting, seen = [run.id], set()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                found = self.runs[name]
                if found.stage == "download" and found.settings.get("phantoms"):
                    return True
                waiting += found.inputs
        return False

    def of_stage(self, stage: Stage) -> list[Job]:
        """The jobs of one stage."""
        return [job for job in self.jobs.values() if job.stage == stage]

    def marker(self, job: Job) -> str:
        """Path of the file whose existence says that ``job`` is finished."""
        return f"{self.artefacts}/{job.stage}/jobs/{job.name}-{job.fingerprint}.json"

    def needed_markers(self, job: Job) -> list[str]:
        """Markers of the jobs that ``job`` waits for."""
        return [self.marker(self.jobs[key]) for key in job.needs]
