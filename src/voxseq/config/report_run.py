"""Configuration of the stages "tables" and "figures": the study as it is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from voxseq.catalogue import CATALOGUE, DECATHLON
from voxseq.config.base import Model
from voxseq.config.data import SequencesConfig
from voxseq.config.model import EncoderConfig
from voxseq.config.registry import ENCODER_NETWORKS, METHODS
from voxseq.config.studies import AblationVariant, ReportConfig
from voxseq.config.task_types import TaskType

#: The method of the paper, with which the others are compared.
REFERENCE = "ours"
#: Metrics of each type of task, in the order of the columns; the first one is the main one.
METRICS: Mapping[TaskType, tuple[str, ...]] = {
    "segmentation": ("dice", "surface_dice", "hd95"),
    "classification": ("auc", "accuracy"),
    "regression": ("mae", "r2", "correlation"),
}
#: Number of the table of each type of task: the paper's, then those beyond Table 5.
MAIN_TABLES: Mapping[TaskType, int] = dict(
    zip(METRICS, (1, 2, *range(6, 4 + len(METRICS))), strict=True)
)
#: Data set of each task of the paper → header of its column there.
PAPER_COLUMNS: Mapping[TaskType, Mapping[str, str]] = {
    "segmentation": {
        "task03_liver": "Task03",
        "task06_lung": "Task06",
        "task07_pancreas": "Task07",
        "task08_hepaticvessel": "Task08",
        "task09_spleen": "Task09",
        "task10_colon": "Task10",
        "la": "LA",
    },
    "classification": {"ricord": "RICORD", "nodule": "Nodule"},
}
#: Metrics that a segmentation has where its recipe asks for them.
SURFACE_METRICS = frozenset({"surface_dice", "hd95"})
_STAGES: Mapping[str, str] = {
    "pretrain": "Pre-training",
    "finetune": "Fine-tuning",
    "label_ratio": "Fewer labels",
    "ablation": "Ablation",
}


class ReportTask(Model):
    """One downstream task.

    Attributes:
        name: key in the configuration.
        labels: names of the foreground classes (segmentation) or of the classes 0, 1, …
        score_grid: "stored" or "native"; empty but for segmentation.
        surface: whether a segmentation has scores of surfaces.
        target: what a regression predicts.
        unit: of the target.
    """

    name: str
    title: str
    type: TaskType
    dataset: str
    labels: tuple[str, ...] = ()
    score_grid: str = ""
    surface: bool = False
    target: str = ""
    unit: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of the task, in the order of the columns."""
        names = METRICS[self.type]
        return names if self.surface else tuple(n for n in names if n not in SURFACE_METRICS)

    @property
    def has_two_classes(self) -> bool:
        """Whether it is a classification with one probability for a case."""
        return self.type == "classification" and len(self.labels) <= 2

    @property
    def has_many_classes(self) -> bool:
        """Whether it is a classification with a probability of each class for a case."""
        return self.type == "classification" and not self.has_two_classes

    @property
    def is_papers(self) -> bool:
        """Whether the paper has a column for the task."""
        return is_papers(self.type, self.dataset)

    @property
    def is_decathlon(self) -> bool:
        """Whether the data set is one of the Medical Segmentation Decathlon's."""
        return self.dataset in CATALOGUE and CATALOGUE[self.dataset].collection == DECATHLON


class FinetunedRun(Model):
    """One planned run that is scored; ``variant`` is empty for the method's own row."""

    id: str
    stage: str
    task: str
    method: str
    variant: str = ""
    ratio: float = 1.0
    seed: int

    @property
    def series(self) -> tuple[str, str]:
        """Method and variant."""
        return self.method, self.variant


class PretrainedRun(Model):
    """One planned pre-training.

    Attributes:
        stride: of its spatial sequences, in voxels.
        stage_starts: steps at which a further stage of the training begins.
    """

    id: str
    method: str
    variant: str = ""
    seed: int = 0
    stride: int
    stage_starts: tuple[int, ...] = ()

    @property
    def stage(self) -> str:
        """Its stage, which its id begins with."""
        return self.id.split("/", maxsplit=1)[0]


@dataclass(frozen=True)
class ControlRow:
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


class ScoresRun(Model):
    """Gathering the scores of one seed.

    Attributes:
        study: one word for all that is trained but for its seed: that of the first seed.
        phantoms: whether the data sets are generated.
        fingerprints: of the runs, by their ids.
    """

    scale: str
    seed: int
    study: str
    phantoms: bool = False
    runs: tuple[FinetunedRun, ...]
    pretrain_runs: tuple[PretrainedRun, ...]
    fingerprints: dict[str, str]


class ReportRun(Model):
    """The study of a ``tables`` or ``figures`` run.

    Attributes:
        study: as in :class:`ScoresRun`; empty: seeds of any study are read.
        further: files of seeds that are not planned here: path → SHA-256.
        phantoms: whether the data sets are generated.
        methods: in the order of the tables.
        titles: of methods that the registry lacks, such as encoders from elsewhere.
        ratios: shares of the labels, all labels first.
        runs: the runs that are scored.
        sequences: of the figures, like ``encoder`` and ``token_order``; ``None`` for the tables.
    """

    scale: str
    study: str = ""
    further: dict[str, str] = Field(default_factory=dict)
    phantoms: bool = False
    report: ReportConfig
    methods: tuple[str, ...]
    titles: dict[str, str] = Field(default_factory=dict)
    tasks: dict[str, ReportTask]
    seeds: tuple[int, ...]
    ratios: tuple[float, ...]
    ratio_tasks: tuple[str, ...] = ()
    ablation_tasks: tuple[str, ...] = ()
    ablation: dict[str, AblationVariant] = Field(default_factory=dict)
    beyond_tasks: tuple[str, ...] = ()
    beyond: tuple[ControlRow, ...] = ()
    runs: tuple[FinetunedRun, ...]
    pretrain_runs: tuple[PretrainedRun, ...]
    sequences: SequencesConfig | None = None
    encoder: EncoderConfig | None = None
    token_order: Literal["patch_major", "raster"] = "patch_major"  # noqa: S105

    @property
    def is_papers(self) -> bool:
        """Whether the study has a task of the paper, and with it the paper's rows and words."""
        return any(task.is_papers for task in self.tasks.values())

    @property
    def reference(self) -> str | None:
        """The method that the others are compared with: the paper's, else the first with a
        pre-trained encoder; ``None`` in a study that has none."""
        if REFERENCE in self.methods:
            return REFERENCE
        return next((m for m in self.methods if m not in METHODS or METHODS[m].is_pretrained), None)

    def title_of(self, method: str) -> str:
        """Name of a method as the tables print it."""
        return self.titles.get(method) or title_of(method)

    def tasks_of(self, kind: TaskType) -> tuple[ReportTask, ...]:
        """The tasks of one type, in the order of the configuration."""
        return tuple(task for task in self.tasks.values() if task.type == kind)

    def methods_of(self, kind: TaskType) -> tuple[str, ...]:
        """The methods that have a network for this type of task."""
        return tuple(m for m in self.methods if m not in METHODS or kind in METHODS[m].networks)

    def network_of(self, method: str, kind: TaskType) -> str:
        """Network of a method on a type of task; that of a baseline is its own."""
        if method in METHODS:
            return METHODS[method].networks.get(kind, "")
        return ENCODER_NETWORKS[kind] if method in self.methods else method

    def runs_of(self, task: str, method: str, variant: str, ratio: float) -> list[FinetunedRun]:
        """The planned runs of one cell."""
        return [
            run
            for run in self.runs
            if (run.task, *run.series) == (task, method, variant) and abs(run.ratio - ratio) < 1e-9
        ]

    @property
    def finetuned(self) -> tuple[FinetunedRun, ...]:
        """The runs with all labels, one per task, method and seed."""
        return tuple(run for run in self.runs if run.stage == "finetune")

    @property
    def full_stride(self) -> int | None:
        """Stride of the full method's spatial sequences in voxels; ``None`` where not planned."""
        full = (r.stride for r in self.pretrain_runs if (r.method, r.variant) == (REFERENCE, ""))
        return next(full, None)

    def stages(self) -> dict[str, list[str]]:
        """Title of each stage that trains → ids of its runs; a variant's pre-training counts as
        pre-training."""
        planned = {"pretrain": [run.id for run in self.pretrain_runs]}
        for run in self.runs:
            planned.setdefault(run.stage, []).append(run.id)
        titles = {**_STAGES, "beyond": "Beyond the paper" if self.is_papers else "Controls"}
        return {titles[stage]: ids for stage, ids in planned.items() if ids}

    def series_title(self, method: str, variant: str) -> str:
        """Name of a method or of a variant of one; a row of Table 5 has its group in front."""
        if not variant:
            return self.title_of(method)
        if method == REFERENCE and variant in self.ablation:
            return self.ablation[variant].title
        rows = (row for row in self.beyond if row.series == (method, variant))
        return next((f"{row.group}: {row.title}" for row in rows), variant)


def is_papers(kind: str, dataset: str) -> bool:
    """Whether the paper has a column for a task of this type on this data set."""
    return any(dataset in names for of, names in PAPER_COLUMNS.items() if of == kind)


def title_of(method: str) -> str:
    """Name of a method of voxseq as the tables print it."""
    return METHODS[method].title if method in METHODS else method
