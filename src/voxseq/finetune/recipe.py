"""What a run is about: the task's recipe, and the cases it may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from voxseq.base.errors import ConfigError
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.config.finetune import ClassificationRecipe, SegmentationRecipe
from voxseq.data.scorable import require_scorable
from voxseq.data.task_volumes import Volumes
from voxseq.finetune.subsets import subset

if TYPE_CHECKING:
    from voxseq.config.runs import Recipe, TaskRun

SomeRecipe = TypeVar("SomeRecipe", SegmentationRecipe, ClassificationRecipe)


def recipe_of_type(config: TaskRun, wanted: type[SomeRecipe], what: str) -> SomeRecipe:
    """The task's recipe where only one type of task makes sense.

    Args:
        config: of the run.
        wanted: model of that type's recipe.
        what: is asked for, for the message.

    Raises:
        ConfigError: the task is of the other type.
    """
    recipe = config.recipe
    if not isinstance(recipe, wanted):
        needed = wanted.model_fields["type"].default
        raise ConfigError(
            f"{config.task} is a {recipe.type}, {what} needs a {needed}",
            "choose another task",
        )
    return recipe


@dataclass(frozen=True)
class Splits:
    """Rows of the store by split; ``train`` is the share that the run may use."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def choose_splits(volumes: Volumes, config: TaskRun) -> Splits:
    """The cases of a run; of the training cases its share, see :func:`.subsets.subset`.

    Raises:
        DataError: a split that is empty, cannot be scored or, of the share, cannot be learnt from.
    """
    train, val, test = (volumes.rows(split) for split in ("train", "val", "test"))
    row_of = {volumes.name(row): row for row in train}
    targets = None
    if isinstance(config.recipe, ClassificationRecipe):
        targets = [volumes.target(row) for row in train]
    chosen = subset(list(row_of), targets, config.ratio, config.seed)
    splits = Splits(tuple(row_of[name] for name in chosen), val, test)
    _require_scorable(volumes, config.recipe, config.ratio, splits)
    return splits


def _require_scorable(volumes: Volumes, recipe: Recipe, ratio: float, splits: Splits) -> None:
    parts = {TRAIN: splits.train, VAL: splits.val, TEST: splits.test}
    share = f", a share of {ratio:g} of the training cases" if ratio < 1 else ""
    require_scorable(
        f"{volumes.folder}{share}",
        recipe.type,
        [split for split, rows in parts.items() for _ in rows],
        [volumes.classes(row) for rows in parts.values() for row in rows],
        wanted=range(1, len(recipe.labels) + 1) if recipe.type == "segmentation" else (),
    )


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Use ``count`` threads for arithmetic: their number can change the last bits of a sum."""
    torch.set_num_threads(count)
    with threadpool_limits(limits=count):
        yield
