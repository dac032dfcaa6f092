"""Runs from the data sets to the sequence index."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from voxseq.base.errors import ConfigError
from voxseq.base.files import read_text
from voxseq.config import Config
from voxseq.config.data import SequencesConfig
from voxseq.config.finetune import Task
from voxseq.plan.builder import Builder, dump
from voxseq.plan.model import Settings

_SUBJECT = "subject"
#: Those of :mod:`voxseq.catalogue.splits`, all of which every task uses.
_SPLITS = ("train", "val", "test")


def add_data_runs(builder: Builder, config: Config) -> None:
    """Data sets, volume stores and the sequence index."""
    tasks = {t.dataset: t for t in config.finetune.tasks.values()}
    sources = {s.dataset for s in config.sequences.sources}
    for dataset in sorted({*tasks, *sources}):
        builder.add("download", "download", dataset, _download_settings(config, dataset, tasks))
    store = dump(config.store)
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
            "splits": list(_SPLITS),
            "data": dump(task.data),
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
            sequence_settings(config),
            [
                *(f"preprocess/source/{d}" for d in sources),
                *(f"download/{d}" for d in {*tasks, *sources}),
            ],
        )


def _download_settings(config: Config, dataset: str, tasks: Mapping[str, Task]) -> Settings:
    data = config.data
    task = tasks.get(dataset)
    uses = [s for s in config.sequences.sources if s.dataset == dataset]
    # A task cannot do without its data set. Where it is False the key changes no fingerprint.
    optional = task is None and data.root is not None and all(s.optional for s in uses)
    return {
        **({"optional": True} if optional else {}),
        "dataset": dataset,
        "release": data.release,
        "phantoms": None if data.root is not None else dump(data.phantoms),
        "min_valid_fraction": data.min_valid_fraction,
        "split": {
            "seed": data.split_seed,
            "ratio": list(data.split_ratio),
            "validation_fraction": data.validation_fraction,
        },
        "task": None if task is None else _checked_for(task),
    }


def _checked_for(task: Task) -> Settings:
    """What the images of a task's data set must be fit for."""
    return {"type": task.type, "labels": len(task.labels), "splits": list(_SPLITS)}


def sequence_settings(config: Config) -> Settings:
    """The part of the sequence configuration that decides which crops exist.

    Strides, mixing weights and percentiles act when a sequence is read, so they belong to
    pre-training.
    """
    s = config.sequences
    lists = {dataset: read_subjects(dataset, path) for dataset, path in s.exclude.items()}
    return {
        # Without lists the key is absent, so that it changes no fingerprint.
        **({"exclude": lists} if lists else {}),
        "sources": _sources(s),
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


def _sources(sequences: SequencesConfig) -> list[Settings]:
    """The sources as those see them who depend on their downloads, which know what is left out."""
    return [{"dataset": s.dataset, "kind": s.kind} for s in sequences.sources]


def reading_settings(config: Config) -> Settings:
    """The sequence configuration as those see it who read sequences: without the lists of subjects,
    which have acted when the index was built."""
    settings = dump(config.sequences)
    del settings["exclude"]
    settings["sources"] = _sources(config.sequences)
    return settings


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
