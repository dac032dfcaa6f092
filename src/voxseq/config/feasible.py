"""Whether phantoms give enough to train, select and score by: known before any is made.

Of real volumes only their folder knows; each stage says what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator

from voxseq.config.amounts import cases, sequence_counts
from voxseq.config.problems import Problem
from voxseq.config.root import Config

#: Cases of each split without which a score is not defined: Dice needs one, AUC both classes, R²
#: two numbers.
_LEAST_CASES = {"segmentation": 1, "classification": 2, "regression": 2}
#: Held-out sequences from which a spread can be computed.
_LEAST_VALIDATION = 2
_SPLITS = ("training", "validation", "test")


def of_phantoms(config: Config) -> Iterator[Problem]:
    """Phantoms that do not exist, or are too few."""
    lacking = list(_absent(config))
    yield from lacking
    if not lacking:
        yield from _cases(_on_phantoms(config))
        yield from _sequences(config)


def _absent(config: Config) -> Iterator[Problem]:
    named = {f"finetune.tasks.{n}.dataset": t.dataset for n, t in config.finetune.tasks.items()}
    for number, source in enumerate(config.sequences.sources):
        named[f"sequences.sources.{number}.dataset"] = source.dataset
    for key, dataset in named.items():
        if config.data.is_phantom(dataset) and not config.data.dataset(dataset).phantoms:
            yield Problem(key, f"{dataset} has no phantoms; set data.root, or take another one")


def _on_phantoms(config: Config) -> Config:
    """The study with those of its tasks that phantoms stand for."""
    tasks = {n: t for n, t in config.finetune.tasks.items() if config.data.is_phantom(t.dataset)}
    return config.model_copy(
        update={"finetune": config.finetune.model_copy(update={"tasks": tasks})}
    )


def _cases(config: Config) -> Iterator[Problem]:
    for name, task in config.finetune.tasks.items():
        if task.type == "regression":
            key = f"finetune.tasks.{name}.type"
            yield Problem(key, "no phantom has a number to predict; set data.root, or own data")
            continue
        key = f"data.phantoms.{task.type}_cases"
        least = _LEAST_CASES[task.type]
        for split, count in zip(_SPLITS, cases(task.dataset, config), strict=True):
            if count < least:
                yield Problem(
                    key,
                    f"{getattr(config.data.phantoms, f'{task.type}_cases')} give finetune.tasks."
                    f"{name} {count} {split} cases; expected {least} or more",
                )


def _sequences(config: Config) -> Iterator[Problem]:
    sources = config.sequences.sources
    kinds = sorted({source.kind for source in sources})
    # How many images a real source has is known when its files are looked at.
    is_counted = all(config.data.is_phantom(source.dataset) for source in sources)
    if not kinds or not is_counted or not config.pretrain.methods:
        return
    lesions, length = config.data.phantoms.lesions_per_category, config.sequences.length
    if "semantic" in kinds and lesions < length:
        yield Problem(
            "data.phantoms.lesions_per_category",
            f"{lesions}, but a semantic sequence has {length} distinct ones (sequences.length)",
        )
    every, counts = config.sequences.validation_every, sequence_counts(config)
    for kind in kinds:
        if counts[kind] < 2:
            yield Problem(
                f"sequences.{kind}",
                f"{counts[kind]} {kind} sequences of all phantoms; expected 2 or more, one for "
                "training and one for validation",
            )
    variants = config.ablation.variants.values() if config.ablation.tasks else ()
    for without in sorted({v.without for v in variants if v.without in kinds} | {None}, key=str):
        held = sum(-(-counts[kind] // every) for kind in kinds if kind != without)
        if held < _LEAST_VALIDATION:
            yield Problem(
                "sequences.validation_every",
                f"{every} leaves {held} of all sequences"
                f"{f' without {without} ones' if without else ''} for validation; expected "
                f"{_LEAST_VALIDATION} or more",
            )
