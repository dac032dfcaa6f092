"""The study that is reported: its tasks, methods and planned runs, read from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voxseq.catalogue import CATALOGUE, DECATHLON
from voxseq.config.registry import METHODS
from voxseq.config.studies import AblationVariant, ReportConfig
from voxseq.plan import outputs

#: The method whose rows the others are compared with.
REFERENCE = "ours"
#: Metrics of each type of task, in the order of the columns.
METRICS: Mapping[str, tuple[str, ...]] = {
    "segmentation": ("dice",),
    "classification": ("auc", "accuracy"),
}
METRIC_TITLES: Mapping[str, str] = {"dice": "Dice", "auc": "AUC", "accuracy": "ACC"}
#: Dice is printed in percent; AUC and accuracy between 0 and 1, as in the paper.
FACTORS: Mapping[str, float] = {"dice": 100.0, "auc": 1.0, "accuracy": 1.0}
DIGITS: Mapping[str, int] = {"dice": 2, "auc": 4, "accuracy": 4}
UNITS: Mapping[str, str] = {"dice": "%", "auc": "", "accuracy": ""}
_STAGES: Mapping[str, str] = {
    "pretrain": "Pre-training",
    "finetune": "Fine-tuning",
    "label_ratio": "Fewer labels",
    "ablation": "Ablation",
    "beyond": "Beyond the paper",
}


@dataclass(frozen=True)
class Task:
    """One downstream task.

    Attributes:
        name: key in the configuration.
        labels: names of the foreground classes (segmentation) or of the two classes.
        score_grid: "stored" or "native"; empty for classification.
    """

    name: str
    title: str
    type: str
    dataset: str
    labels: tuple[str, ...]
    score_grid: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of the task, in the order of the columns."""
        return METRICS[self.type]

    @property
    def is_decathlon(self) -> bool:
        """Whether the data set is one of the Medical Segmentation Decathlon's."""
        return self.dataset in CATALOGUE and CATALOGUE[self.dataset].collection == DECATHLON


@dataclass(frozen=True)
class Run:
    """One planned fine-tuning; ``variant`` is empty for the method itself."""

    id: str
    stage: str
    task: str
    method: str
    variant: str
    ratio: float
    seed: int


@dataclass(frozen=True)
class PretrainRun:
    """One planned pre-training and the sequences it reads."""

    id: str
    method: str
    variant: str
    sequences: Mapping[str, Any]


@dataclass(frozen=True)
class BeyondRow:
    """One row of Table 5, and the row it is compared with (empty names: none).

    Attributes:
        reference_method: a method; its row in Tables 1 and 2 where ``reference_variant`` is empty.
        reference_variant: a variant of another row of Table 5.
    """

    group: str
    title: str
    method: str
    variant: str
    reference_method: str = ""
    reference_variant: str = ""

    @property
    def series(self) -> tuple[str, str]:
        """Method and variant of the row's runs."""
        return self.method, self.variant

    @property
    def reference(self) -> tuple[str, str]:
        """Method and variant that the row is compared with."""
        return self.reference_method, self.reference_variant

    @property
    def is_compared(self) -> bool:
        """Whether there is a reference other than the row itself."""
        return bool(self.reference_method) and self.reference != self.series


@dataclass(frozen=True)
class Study:
    """Everything of the configuration that a report depends on.

    Attributes:
        phantoms: whether the data sets are generated.
        table_numbers: the tables that it has.
        files: all that it publishes, as paths in the results folder; without costs.
    """

    scale: str
    settings: ReportConfig
    methods: tuple[str, ...]
    tasks: Mapping[str, Task]
    seeds: tuple[int, ...]
    ratios: tuple[float, ...]
    ratio_tasks: tuple[str, ...]
    ablation_tasks: tuple[str, ...]
    ablation: Mapping[str, AblationVariant]
    runs: tuple[Run, ...]
    pretrain_runs: tuple[PretrainRun, ...]
    beyond: tuple[BeyondRow, ...] = ()
    beyond_tasks: tuple[str, ...] = ()
    phantoms: bool = False
    table_numbers: tuple[int, ...] = ()
    files: frozenset[str] = frozenset()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Study:
        """Read the configuration of a ``tables`` or ``figures`` run (plain JSON values)."""
        return cls(
            scale=str(config["scale"]),
            settings=ReportConfig.model_validate(config["report"]),
            methods=tuple(config["methods"]),
            tasks={name: _task(name, value) for name, value in config["tasks"].items()},
            seeds=tuple(config["seeds"]),
            ratios=tuple(sorted((float(r) for r in config["ratios"]), reverse=True)),
            ratio_tasks=tuple(config["ratio_tasks"]),
            ablation_tasks=tuple(config["ablation_tasks"]),
            ablation={
                name: AblationVariant.model_validate(value)
                for name, value in config["ablation"].items()
            },
            runs=tuple(_run(value) for value in config["runs"]),
            pretrain_runs=tuple(_pretrain_run(value) for value in config["pretrain_runs"]),
            beyond=tuple(_beyond_row(value) for value in config.get("beyond", ())),
            beyond_tasks=tuple(config.get("beyond_tasks", ())),
            phantoms=bool(config.get("phantoms", False)),
            table_numbers=outputs.table_numbers(config),
            files=frozenset(
                name for stage in ("tables", "figures") for name in outputs.lasting(stage, config)
            ),
        )

    def publishes(self, name: str) -> bool:
        """Whether a file is among those that the study has."""
        return name in self.files

    def tasks_of(self, kind: str) -> tuple[Task, ...]:
        """The tasks of one type, in the order of the configuration."""
        return tuple(task for task in self.tasks.values() if task.type == kind)

    def methods_of(self, kind: str) -> tuple[str, ...]:
        """The methods of the study that have a network for this type of task."""
        return tuple(m for m in self.methods if m not in METHODS or kind in METHODS[m].networks)

    @property
    def all_ratios(self) -> tuple[float, ...]:
        """Shares of the labels of Table 3, all labels first."""
        return tuple(sorted({1.0, *self.ratios}, reverse=True))

    def runs_of(self, task: str, method: str, variant: str, ratio: float) -> tuple[Run, ...]:
        """The planned fine-tunings of one cell."""
        return tuple(
            run
            for run in self.runs
            if (run.task, run.method, run.variant) == (task, method, variant)
            and abs(run.ratio - ratio) < 1e-9
        )

    def stages(self) -> dict[str, list[str]]:
        """Title of each stage that trains → ids of its runs; a variant's pre-training counts as
        pre-training."""
        planned = {"pretrain": [run.id for run in self.pretrain_runs]}
        for run in self.runs:
            planned.setdefault(run.stage, []).append(run.id)
        return {_STAGES.get(stage, stage): ids for stage, ids in planned.items() if ids}

    @property
    def full_stride(self) -> int | None:
        """Stride of the full method's spatial sequences in voxels; ``None`` where not planned."""
        for run in self.pretrain_runs:
            if run.method == REFERENCE and not run.variant:
                stride = run.sequences.get("spatial", {}).get("stride")
                return None if stride is None else int(stride)
        return None


def title_of(method: str) -> str:
    """Name of a method as the tables print it."""
    return METHODS[method].title if method in METHODS else method


def series_title(study: Study, method: str, variant: str) -> str:
    """Name of a method or of one of its variants; a row of Table 5 with its group before it."""
    if not variant:
        return title_of(method)
    if method == REFERENCE and variant in study.ablation:
        return study.ablation[variant].title
    rows = (row for row in study.beyond if row.series == (method, variant))
    return next((f"{row.group}: {row.title}" for row in rows), variant)


def _task(name: str, value: Mapping[str, Any]) -> Task:
    return Task(
        name=name,
        title=str(value["title"]),
        type=str(value["type"]),
        dataset=str(value.get("dataset", name)),
        labels=tuple(str(label) for label in value["labels"]),
        score_grid=str(value.get("score_grid", "")),
    )


def _run(value: Mapping[str, Any]) -> Run:
    return Run(
        id=str(value["id"]),
        stage=str(value["stage"]),
        task=str(value["task"]),
        method=str(value["method"]),
        variant=str(value.get("variant") or ""),
        ratio=float(value.get("ratio") or 1.0),
        seed=int(value["seed"]),
    )


def _beyond_row(value: Mapping[str, Any]) -> BeyondRow:
    return BeyondRow(
        group=str(value["group"]),
        title=str(value["title"]),
        method=str(value["method"]),
        variant=str(value["variant"]),
        reference_method=str(value.get("reference_method") or ""),
        reference_variant=str(value.get("reference_variant") or ""),
    )


def _pretrain_run(value: Mapping[str, Any]) -> PretrainRun:
    return PretrainRun(
        id=str(value["id"]),
        method=str(value["method"]),
        variant=str(value.get("variant") or ""),
        sequences=dict(value.get("sequences") or {}),
    )
