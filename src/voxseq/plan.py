"""The plan: from a validated configuration to the list of runs. Nothing else decides what exists.

This module is a pure function and imports neither torch nor pandas: the workflow reads it at
every start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from voxseq.config import Config
from voxseq.config.finetune import AblationVariant, Task
from voxseq.fingerprint import digest, versions
from voxseq.methods import METHODS, Method

Settings = dict[str, Any]
Stage = Literal[
    "download",
    "preprocess",
    "sequences",
    "pretrain",
    "finetune",
    "ablation",
    "label_ratio",
    "tables",
    "figures",
]
STAGES: tuple[Stage, ...] = Stage.__args__  # type: ignore[attr-defined]

#: Units of code whose version enters the fingerprint of each action.
CODE: Mapping[str, tuple[str, ...]] = {
    "download": ("data",),
    "preprocess": ("data",),
    "sequences": ("data", "sequences", "training"),
    "pretrain": ("models", "pretrain", "sequences", "training"),
    "finetune": ("evaluation", "finetune", "models", "training"),
    "tables": ("methods", "report"),
    "figures": ("methods", "models", "report", "sequences"),
}
#: Units that every run goes through.
CODE_OF_ALL = ("plan", "runs")


@dataclass(frozen=True)
class Run:
    """One unit of work with one folder and one marker.

    Attributes:
        id: stage and key, also the run's folder below the artefacts.
        action: which stage function does it (``ablation`` and ``label_ratio`` pre-train and
            fine-tune like the others).
        config: exactly the configuration that the run reads, as JSON values.
        inputs: ids of the runs it depends on.
        fingerprint: see :mod:`voxseq.fingerprint`.
        job: name of the workflow job it belongs to.
    """

    id: str
    stage: Stage
    action: str
    config: Settings
    inputs: tuple[str, ...]
    fingerprint: str
    job: str


@dataclass(frozen=True)
class Job:
    """Runs of one stage that one process does in turn; what the workflow sees."""

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
        return f"artifacts/{self.scale}"

    def of_stage(self, stage: Stage) -> list[Job]:
        """The jobs of one stage."""
        return [job for job in self.jobs.values() if job.stage == stage]

    def marker(self, job: Job) -> str:
        """Path of the file whose existence says that ``job`` is finished."""
        return f"{self.artefacts}/{job.stage}/jobs/{job.name}-{job.fingerprint}.json"

    def needed_markers(self, job: Job) -> list[str]:
        """Markers of the jobs that ``job`` waits for."""
        return [self.marker(self.jobs[key]) for key in job.needs]


def build_plan(config: Config) -> Plan:
    """List every run that ``config`` asks for.

    Raises:
        IntegrityError: the record of code versions is damaged.
    """
    builder = _Builder(versions())
    _data_runs(builder, config)
    _pretrain_runs(builder, config)
    study = _finetune_runs(builder, config)
    _report_runs(builder, config, study)
    return builder.plan(config)


@dataclass
class _Builder:
    code: Mapping[str, int]
    runs: dict[str, Run] = field(default_factory=dict)
    parts: dict[tuple[Stage, str], int] = field(default_factory=dict)

    def add(
        self,
        stage: Stage,
        action: str,
        key: str,
        config: Settings,
        inputs: Iterable[str] = (),
        job: str | None = None,
    ) -> str:
        """Add one run and return its id; its inputs must be there already."""
        run_id = f"{stage}/{key}"
        needs = tuple(sorted(set(inputs)))
        units = sorted({*CODE[action], *CODE_OF_ALL})
        fingerprint = digest(
            {
                "id": run_id,
                "action": action,
                "config": config,
                "code": {unit: self.code.get(unit, 0) for unit in units},
                "inputs": {name: self.runs[name].fingerprint for name in needs},
            }
        )
        name = job if job is not None else key.replace("/", ".")
        self.runs[run_id] = Run(run_id, stage, action, config, needs, fingerprint, name)
        return run_id

    def plan(self, config: Config) -> Plan:
        """Group the runs into jobs."""
        groups: dict[tuple[Stage, str], list[Run]] = {}
        for run in self.runs.values():
            groups.setdefault((run.stage, run.job), []).append(run)
        jobs = {}
        for (stage, name), members in groups.items():
            needs = {
                (self.runs[i].stage, self.runs[i].job) for run in members for i in run.inputs
            } - {(stage, name)}
            fingerprint = digest([run.fingerprint for run in members])
            jobs[stage, name] = Job(
                stage, name, members[0].action, tuple(members), tuple(sorted(needs)), fingerprint
            )
        return Plan(config.scale, config.results, self.runs, jobs)


def _dump(model: Any) -> Settings:
    dumped: Settings = model.model_dump(mode="json")
    return dumped


def _data_runs(builder: _Builder, config: Config) -> None:
    tasks = {t.dataset: t for t in config.finetune.tasks.values()}
    sources = {s.dataset for s in config.sequences.sources}
    for dataset in sorted({*tasks, *sources}):
        builder.add("download", "download", dataset, _download_settings(config, dataset, tasks))
    store = _dump(config.store)
    for dataset in sorted(sources):
        builder.add(
            "preprocess",
            "preprocess",
            f"source/{dataset}",
            {"role": "source", "dataset": dataset, "store": store},
            [f"download/{dataset}"],
        )
    for name, task in config.finetune.tasks.items():
        settings = {
            "role": "task",
            "dataset": task.dataset,
            "store": store,
            "type": task.type,
            "labels": len(task.labels),
            "data": _dump(task.data),
            "native_labels": task.type == "segmentation" and task.score_grid == "native",
        }
        builder.add(
            "preprocess", "preprocess", f"task/{name}", settings, [f"download/{task.dataset}"]
        )
    if sources:
        builder.add(
            "sequences",
            "sequences",
            "all",
            _sequence_settings(config),
            [
                *(f"preprocess/source/{d}" for d in sources),
                *(f"download/{d}" for d in {*tasks, *sources}),
            ],
        )


def _download_settings(config: Config, dataset: str, tasks: Mapping[str, Task]) -> Settings:
    data = config.data
    task = tasks.get(dataset)
    return {
        "dataset": dataset,
        "release": data.release,
        "phantoms": None if data.root is not None else _dump(data.phantoms),
        "min_valid_fraction": data.min_valid_fraction,
        "split": {
            "seed": data.split_seed,
            "ratio": list(data.split_ratio),
            "validation_fraction": data.validation_fraction,
        },
        "task": None if task is None else {"type": task.type, "labels": len(task.labels)},
    }


def _sequence_settings(config: Config) -> Settings:
    """The part of the sequence configuration that decides which crops exist.

    Strides, mixing weights and percentiles act when a sequence is read, so they belong to
    pre-training.
    """
    s = config.sequences
    return {
        "sources": [_dump(source) for source in s.sources],
        "spatial": {
            "crops_per_volume": s.spatial.crops_per_volume,
            "crop_shape": list(s.spatial.crop_shape),
        },
        "contrast": {
            "crops_per_subject": s.contrast.crops_per_subject,
            "crop_shape": list(s.contrast.crop_shape),
            "contrasts": list(s.contrast.contrasts),
        },
        "semantic": {
            "window": list(s.semantic.window),
            "draws_per_category": s.semantic.draws_per_category,
        },
        "length": s.length,
        "validation_every": s.validation_every,
        "seed": s.seed,
    }


def _pretrain_runs(builder: _Builder, config: Config) -> None:
    for method in _in_table_order(config.pretrain.methods):
        settings = _pretrain_settings(config, method, AblationVariant(title=""))
        _add_pretrain(builder, config, "pretrain", method, settings)
    if config.ablation.tasks:
        for name, variant in config.ablation.variants.items():
            settings = _pretrain_settings(config, "ours", variant)
            _add_pretrain(builder, config, "ablation", f"pretrain/{name}", settings)


def _in_table_order(names: Iterable[str]) -> list[str]:
    wanted = set(names)
    return [name for name in METHODS if name in wanted]


def _add_pretrain(
    builder: _Builder, config: Config, stage: Stage, key: str, settings: Settings
) -> str:
    sources = {s.dataset for s in config.sequences.sources if s.kind in settings["kinds"]}
    inputs = ["sequences/all", *(f"preprocess/source/{name}" for name in sources)]
    return builder.add(stage, "pretrain", key, settings, inputs)


def _pretrain_settings(config: Config, method: str, variant: AblationVariant) -> Settings:
    settings = dict(config.pretrain.methods[method])
    changes = {"attention": variant.attention, "token_order": variant.token_order}
    settings.update({key: value for key, value in changes.items() if value is not None})
    if not variant.sequences:
        settings["sequences"] = False
    sequences = _dump(config.sequences)
    if variant.stride is not None:
        sequences["spatial"]["stride"] = variant.stride
    kinds = sorted({s.kind for s in config.sequences.sources} - {variant.without})
    shared = _dump(config.pretrain)
    del shared["methods"]
    return {
        "method": method,
        "settings": settings,
        "encoder": _dump(config.encoder),
        "sequences": sequences,
        "kinds": kinds,
        "shared": shared,
    }


@dataclass(frozen=True)
class _Cell:
    """One fine-tuning run and its place in the tables."""

    id: str
    stage: str
    task: str
    method: str
    variant: str | None
    ratio: float
    seed: int


def _finetune_runs(builder: _Builder, config: Config) -> list[_Cell]:
    cells: list[_Cell] = []
    seeds = config.finetune.seeds
    for task in config.finetune.tasks:
        for method in _rows_of(config, task):
            pairs = [(1.0, seed) for seed in seeds]
            cells += _add_cells(builder, config, "finetune", task, method, None, pairs)
            if task in config.label_ratio.tasks:
                ratios = [r for r in config.label_ratio.ratios if r < 1.0]
                pairs = [(ratio, seed) for ratio in ratios for seed in seeds]
                cells += _add_cells(builder, config, "label_ratio", task, method, None, pairs)
    for task in config.ablation.tasks:
        for variant in config.ablation.variants:
            pairs = [(1.0, seed) for seed in seeds]
            cells += _add_cells(builder, config, "ablation", task, METHODS["ours"], variant, pairs)
    return cells


def _rows_of(config: Config, task: str) -> Iterator[Method]:
    """Methods that have a row for ``task``, in table order."""
    kind = config.finetune.tasks[task].type
    for name in _in_table_order([*config.finetune.scratch, *config.pretrain.methods]):
        if kind in METHODS[name].networks:
            yield METHODS[name]


def _add_cells(
    builder: _Builder,
    config: Config,
    stage: Stage,
    task: str,
    method: Method,
    variant: str | None,
    pairs: list[tuple[float, int]],
) -> list[_Cell]:
    row = variant or method.name
    prefix = f"finetune/{task}/{row}" if stage == "ablation" else f"{task}/{row}"
    size = config.finetune.runs_per_job
    cells = []
    for number, (ratio, seed) in enumerate(pairs):
        share = "" if ratio == 1.0 else f"r{100 * ratio:g}_".replace(".", "p")
        part = f".part{number // size}" if len(pairs) > size else ""
        settings, inputs = _finetune_settings(config, task, method, variant, ratio, seed)
        run_id = builder.add(
            stage,
            "finetune",
            f"{prefix}/{share}s{seed}",
            settings,
            inputs,
            job=prefix.replace("/", ".") + part,
        )
        cells.append(_Cell(run_id, stage, task, method.name, variant, ratio, seed))
    return cells


def _finetune_settings(
    config: Config, task: str, method: Method, variant: str | None, ratio: float, seed: int
) -> tuple[Settings, list[str]]:
    pretrained = None
    if method.is_pretrained:
        pretrained = f"ablation/pretrain/{variant}" if variant else f"pretrain/{method.name}"
    recipe = "pretrained" if pretrained else "scratch"
    shared = {k: getattr(config.finetune, k) for k in _SHARED_FINETUNE}
    settings: Settings = {
        "task": _dump(config.finetune.tasks[task].recipe()),
        "task_name": task,
        "method": method.name,
        "network": method.networks[config.finetune.tasks[task].type],
        "encoder": _dump(config.encoder),
        "pretrained": pretrained,
        "optimiser": _dump(getattr(config.finetune.tasks[task], recipe)),
        "seed": seed,
        "ratio": ratio,
        "shared": shared,
    }
    inputs = [f"preprocess/task/{task}", *([pretrained] if pretrained else [])]
    return settings, inputs


_SHARED_FINETUNE = ("precision", "threads", "log_every", "checkpoint_every")


def _report_runs(builder: _Builder, config: Config, cells: list[_Cell]) -> None:
    # Sorted, because the order of keys in a file must not matter: DVC does not see it, and the
    # resolved configuration that jobs read has sorted keys.
    cells = sorted(cells, key=lambda cell: cell.id)
    trainings = (run for run in builder.runs.values() if run.action == "pretrain")
    pretrained = sorted(trainings, key=lambda run: run.id)
    study: Settings = {
        "scale": config.scale,
        "report": _dump(config.report),
        "methods": _in_table_order([*config.finetune.scratch, *config.pretrain.methods]),
        "tasks": {name: _dump(task) for name, task in sorted(config.finetune.tasks.items())},
        "seeds": list(config.finetune.seeds),
        "ratios": [1.0, *(r for r in config.label_ratio.ratios if r < 1.0)],
        "ratio_tasks": list(config.label_ratio.tasks),
        "ablation_tasks": list(config.ablation.tasks),
        "ablation": {k: _dump(v) for k, v in sorted(config.ablation.variants.items())},
        "runs": [vars(cell) for cell in cells],
        "pretrain_runs": [
            {
                "id": run.id,
                "method": run.config["method"],
                "variant": run.id.split("/")[-1] if run.stage == "ablation" else None,
                "sequences": run.config["sequences"],
            }
            for run in pretrained
        ],
    }
    trained = [*(cell.id for cell in cells), *(run.id for run in pretrained)]
    builder.add("tables", "tables", "all", study, trained)
    figure_study = {
        **study,
        "sequences": _dump(config.sequences),
        "encoder": _dump(config.encoder),
        "token_order": config.pretrain.methods.get("ours", {}).get("token_order", "patch_major"),
    }
    data = [r for r in builder.runs if r.startswith(("sequences/", "preprocess/source/"))]
    builder.add("figures", "figures", "all", figure_study, [*trained, *data, "tables/all"])
