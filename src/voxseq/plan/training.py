"""Pre-training and fine-tuning runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from voxseq.base.errors import ConfigError
from voxseq.base.files import sha256
from voxseq.config import Config
from voxseq.config.data import chosen_channels
from voxseq.config.model import PretrainTraining
from voxseq.config.outside import OutsideEncoder, file_of
from voxseq.config.registry import METHODS, Method
from voxseq.config.runs import (
    AdoptRun,
    EncoderRun,
    FinetuneRun,
    ModelFacts,
    PretrainRun,
    ProbeRun,
    TaskRun,
)
from voxseq.config.studies import AblationVariant
from voxseq.config.study_rows import study_methods
from voxseq.plan.builder import Builder
from voxseq.plan.data import reading_settings
from voxseq.plan.model import Stage


def add_pretrain_runs(builder: Builder, config: Config) -> None:
    """Pre-training of every method and every ablation variant; encoders from elsewhere."""
    for name, encoder in sorted(config.finetune.encoders.items()):
        builder.add("pretrain", "adopt", name, _adopt_run(config, name, encoder))
    for method in (name for name in METHODS if name in config.pretrain.methods):
        run = _pretrain_run(config, method, AblationVariant(title="full method"))
        _add_pretrain(builder, "pretrain", method, run)
    if config.ablation.tasks:
        for name, variant in config.ablation.variants.items():
            add_variant(builder, config, "ablation", name, variant)


def add_variant(
    builder: Builder, config: Config, stage: Stage, name: str, variant: AblationVariant
) -> str:
    """Pre-training of our method with one thing changed; returns the run's id."""
    return _add_pretrain(builder, stage, f"pretrain/{name}", _pretrain_run(config, "ours", variant))


def _adopt_run(config: Config, name: str, encoder: OutsideEncoder) -> AdoptRun:
    path = file_of(encoder.path)
    try:
        found = path.resolve().stat()
        digest = _digest(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise ConfigError(
            f"finetune.encoders.{name}.path: {path} cannot be read: {error}",
            "correct the path, which starts from the folder where voxseq runs",
        ) from None
    return AdoptRun(
        method=name,
        file=encoder.path,
        sha256=digest,
        facts=encoder.facts(),
        encoder=config.encoder,
    )


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file; size and time tell a changed one."""
    return sha256(path)


def _add_pretrain(builder: Builder, stage: Stage, key: str, run: PretrainRun) -> str:
    sources = {s.dataset for s in run.sequences.sources if s.kind in run.kinds}
    inputs = ["sequences/all", *(f"preprocess/source/{name}" for name in sources)]
    return builder.add(stage, "pretrain", key, run, inputs)


def _pretrain_run(config: Config, method: str, variant: AblationVariant) -> PretrainRun:
    names = ("attention", "token_order", "loss")
    changes = {name: getattr(variant, name) for name in names}
    given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    if not variant.sequences:
        given["sequences"] = False
    sequences = reading_settings(config.sequences)
    if variant.stride is not None:
        spatial = sequences.spatial.model_copy(update={"stride": variant.stride})
        sequences = sequences.model_copy(update={"spatial": spatial})
    model = METHODS[method].settings
    assert model is not None
    return PretrainRun(
        **{name: getattr(config.pretrain, name) for name in PretrainTraining.model_fields},
        method=method,
        settings=model.model_validate({**config.pretrain.methods[method], **given}),
        encoder=config.encoder,
        sequences=sequences,
        kinds=tuple(sorted({s.kind for s in sequences.sources} - {variant.without})),
        licences={s.dataset: config.data.dataset(s.dataset).licence for s in sequences.sources},
    )


@dataclass(frozen=True)
class ResultKey:
    """One run on a downstream task and its place in the tables."""

    id: str
    stage: Stage
    task: str
    method: str
    variant: str | None
    ratio: float
    seed: int


def add_finetune_runs(builder: Builder, config: Config) -> list[ResultKey]:
    """Fine-tuning of all methods, label ratios and ablation variants; returns the cells."""
    cells: list[ResultKey] = []
    seeds = config.finetune.seeds
    full = [(1.0, seed) for seed in seeds]
    ratios = [(r, seed) for r in config.label_ratio.ratios if r < 1.0 for seed in seeds]
    # Sorted: the order of keys in a file must not decide which runs share a job.
    for task in sorted(config.finetune.tasks):
        for method in rows_of(config, task):
            spec = FinetuneSpec(task, method.name, pretrained=_encoder_of(method))
            cells += add_cells(builder, config, "finetune", spec, full)
            if task in config.label_ratio.tasks and _has_ratios(config, method):
                cells += add_cells(builder, config, "label_ratio", spec, ratios)
    for task in config.ablation.tasks:
        for name in sorted(config.ablation.variants):
            encoder = f"ablation/pretrain/{name}"
            spec = FinetuneSpec(task, "ours", variant=name, pretrained=encoder)
            cells += add_cells(builder, config, "ablation", spec, full)
    return cells


def rows_of(config: Config, task: str) -> Iterator[Method]:
    """Methods that have a row for ``task``, in table order."""
    kind = config.finetune.tasks[task].type
    for method in study_methods(config).values():
        if kind in method.networks:
            yield method


def _encoder_of(method: Method) -> str | None:
    return f"pretrain/{method.name}" if method.is_pretrained else None


def _has_ratios(config: Config, method: Method) -> bool:
    chosen = config.label_ratio.methods
    return chosen is None or method.name in chosen


WeightsRecipe = Literal["pretrained", "scratch"]


@dataclass(frozen=True)
class FinetuneSpec:
    """Network that is fine-tuned on a task, and its recipe.

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
    recipe: WeightsRecipe | None = None
    trained: Literal["all", "decoder"] = "all"
    action: Literal["finetune", "probe"] = "finetune"


def add_cells(
    builder: Builder,
    config: Config,
    stage: Stage,
    spec: FinetuneSpec,
    pairs: list[tuple[float, int]],
) -> list[ResultKey]:
    """Add one run for each pair of label ratio and seed."""
    runs = [_task_run(config, spec, ratio, seed) for ratio, seed in pairs]
    if stage == "finetune":
        runs = [_keeping(config, run) for run in runs]
    return [add_cell(builder, config, stage, spec.variant, spec.action, run) for run in runs]


def _keeping(config: Config, run: EncoderRun) -> EncoderRun:
    """The run, with the facts of its model where ``finetune.keep_models`` asks for it."""
    finetune = config.finetune
    wanted = {"one_seed": (min(finetune.seeds),), "all": finetune.seeds, "none": ()}
    if run.seed not in wanted[finetune.keep_models]:
        return run
    task = finetune.tasks[run.task]
    row = config.data.dataset(task.dataset)
    inputs = tuple(name or "image" for name in row.channels)
    facts = ModelFacts(
        title=task.title,
        dataset=task.dataset,
        licence=row.licence,
        inputs=inputs,
        channels=tuple(inputs[n] for n in chosen_channels(row.channels, task.data.channels)),
        data=task.data,
    )
    return run.model_copy(update={"kept": facts})


def add_cell(
    builder: Builder, config: Config, stage: Stage, variant: str | None, action: str, run: TaskRun
) -> ResultKey:
    """Add one run on a downstream task.

    The runs of one row, over all tasks, share jobs of ``finetune.runs_per_job`` runs: starting a
    process takes as long as training a small run.
    """
    row = f"{run.method}_{variant}" if stage == "beyond" else variant or run.method
    # Probes and baselines take a second each: those of all rows share a job.
    shared = row if action == "finetune" else f"{action}s"
    # Stages that pre-train as well keep their two kinds of job apart by the first word.
    first = "" if stage in ("finetune", "label_ratio") else "finetune/"
    share = "" if run.ratio == 1.0 else f"r{100 * run.ratio:g}_".replace(".", "p")
    pretrained = run.pretrained if isinstance(run, EncoderRun) else None
    run_id = builder.add(
        stage,
        action,
        f"{first}{run.task}/{row}/{share}s{run.seed}",
        run,
        [f"preprocess/task/{run.task}", *([pretrained] if pretrained else [])],
        job=builder.shared_job(
            stage, f"{first}{shared}".replace("/", "."), config.finetune.runs_per_job
        ),
    )
    return ResultKey(run_id, stage, run.task, run.method, variant, run.ratio, run.seed)


def _task_run(config: Config, spec: FinetuneSpec, ratio: float, seed: int) -> EncoderRun:
    """The configuration of a fine-tuning or of a probe."""
    finetune, task = config.finetune, config.finetune.tasks[spec.task]
    common = {
        "task": spec.task,
        "recipe": task.recipe(),
        "method": spec.method,
        "seed": seed,
        "ratio": ratio,
        "threads": finetune.threads,
        "encoder": config.encoder,
        "pretrained": spec.pretrained,
        "channels": config.channels(spec.task),
    }
    if spec.action == "probe":
        return ProbeRun.model_validate(common)
    network = study_methods(config)[spec.method].networks[task.type]
    recipe: WeightsRecipe = spec.recipe or ("pretrained" if spec.pretrained else "scratch")
    own = {
        "network": network,
        "network_settings": task.network_settings(network),
        "trained": spec.trained,
        "optimiser": task.optimiser_of(network, recipe),
        "precision": task.precision or finetune.precision,
        "log_every": finetune.log_every,
        "checkpoint_every": finetune.checkpoint_every,
    }
    return FinetuneRun.model_validate({**common, **own})
