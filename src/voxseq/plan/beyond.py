"""Runs for questions beyond the paper: the rows of Table 5."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from voxseq.config import Config
from voxseq.config.registry import ENCODER_NETWORKS, Method
from voxseq.config.report_run import ControlRow, title_of
from voxseq.config.runs import BaselineRun
from voxseq.config.studies import AblationVariant
from voxseq.config.study_rows import study_methods
from voxseq.config.task_types import PROBED, TaskType
from voxseq.plan.builder import Builder
from voxseq.plan.chain import Chain
from voxseq.plan.training import (
    FinetuneSpec,
    ResultKey,
    add_cell,
    add_task_run,
    add_variant,
    rows_of,
)

#: Part of the table → the setting of our method that it changes, the name of the variant, and what
#: its title says.
VARIANTS: Mapping[str, tuple[Mapping[str, str], str, str]] = {
    "token_order": ({"token_order": "raster"}, "raster", "tokens in raster order"),
    "loss": ({"loss": "norm"}, "norm", "norm of the error, not squared"),
}
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


def add_beyond_runs(builder: Builder, chain: Chain) -> tuple[list[ControlRow], list[ResultKey]]:
    """Add the runs of Table 5; returns its rows in order, and the cells."""
    config = chain.config
    found: dict[ControlRow, list[ResultKey]] = {}
    adders: dict[str, Callable[[Builder, Chain, str], Added]] = {
        **{part: partial(_own_variant, part=part) for part in VARIANTS},
        "recipes": _recipes,
        "frozen": _frozen,
        "trivial": _trivial,
    }
    for part, (changes, name, _) in VARIANTS.items():
        if getattr(config.beyond, part) and _has_ours(config):
            variant = AblationVariant.model_validate({"title": name, **changes})
            add_variant(builder, chain, "beyond", name, variant)
    for part, add in adders.items():
        for task in getattr(config.beyond, part):
            for row, cell in add(builder, chain, task):
                found.setdefault(row, []).append(cell)
    order = [*study_methods(config), *(name for names in BASELINES.values() for name in names)]
    rows = sorted(found, key=lambda row: (GROUPS.index(row.group), order.index(row.method)))
    return rows, [cell for cells in found.values() for cell in cells]


def _has_ours(config: Config) -> bool:
    return "ours" in config.pretrain.methods


def _title(config: Config, method: str) -> str:
    """Name of a method in the tables of this study."""
    if method in config.finetune.encoders:
        return config.finetune.encoders[method].title
    return title_of(method)


Added = Iterator[tuple[ControlRow, ResultKey]]


def _own_variant(builder: Builder, chain: Chain, task: str, part: str) -> Added:
    """Our method pre-trained with one setting changed."""
    _, name, words = VARIANTS[part]
    config = chain.config
    if _has_ours(config):
        title = f"{_title(config, 'ours')}, {words}"
        group = GROUPS[list(VARIANTS).index(part)]
        row = ControlRow(group, title, "ours", name, "ours", "")
        encoder = chain.own(f"beyond/pretrain/{name}")
        spec = FinetuneSpec(task, "ours", name, pretrained=encoder)
        yield row, add_cell(builder, chain, "beyond", spec)


def _recipes(builder: Builder, chain: Chain, task: str) -> Added:
    config = chain.config
    group = "Recipe and weights"
    for method in _encoder_methods(config, task):
        if not method.is_pretrained:
            title = f"{method.title}, random weights, recipe for pre-trained ones"
            row = ControlRow(group, title, method.name, "pretrained_recipe", method.name, "")
            spec = FinetuneSpec(task, method.name, "pretrained_recipe", recipe="pretrained")
            yield row, add_cell(builder, chain, "beyond", spec)
    if _has_ours(config):
        title = f"{_title(config, 'ours')}, recipe for random weights"
        row = ControlRow(group, title, "ours", "scratch_recipe", "ours", "")
        encoder = chain.own("pretrain/ours")
        spec = FinetuneSpec(task, "ours", "scratch_recipe", pretrained=encoder, recipe="scratch")
        yield row, add_cell(builder, chain, "beyond", spec)


def _frozen(builder: Builder, chain: Chain, task: str) -> Added:
    config = chain.config
    is_probed = config.finetune.tasks[task].type in PROBED
    reference = ("ours", "frozen") if _has_ours(config) else ("", "")
    for method in _encoder_methods(config, task):
        encoder = chain.encoder_of(method)
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
        row = ControlRow("Frozen encoder", title, method.name, "frozen", *reference)
        yield row, add_cell(builder, chain, "beyond", spec)


def _trivial(builder: Builder, chain: Chain, task: str) -> Added:
    config = chain.config
    found = config.finetune.tasks[task]
    reference = ("ours", "") if _has_ours(config) else ("", "")
    for name, title in BASELINES[found.type].items():
        run = BaselineRun(
            task=task,
            recipe=found.recipe(),
            method=name,
            seed=chain.seed,
            ratio=1.0,
            threads=config.finetune.threads,
        )
        done = add_task_run(builder, chain, "beyond", "trivial", "baseline", run)
        yield ControlRow("Trivial baselines", title, name, "trivial", *reference), done


def _encoder_methods(config: Config, task: str) -> Iterator[Method]:
    """Methods of the study whose network has the shared encoder, in table order."""
    kind = config.finetune.tasks[task].type
    for method in rows_of(config, task):
        if method.networks[kind] == ENCODER_NETWORKS[kind]:
            yield method
