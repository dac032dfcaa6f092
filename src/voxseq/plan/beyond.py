"""Runs for questions beyond the paper: the rows of Table 5."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from voxseq.config import Config
from voxseq.config.registry import ENCODER_NETWORKS, Method
from voxseq.config.report_run import ControlRow, is_papers, title_of
from voxseq.config.runs import BaselineRun
from voxseq.config.studies import AblationVariant
from voxseq.config.study_rows import study_methods
from voxseq.config.task_types import PROBED, TaskType
from voxseq.plan.builder import Builder
from voxseq.plan.training import (
    FinetuneSpec,
    ResultKey,
    add_cell,
    add_cells,
    add_variant,
    rows_of,
)

#: Part of the table → the setting of our method that it changes, the name of the variant, and what
#: its title says.
VARIANTS: Mapping[str, tuple[Mapping[str, str], str, str]] = {
    "token_order": ({"token_order": "raster"}, "raster", "tokens in raster order"),
    "loss": ({"loss": "norm"}, "norm", "norm of the error, not squared"),
}
#: A probe of given weights and a baseline draw nothing: all seeds would agree.
NO_SEED = 0
#: Parts of the table, in order.
GROUPS = ("Token order", "Loss", "Recipe and weights", "Frozen encoder", "Trivial baselines")
#: Baselines without a network, by type of task: name and title.
BASELINES: Mapping[TaskType, Mapping[str, str]] = {
    "segmentation": {
        "mean_shape": "Mean shape of the training labels",
        "voxel_trees": "Boosted trees on each voxel's intensity, neighbours and place",
    },
    "classification": {
        "majority": "Majority class",
        "intensity_logistic": "Logistic regression on intensity and size",
        "histogram_logistic": "Logistic regression on the histogram",
        "voxel_logistic": "Logistic regression on voxels",
    },
    "regression": {
        "mean_value": "Mean of the training targets",
        "intensity_ridge": "Ridge regression on intensity and size",
        "histogram_ridge": "Ridge regression on the histogram",
        "voxel_ridge": "Ridge regression on voxels",
    },
}


def add_beyond_runs(builder: Builder, config: Config) -> tuple[list[ControlRow], list[ResultKey]]:
    """Add the runs of Table 5; returns its rows in order, and the cells."""
    found: dict[ControlRow, list[ResultKey]] = {}
    adders: dict[str, Callable[[Builder, Config, str], Added]] = {
        **{part: partial(_own_variant, part=part) for part in VARIANTS},
        "recipes": _recipes,
        "frozen": _frozen,
        "trivial": _trivial,
    }
    for part, (changes, name, _) in VARIANTS.items():
        if getattr(config.beyond, part) and _has_ours(config):
            variant = AblationVariant.model_validate({"title": name, **changes})
            add_variant(builder, config, "beyond", name, variant)
    for part, add in adders.items():
        for task in getattr(config.beyond, part):
            for row, cells in add(builder, config, task):
                found.setdefault(row, []).extend(cells)
    order = [*study_methods(config), *(name for names in BASELINES.values() for name in names)]
    rows = sorted(found, key=lambda row: (GROUPS.index(row.group), order.index(row.method)))
    return rows, [cell for cells in found.values() for cell in cells]


def _has_ours(config: Config) -> bool:
    return "ours" in config.pretrain.methods


def _title(config: Config, method: str) -> str:
    """Name of a method in the tables of this study."""
    if method in config.finetune.encoders:
        return config.finetune.encoders[method].title
    tasks = config.finetune.tasks.values()
    return title_of(method, is_papers=any(is_papers(t.type, t.dataset) for t in tasks))


Added = Iterator[tuple[ControlRow, list[ResultKey]]]


def _full(config: Config) -> list[tuple[float, int]]:
    return [(1.0, seed) for seed in config.finetune.seeds]


def _own_variant(builder: Builder, config: Config, task: str, part: str) -> Added:
    """Our method pre-trained with one setting changed."""
    _, name, words = VARIANTS[part]
    if _has_ours(config):
        title = f"{_title(config, 'ours')}, {words}"
        group = GROUPS[list(VARIANTS).index(part)]
        row = ControlRow(group, title, "ours", name, "ours", "")
        spec = FinetuneSpec(task, "ours", name, pretrained=f"beyond/pretrain/{name}")
        yield row, add_cells(builder, config, "beyond", spec, _full(config))


def _recipes(builder: Builder, config: Config, task: str) -> Added:
    group = "Recipe and weights"
    for method in _encoder_methods(config, task):
        if not method.is_pretrained:
            title = f"{method.title}, random weights, recipe for pre-trained ones"
            row = ControlRow(group, title, method.name, "pretrained_recipe", method.name, "")
            spec = FinetuneSpec(task, method.name, "pretrained_recipe", recipe="pretrained")
            yield row, add_cells(builder, config, "beyond", spec, _full(config))
    if _has_ours(config):
        title = f"{_title(config, 'ours')}, recipe for random weights"
        row = ControlRow(group, title, "ours", "scratch_recipe", "ours", "")
        spec = FinetuneSpec(
            task, "ours", "scratch_recipe", pretrained="pretrain/ours", recipe="scratch"
        )
        yield row, add_cells(builder, config, "beyond", spec, _full(config))


def _frozen(builder: Builder, config: Config, task: str) -> Added:
    is_probed = config.finetune.tasks[task].type in PROBED
    reference = ("ours", "frozen") if _has_ours(config) else ("", "")
    for method in _encoder_methods(config, task):
        encoder = f"pretrain/{method.name}" if method.is_pretrained else None
        # The floor: what a decoder or a linear model makes of features that nothing has trained.
        title = _title(config, method.name) + ("" if encoder else ", random encoder (the floor)")
        spec = FinetuneSpec(
            task,
            method.name,
            "frozen",
            pretrained=encoder,
            recipe="pretrained",
            trained="decoder",
            action="probe" if is_probed else "finetune",
        )
        pairs = _full(config)
        if encoder and is_probed:
            pairs = [(1.0, NO_SEED)]
        row = ControlRow("Frozen encoder", title, method.name, "frozen", *reference)
        yield row, add_cells(builder, config, "beyond", spec, pairs)


def _trivial(builder: Builder, config: Config, task: str) -> Added:
    found = config.finetune.tasks[task]
    reference = ("ours", "") if _has_ours(config) else ("", "")
    for name, title in BASELINES[found.type].items():
        run = BaselineRun(
            task=task,
            recipe=found.recipe(),
            method=name,
            seed=NO_SEED,
            ratio=1.0,
            threads=config.finetune.threads,
        )
        done = add_cell(builder, config, "beyond", "trivial", "baseline", run)
        yield ControlRow("Trivial baselines", title, name, "trivial", *reference), [done]


def _encoder_methods(config: Config, task: str) -> Iterator[Method]:
    """Methods of the study whose network has the shared encoder, in table order."""
    kind = config.finetune.tasks[task].type
    for method in rows_of(config, task):
        if method.networks[kind] == ENCODER_NETWORKS[kind]:
            yield method
