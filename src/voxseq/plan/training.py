"""Pre-training and fine-tuning runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from voxseq.base.checksums import Memory
from voxseq.base.digest import digest
from voxseq.base.errors import ConfigError
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
from voxseq.plan.chain import Chain
from voxseq.plan.data import reading_settings
from voxseq.plan.model import Stage

#: Where checksums of encoders from elsewhere are remembered.
_REMEMBERED = Path(".voxseq/encoders")
#: Their disks may have other clocks: nanoseconds by which a file must be older than now.
_YOUNG = 600_000_000_000


def add_pretrain_runs(builder: Builder, chain: Chain) -> None:
    """Pre-training of every method and every ablation variant; encoders from elsewhere."""
    config = chain.config
    for name, encoder in sorted(config.finetune.encoders.items()):
        builder.add("pretrain", "adopt", name, _adopt_run(config, name, encoder))
    for method in (name for name in METHODS if name in config.pretrain.methods):
        run = _pretrain_run(chain, method, AblationVariant(title="full method"))
        _add_pretrain(builder, chain, "pretrain", method, run)
    if config.ablation.tasks:
        for name, variant in config.ablation.variants.items():
            add_variant(builder, chain, "ablation", name, variant)


def add_variant(
    builder: Builder, chain: Chain, stage: Stage, name: str, variant: AblationVariant
) -> str:
    """Pre-training of our method with one thing changed; returns the run's id."""
    run = _pretrain_run(chain, "ours", variant)
    return _add_pretrain(builder, chain, stage, f"pretrain/{name}", run)


def _adopt_run(config: Config, name: str, encoder: OutsideEncoder) -> AdoptRun:
    path = file_of(encoder.path)
    try:
        checksum = _checksum(path.resolve())
    except OSError as error:
        raise ConfigError(
            f"finetune.encoders.{name}.path: {path} cannot be read: {error}",
            "correct the path, which starts from the folder where voxseq runs",
        ) from None
    return AdoptRun(
        method=name,
        file=encoder.path,
        sha256=checksum,
        facts=encoder.facts(),
        encoder=config.encoder,
    )


def _checksum(path: Path) -> str:
    """SHA-256 of an encoder's file, which each job needs; a file that did not change is not read.

    Raises:
        ResourceError: the machine failed.
        OSError: there is no such file.
    """
    memory = Memory(_REMEMBERED / f"{digest(str(path))}.json", _REMEMBERED, _YOUNG)
    (found,) = memory.checksums(path.parent, [path.name])
    return found


def _add_pretrain(builder: Builder, chain: Chain, stage: Stage, key: str, run: PretrainRun) -> str:
    sources = {s.dataset for s in run.sequences.sources if s.kind in run.kinds}
    stores = (chain.of_dataset(f"preprocess/source/{name}", name) for name in sources)
    return builder.add(stage, "pretrain", chain.own(key), run, [chain.sequences, *stores])


def _pretrain_run(chain: Chain, method: str, variant: AblationVariant) -> PretrainRun:
    config = chain.config
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
        seed=chain.seed,
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


def add_finetune_runs(builder: Builder, chain: Chain) -> list[ResultKey]:
    """Fine-tuning of all methods, label ratios and ablation variants; returns the cells."""
    config = chain.config
    cells: list[ResultKey] = []
    ratios = [ratio for ratio in config.label_ratio.ratios if ratio < 1.0]
    # Sorted: the order of keys in a file must not decide which runs share a job.
    for task in sorted(config.finetune.tasks):
        for method in rows_of(config, task):
            spec = FinetuneSpec(task, method.name, pretrained=chain.encoder_of(method))
            cells.append(add_cell(builder, chain, "finetune", spec))
            if task in config.label_ratio.tasks and _has_ratios(config, method):
                cells += [add_cell(builder, chain, "label_ratio", spec, r) for r in ratios]
    for task in config.ablation.tasks:
        for name in sorted(config.ablation.variants):
            encoder = chain.own(f"ablation/pretrain/{name}")
            spec = FinetuneSpec(task, "ours", variant=name, pretrained=encoder)
            cells.append(add_cell(builder, chain, "ablation", spec))
    return cells


def rows_of(config: Config, task: str) -> Iterator[Method]:
    """Methods that have a row for ``task``, in table order."""
    kind = config.finetune.tasks[task].type
    for method in study_methods(config).values():
        if kind in method.networks:
            yield method


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


def add_cell(
    builder: Builder, chain: Chain, stage: Stage, spec: FinetuneSpec, ratio: float = 1.0
) -> ResultKey:
    """Add the run of one network on a share of the labels."""
    run = _task_run(chain, spec, ratio)
    if stage == "finetune":
        run = _keeping(chain.config, run)
    return add_task_run(builder, chain, stage, spec.variant, spec.action, run)


def _keeping(config: Config, run: EncoderRun) -> EncoderRun:
    """The run, with the facts of its model where ``finetune.keep_models`` asks for it."""
    finetune = config.finetune
    is_wanted = {"one_seed": run.seed == 0, "all": True, "none": False}
    if not is_wanted[finetune.keep_models]:
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


def add_task_run(
    builder: Builder, chain: Chain, stage: Stage, variant: str | None, action: str, run: TaskRun
) -> ResultKey:
    """Add one run on a downstream task.

    The runs of one row and seed, over all tasks, share jobs of ``finetune.runs_per_job`` runs:
    starting a process takes as long as training a small run.
    """
    config = chain.config
    row = f"{run.method}_{variant}" if stage == "beyond" else variant or run.method
    # Probes and baselines take a second each: those of all rows share a job.
    shared = row if action == "finetune" else f"{action}s"
    # Stages that pre-train as well keep their two kinds of job apart by the first word.
    first = "" if stage in ("finetune", "label_ratio") else "finetune/"
    share = "" if run.ratio == 1.0 else f"r{100 * run.ratio:g}_".replace(".", "p")
    pretrained = run.pretrained if isinstance(run, EncoderRun) else None
    store = chain.of_dataset(f"preprocess/task/{run.task}", config.finetune.tasks[run.task].dataset)
    run_id = builder.add(
        stage,
        action,
        f"{first}{run.task}/{row}/{share}s{run.seed}",
        run,
        [store, *([pretrained] if pretrained else [])],
        job=builder.shared_job(
            stage,
            chain.own(f"{first}{shared}").replace("/", "."),
            config.finetune.runs_per_job,
        ),
    )
    return ResultKey(run_id, stage, run.task, run.method, variant, run.ratio, run.seed)


def _task_run(chain: Chain, spec: FinetuneSpec, ratio: float) -> EncoderRun:
    """The configuration of a fine-tuning or of a probe."""
    config = chain.config
    finetune, task = config.finetune, config.finetune.tasks[spec.task]
    common = {
        "task": spec.task,
        "recipe": task.recipe(),
        "method": spec.method,
        "seed": chain.seed,
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
