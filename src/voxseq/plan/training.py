"""Pre-training and fine-tuning runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from voxseq.config import Config
from voxseq.config.finetune import AblationVariant
from voxseq.methods import METHODS, Method
from voxseq.plan.builder import Builder, dump
from voxseq.plan.model import Settings, Stage


def add_pretrain_runs(builder: Builder, config: Config) -> None:
    """Pre-training of every method and every ablation variant."""
    for method in in_table_order(config.pretrain.methods):
        settings = _pretrain_settings(config, method, AblationVariant(title=""))
        _add_pretrain(builder, config, "pretrain", method, settings)
    if config.ablation.tasks:
        for name, variant in config.ablation.variants.items():
            settings = _pretrain_settings(config, "ours", variant)
            _add_pretrain(builder, config, "ablation", f"pretrain/{name}", settings)


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
    sequences = dump(config.sequences)
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
    stage: str
    task: str
    method: str
    variant: str | None
    ratio: float
    seed: int


def add_finetune_runs(builder: Builder, config: Config) -> list[Cell]:
    """Fine-tuning of all methods, label ratios and ablation variants; returns the cells."""
    cells: list[Cell] = []
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
    for name in in_table_order([*config.finetune.scratch, *config.pretrain.methods]):
        if kind in METHODS[name].networks:
            yield METHODS[name]


def _add_cells(
    builder: Builder,
    config: Config,
    stage: Stage,
    task: str,
    method: Method,
    variant: str | None,
    pairs: list[tuple[float, int]],
) -> list[Cell]:
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
        cells.append(Cell(run_id, stage, task, method.name, variant, ratio, seed))
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
        "task": dump(config.finetune.tasks[task].recipe()),
        "task_name": task,
        "method": method.name,
        "network": method.networks[config.finetune.tasks[task].type],
        "encoder": dump(config.encoder),
        "pretrained": pretrained,
        "optimiser": dump(getattr(config.finetune.tasks[task], recipe)),
        "seed": seed,
        "ratio": ratio,
        "shared": shared,
    }
    inputs = [f"preprocess/task/{task}", *([pretrained] if pretrained else [])]
    return settings, inputs


_SHARED_FINETUNE = ("precision", "threads", "log_every", "checkpoint_every")
