"""Runs from the data sets to the sequence index."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from voxseq.base.errors import ConfigError
from voxseq.base.files import read_text
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.config import Config
from voxseq.config.data import SequencesConfig
from voxseq.config.finetune import Task
from voxseq.config.runs import (
    ExamineRun,
    PrepareRun,
    SequencesRun,
    SplitSettings,
    TaskNeeds,
    TaskPreparation,
)
from voxseq.plan.builder import Builder

_SUBJECT = "subject"
#: Every task uses all parts.
_SPLITS = (TRAIN, VAL, TEST)


def add_data_runs(builder: Builder, config: Config) -> None:
    """Data sets, volume stores and the sequence index."""
    tasks = {t.dataset: t for t in config.finetune.tasks.values()}
    sources = {s.dataset for s in config.sequences.sources}
    for dataset in sorted({*tasks, *sources}):
        builder.add("download", "download", dataset, _examine_run(config, dataset, tasks))
    for dataset in sorted(sources):
        run = PrepareRun(dataset=dataset, store=config.store)
        key = f"source/{dataset}"
        builder.add("preprocess", "preprocess", key, run, [f"download/{dataset}"])
    for name, task in config.finetune.tasks.items():
        preparation = TaskPreparation(
            type=task.type,
            labels=len(task.labels),
            splits=_SPLITS,
            data=task.data,
            native_labels=task.type == "segmentation" and task.score_grid == "native",
        )
        run = PrepareRun(dataset=task.dataset, store=config.store, task=preparation)
        builder.add("preprocess", "preprocess", f"task/{name}", run, [f"download/{task.dataset}"])
    if sources:
        inputs = [f"preprocess/source/{dataset}" for dataset in sources]
        inputs += [f"download/{dataset}" for dataset in {*tasks, *sources}]
        builder.add("sequences", "sequences", "all", sequences_run(config.sequences), inputs)


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
        split=SplitSettings.of(data),
        task=task and TaskNeeds(type=task.type, labels=len(task.labels), splits=_SPLITS),
    )


def sequences_run(sequences: SequencesConfig) -> SequencesRun:
    """The part of the sequence configuration that building the index reads."""
    lists = {dataset: read_subjects(dataset, path) for dataset, path in sequences.exclude.items()}
    own = reading_settings(sequences).model_copy(update={"exclude": lists})
    return SequencesRun.model_validate(own, from_attributes=True)


def reading_settings(sequences: SequencesConfig) -> SequencesConfig:
    """The sequence configuration of a run that reads sequences.

    The lists of subjects have acted when the index was built, and the downloads know which
    optional sources are left out.
    """
    sources = tuple(s.model_copy(update={"optional": False}) for s in sequences.sources)
    return sequences.model_copy(update={"exclude": {}, "sources": sources})


def read_subjects(dataset: str, path: str) -> list[str]:
    """Subjects that a file of ``sequences.exclude`` names, sorted, each once.

    The file has one subject a line, or is a CSV file: then the column ``subject`` counts, or the
    first one where no column has that name. Empty lines and lines that begin with # are skipped.

    Raises:
        ConfigError: the file is missing, is no text, or names nobody.
    """
    key = f"sequences.exclude.{dataset}"
    try:
        text = read_text(Path(path).expanduser())
        rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    except (OSError, ValueError, RuntimeError, csv.Error) as error:
        raise ConfigError(
            f"{key}: the file {path} cannot be read: {error}",
            "correct the path, which starts from the folder of the study, or leave the key out",
        ) from None
    rows = [row for row in rows if not row[0].lstrip().startswith("#")]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = header.index(_SUBJECT) if _SUBJECT in header else 0
    body = rows[1:] if _SUBJECT in header else rows
    names = {row[column].strip() for row in body if len(row) > column} - {""}
    if not names:
        raise ConfigError(f"{key}: the file {path} names no subject", "one subject a line")
    return sorted(names)
