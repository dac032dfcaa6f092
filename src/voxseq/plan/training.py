"""Pre-training and fine-tuning runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from voxseq.config import Config
from voxseq.config.model import PretrainTraining
from voxseq.config.registry import METHODS, Method
from voxseq.config.runs import EncoderRun, FinetuneRun, PretrainRun, ProbeRun, TaskRun
from voxseq.config.studies import AblationVariant
from voxseq.plan.builder import Builder
from voxseq.plan.data import reading_settings
from voxseq.plan.model import Stage


def add_pretrain_runs(builder: Builder, config: Config) -> None:
    """Pre-training of every method and every ablation variant."""
    for method in in_table_order(config.pretrain.methods):
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


def in_table_order(names: Iterable[str]) -> list[str]:
    """Method names in the order of the paper's tables."""
    wanted = set(names)
    return [name for name in METHODS if name in wanted]


def _add_pretrain(builder: Builder, stage: Stage, key: str, run: PretrainRun) -> str:
    sources = {s.dataset for s in run.sequences.sources if s.kind in run.kinds}
    inputs = ["sequences/all", *(f"preprocess/source/{name}" for name in sources)]
    return builder.add(stage, "pretrain", key, run, inputs)


def _pretrain_run(config: Config, method: str, variant: AblationVariant) -> PretrainRun:
    changes = {"attention": variant.attention, "token_order": variant.token_order}
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
    for name in in_table_order([*config.finetune.scratch, *config.pretrain.methods]):
        if kind in METHODS[name].networks:
            yield METHODS[name]


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
    return [add_cell(builder, config, stage, spec.variant, spec.action, run) for run in runs]


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
    network = METHODS[spec.method].networks[task.type]
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
