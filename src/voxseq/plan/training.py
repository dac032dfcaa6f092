"""Pre-training and fine-tuning runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from voxseq.config import Config
from voxseq.config.registry import METHODS, Method
from voxseq.config.studies import AblationVariant
from voxseq.plan.builder import Builder, dump
from voxseq.plan.data import reading_settings
from voxseq.plan.model import Settings, Stage


def add_pretrain_runs(builder: Builder, config: Config) -> None:
    """Pre-training of every method and every ablation variant."""
    for method in in_table_order(config.pretrain.methods):
        settings = _pretrain_settings(config, method, AblationVariant(title="full method"))
        _add_pretrain(builder, config, "pretrain", method, settings)
    if config.ablation.tasks:
        for name, variant in config.ablation.variants.items():
            add_variant(builder, config, "ablation", name, variant)


def add_variant(
    builder: Builder, config: Config, stage: Stage, name: str, variant: AblationVariant
) -> str:
    """Pre-training of our method with one thing changed; returns the run's id."""
    settings = _pretrain_settings(config, "ours", variant)
    return _add_pretrain(builder, config, stage, f"pretrain/{name}", settings)


def in_table_order(names: Iterable[str]) -> list[str]:
    """Method names in the order of the paper's tables."""
    wanted = set(names)
    return [name for name in METHODS if name in wanted]


def _add_pretrain(
    builder: Builder, config: Config, stage: Stage, key: str, settings: Settings
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
    sequences = reading_settings(config)
    if variant.stride is not None:
        sequences["spatial"]["stride"] = variant.stride
    kinds = sorted({s.kind for s in config.sequences.sources} - {variant.without})
    shared = dump(config.pretrain)
    del shared["methods"]
    return {
        "method": method,
        "settings": settings,
        "encoder": dump(config.encoder),
        "sequences": sequences,
        "kinds": kinds,
        "shared": shared,
    }


@dataclass(frozen=True)
class Cell:
    """One fine-tuning run and its place in the tables."""

    id: str
    stage: Stage
    task: str
    method: str
    variant: str | None
    ratio: float
    seed: int


def add_finetune_runs(builder: Builder, config: Config) -> list[Cell]:
    """Fine-tuning of all methods, label ratios and ablation variants; returns the cells."""
    cells: list[Cell] = []
    seeds = config.finetune.seeds
    full = [(1.0, seed) for seed in seeds]
    ratios = [(r, seed) for r in config.label_ratio.ratios if r < 1.0 for seed in seeds]
    # Sorted: the order of keys in a file must not decide which runs share a job.
    for task in sorted(config.finetune.tasks):
        for method in rows_of(config, task):
            tuning = Tuning(task, method.name, pretrained=_encoder_of(method))
            cells += add_cells(builder, config, "finetune", tuning, full)
            if task in config.label_ratio.tasks and _has_ratios(config, method):
                cells += add_cells(builder, config, "label_ratio", tuning, ratios)
    for task in config.ablation.tasks:
        for name in sorted(config.ablation.variants):
            encoder = f"ablation/pretrain/{name}"
            tuning = Tuning(task, "ours", variant=name, pretrained=encoder)
            cells += add_cells(builder, config, "ablation", tuning, full)
    return cells


def rows_of(config: Config, task: str) -> Iterator[Method]:
    """Methods that have a row for ``task``, in table order."""
    kind = config.finetune.tasks[task].type
    for name in in_table_order([*config.finetune.scratch, *config.pretrain.methods]):
        if kind in METHODS[name].networks:
            yield METHODS[name]


def _encoder_of(method: Method) -> str | None:
    return f"pretrain/{method.name}" if method.is_pretrained else None


def _has_ratios(config: Config, method: Method) -> bool:
    chosen = config.label_ratio.methods
    return chosen is None or method.name in chosen


Recipe = Literal["pretrained", "scratch"]


@dataclass(frozen=True)
class Tuning:
    """What is fine-tuned on a task, and how.

    Attributes:
        variant: what differs from the method's own row; None for that row.
        pretrained: id of the run whose encoder is loaded; None: random weights.
        recipe: "pretrained" or "scratch"; None: what ``pretrained`` says.
        trained: "all", or "decoder" with a frozen encoder.
        action: "finetune", or "probe" for a linear probe.
    """

    task: str
    method: str
    variant: str | None = None
    pretrained: str | None = None
    recipe: Recipe | None = None
    trained: Literal["all", "decoder"] = "all"
    action: Literal["finetune", "probe"] = "finetune"


def add_cells(
    builder: Builder,
    config: Config,
    stage: Stage,
    tuning: Tuning,
    pairs: list[tuple[float, int]],
) -> list[Cell]:
    """Add one run for each pair of label ratio and seed.

    The runs of one row, over all tasks, share jobs of ``finetune.runs_per_job`` runs: starting a
    process takes as long as training a small run.
    """
    cells = []
    for ratio, seed in pairs:
        share = "" if ratio == 1.0 else f"r{100 * ratio:g}_".replace(".", "p")
        settings, inputs = _finetune_settings(config, tuning, ratio, seed)
        cells.append(
            add_cell(
                builder,
                config,
                Cell(
                    f"{share}s{seed}",
                    stage,
                    tuning.task,
                    tuning.method,
                    tuning.variant,
                    ratio,
                    seed,
                ),
                tuning.action,
                settings,
                inputs,
            )
        )
    return cells


def add_cell(
    builder: Builder,
    config: Config,
    cell: Cell,
    action: str,
    settings: Settings,
    inputs: list[str],
) -> Cell:
    """Add the run of one cell, whose id is still the last part of its key; returns the cell."""
    row = cell.variant or cell.method
    if cell.stage == "beyond":
        row = f"{cell.method}_{cell.variant}"
    # Probes and baselines take a second each: those of all rows share a job.
    shared = row if action == "finetune" else f"{action}s"
    # Stages that pre-train as well keep their two kinds of job apart by the first word.
    first = "" if cell.stage in ("finetune", "label_ratio") else "finetune/"
    run_id = builder.add(
        cell.stage,
        action,
        f"{first}{cell.task}/{row}/{cell.id}",
        settings,
        inputs,
        job=builder.shared_job(
            cell.stage, f"{first}{shared}".replace("/", "."), config.finetune.runs_per_job
        ),
    )
    return replace(cell, id=run_id)


def _finetune_settings(
    config: Config, tuning: Tuning, ratio: float, seed: int
) -> tuple[Settings, list[str]]:
    task = config.finetune.tasks[tuning.task]
    recipe: Recipe = tuning.recipe or ("pretrained" if tuning.pretrained else "scratch")
    network = METHODS[tuning.method].networks[task.type]
    settings: Settings = {
        "task": dump(task.recipe()),
        "task_name": tuning.task,
        "method": tuning.method,
        "network": network,
        "network_settings": task.network_settings(network),
        "encoder": dump(config.encoder),
        "pretrained": tuning.pretrained,
        "trained": tuning.trained,
        "optimiser": dump(task.optimiser_of(network, recipe)),
        "seed": seed,
        "ratio": ratio,
        "shared": shared_settings(config, tuning.task),
    }
    inputs = [f"preprocess/task/{tuning.task}"]
    return settings, [*inputs, *([tuning.pretrained] if tuning.pretrained else [])]


def shared_settings(config: Config, task: str) -> Settings:
    """What all runs of fine-tuning have in common; the precision may be the task's own."""
    keys = ("precision", "threads", "log_every", "checkpoint_every")
    shared: Settings = {key: getattr(config.finetune, key) for key in keys}
    own = config.finetune.tasks[task].precision
    return shared if own is None else {**shared, "precision": own}
