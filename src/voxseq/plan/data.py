"""Runs from the data sets to the sequence index."""

from __future__ import annotations

from collections.abc import Mapping

from voxseq.config import Config
from voxseq.config.finetune import Task
from voxseq.plan.builder import Builder, dump
from voxseq.plan.model import Settings


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
    return {
        "dataset": dataset,
        "release": data.release,
        "phantoms": None if data.root is not None else dump(data.phantoms),
        "min_valid_fraction": data.min_valid_fraction,
        "split": {
            "seed": data.split_seed,
            "ratio": list(data.split_ratio),
            "validation_fraction": data.validation_fraction,
        },
        "task": None if task is None else {"type": task.type, "labels": len(task.labels)},
    }


def sequence_settings(config: Config) -> Settings:
    """The part of the sequence configuration that decides which crops exist.

    Strides, mixing weights and percentiles act when a sequence is read, so they belong to
    pre-training.
    """
    s = config.sequences
    return {
        "sources": [dump(source) for source in s.sources],
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
