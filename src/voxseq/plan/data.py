"""Runs from the data sets to the sequence index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from voxseq.base.errors import ConfigError
from voxseq.base.files import read_text
from voxseq.base.lists import names
from voxseq.catalogue import DataSet
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.config import Config
from voxseq.config.data import SequencesConfig
from voxseq.config.finetune import SegmentationTask, Task
from voxseq.config.runs import (
    ExamineRun,
    OwnFacts,
    PrepareRun,
    SequencesRun,
    SplitSettings,
    TaskNeeds,
    TaskPreparation,
)
from voxseq.config.sets import digest_of, lists_of, own_facts, own_for
from voxseq.plan.builder import Builder
from voxseq.plan.chain import Chain
from voxseq.plan.model import Stage

#: Every task uses all parts.
_SPLITS = (TRAIN, VAL, TEST)


def add_data_runs(builder: Builder, chain: Chain) -> None:
    """Data sets, volume stores and the sequence index."""
    config = chain.config
    tasks = {t.dataset: t for t in config.finetune.tasks.values()}
    sources = {s.dataset for s in config.sequences.sources}
    for dataset in sorted({*tasks, *sources}):
        examine_run = _of_the_user(_examine_run(config, dataset, tasks), config, tasks)
        job = _shared_job(builder, chain, "download", dataset)
        key = chain.of_dataset(dataset, dataset)
        builder.add("download", "download", key, examine_run, job=job)
    for dataset in sorted(sources):
        channels = next(s.channels for s in config.sequences.sources if s.dataset == dataset)
        run = PrepareRun(
            dataset=dataset,
            own=_own(config, dataset, tasks),
            store=config.store,
            channels=channels,
        )
        key = chain.of_dataset(f"source/{dataset}", dataset)
        inputs = [chain.of_dataset(f"download/{dataset}", dataset)]
        job = _shared_job(builder, chain, "preprocess", dataset)
        builder.add("preprocess", "preprocess", key, run, inputs, job)
    # Which phantoms share a job must not depend on the order of keys in a file.
    for name, task in sorted(config.finetune.tasks.items()):
        preparation = TaskPreparation(
            **needs_of(task).model_dump(),
            data=task.data,
            native_labels=isinstance(task, SegmentationTask) and task.needs_native_labels,
        )
        run = PrepareRun(dataset=task.dataset, store=config.store, task=preparation)
        run = run.model_copy(update={"own": _own(config, task.dataset, tasks)})
        key = chain.of_dataset(f"task/{name}", task.dataset)
        inputs = [chain.of_dataset(f"download/{task.dataset}", task.dataset)]
        job = _shared_job(builder, chain, "preprocess", task.dataset)
        builder.add("preprocess", "preprocess", key, run, inputs, job)
    if sources:
        inputs = [chain.of_dataset(f"preprocess/source/{name}", name) for name in sources]
        inputs += [chain.of_dataset(f"download/{name}", name) for name in {*tasks, *sources}]
        key = chain.sequences.removeprefix("sequences/")
        builder.add("sequences", "sequences", key, sequences_run(config.sequences), inputs)


def _shared_job(builder: Builder, chain: Chain, stage: Stage, dataset: str) -> str | None:
    """The job in which phantoms are made or prepared with others; None: a job of one's own."""
    data = chain.config.data
    if data.phantoms_per_job == 1 or not data.is_phantom(dataset):
        return None
    return builder.shared_job(stage, f"phantoms.s{chain.seed}", data.phantoms_per_job)


def _examine_run(config: Config, dataset: str, tasks: Mapping[str, Task]) -> ExamineRun:
    data, task = config.data, tasks.get(dataset)
    uses = [s for s in config.sequences.sources if s.dataset == dataset]
    return ExamineRun(
        dataset=dataset,
        release=data.release,
        # A task cannot do without its data set.
        optional=task is None and data.root is not None and all(s.optional for s in uses),
        phantoms=None if data.root is not None else data.phantoms,
        min_valid_fraction=data.min_valid_fraction,
        # Phantoms are drawn one by one: none is a copy of another.
        split=SplitSettings.of(data).model_copy(update={"pictures": data.root is not None}),
        task=task and needs_of(task),
    )


def needs_of(task: Task) -> TaskNeeds:
    """Requirements of a task on the images of its data set."""
    ignored = task.ignore_label if isinstance(task, SegmentationTask) else None
    return TaskNeeds(type=task.type, labels=len(task.labels), splits=_SPLITS, ignore_label=ignored)


def sequences_run(sequences: SequencesConfig) -> SequencesRun:
    """The part of the sequence configuration that building the index reads."""
    lists = {dataset: read_subjects(dataset, path) for dataset, path in sequences.exclude.items()}
    own = reading_settings(sequences).model_copy(update={"exclude": lists})
    run = SequencesRun.model_validate(own, from_attributes=True)
    return run.model_copy(update={"exclude_files": dict(sequences.exclude)})


def reading_settings(sequences: SequencesConfig) -> SequencesConfig:
    """The sequence configuration of a run that reads sequences.

    The lists of subjects have acted when the index was built, the stores hold the chosen channels,
    and the downloads know which optional sources are left out.
    """
    acted = {"optional": False, "channels": None}
    sources = tuple(s.model_copy(update=acted) for s in sequences.sources)
    return sequences.model_copy(update={"exclude": {}, "sources": sources})


def read_subjects(dataset: str, path: str) -> list[str]:
    """Subjects that a file of ``sequences.exclude`` names, sorted, each once.

    See :func:`voxseq.base.lists.names` for the forms that it may have.

    Raises:
        ConfigError: the file is missing, is no text, or names nobody.
    """
    key = f"sequences.exclude.{dataset}"
    try:
        found = set(names(read_text(Path(path).expanduser())))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{key}: the file {path} cannot be read: {error}",
            "correct the path, which starts from the folder of the study, or leave the key out",
        ) from None
    if not found:
        raise ConfigError(f"{key}: the file {path} names no subject", "one subject a line")
    return sorted(found)


def _of_the_user(run: ExamineRun, config: Config, tasks: Mapping[str, Task]) -> ExamineRun:
    """The run with what a user's own data set has in place of the catalogue's facts."""
    row = config.data.sets.get(run.dataset)
    if row is None:
        return run
    needs = run.task and unmerged(run.task, row, tasks[run.dataset])
    return run.model_copy(
        update={
            "own": _own(config, run.dataset, tasks),
            "lists": digest_of(lists_of(row)),
            "optional": False,
            "phantoms": None,
            "task": needs,
            "split": SplitSettings.of(config.data),
        }
    )


def _own(config: Config, dataset: str, tasks: Mapping[str, Task]) -> OwnFacts | None:
    """Facts of a data set of the user; None for one of the catalogue."""
    row = config.data.sets.get(dataset)
    return None if row is None else own_facts(own_set(row, tasks.get(dataset)))


def own_set(row: DataSet, task: Task | None) -> DataSet:
    """One of ``data.sets`` as the study takes it, with the classes of the task that uses it."""
    # Merged labels name other values than the files have.
    labels = task.labels if task and not task.data.merge_labels else ()
    return own_for(row, task.type if task else None, labels)


def unmerged(needs: TaskNeeds, row: DataSet, task: Task) -> TaskNeeds:
    """Needs of a task on one of ``data.sets``, whose files hold the values that it merges."""
    if row.classes:
        return needs
    return needs.model_copy(update={"labels": max([needs.labels, *task.data.merge_labels])})
