"""What the cases of each type of task hold, and what a split of them needs: one row per type."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxseq.catalogue.splits import TRAIN
from voxseq.config.data import IGNORED
from voxseq.config.task_types import TaskType

#: Column of an examined image: the classes that its segmentation holds.
CLASSES = "classes"
#: Groups of neighbouring numbers from which a share of the training cases of a regression comes.
_STRATA = 4
#: Something that a case holds: a class, or a number.
Held = Collection[float]


@dataclass(frozen=True)
class Target:
    """The target of a type of task.

    Attributes:
        held: a row of an index or a store → its class, all classes of its segmentation, or its
            number.
        wanted: number of labels → the classes that the training cases must show.
        lacks: (split, all that its cases hold, wanted) → why it cannot be learnt from or scored.
        strata: targets of the training cases → the group of each, of which every share of the
            cases has some; ``None``: no groups.
    """

    held: Callable[[Mapping[str, Any]], Held]
    wanted: Callable[[int], Collection[int]]
    lacks: Callable[[str, list[float], Collection[int]], list[str]]
    strata: Callable[[Sequence[Held]], list[int] | None]


def _segmented(row: Mapping[str, Any]) -> Held:
    """Classes of a segmentation, background included: as examined, or as prepared."""
    if CLASSES in row:
        return [int(number) for number in row[CLASSES]]
    return [number for number in map(int, json.loads(row["voxels"])) if number != IGNORED]


def _lacks_foreground(split: str, found: list[float], wanted: Collection[int]) -> list[str]:
    if not any(found):
        reason = "there is nothing to learn" if split == TRAIN else "its Dice is undefined"
        return [f"no case of the {split} split has a foreground voxel: {reason}"]
    lacking = sorted({*wanted} - {*found}) if split == TRAIN else []
    return [f"no case of the train split has class {number}" for number in lacking]


def _lacks_classes(split: str, found: list[float], wanted: Collection[int]) -> list[str]:
    """Training needs all classes, AUC two of them; a class that a split lacks has none."""
    needs_all = split == TRAIN or len(wanted) == 2
    if {*found} == {*wanted} or (not needs_all and len(found) > 1):
        return []
    held = f"the cases of the {split} split have the classes {found}, expected {sorted(wanted)}"
    if len(found) > 1:
        return [held]
    reason = "there is nothing to learn" if split == TRAIN else "AUC is undefined"
    return [f"{held}: {reason} with one class"]


def _lacks_spread(split: str, found: list[float], wanted: Collection[int]) -> list[str]:
    if len(found) > 1:
        return []
    reason = "there is nothing to learn" if split == TRAIN else "R² is undefined"
    return [f"all cases of the {split} split have the number {found[0]:g}: {reason}"]


def _by_rank(held: Sequence[Held]) -> list[int]:
    """Quarters of the cases by their number."""
    order = np.argsort([next(iter(one)) for one in held], kind="stable")
    strata = np.empty(len(order), int)
    strata[order] = np.arange(len(order)) * _STRATA // len(order)
    return [int(number) for number in strata]


TARGETS: Mapping[TaskType, Target] = {
    "segmentation": Target(
        held=_segmented,
        wanted=lambda labels: range(1, labels + 1),
        lacks=_lacks_foreground,
        strata=lambda held: None,
    ),
    "classification": Target(
        held=lambda row: [int(row["label"])],
        wanted=range,
        lacks=_lacks_classes,
        strata=lambda held: [int(next(iter(one))) for one in held],
    ),
    "regression": Target(
        held=lambda row: [float(row["value"])],
        wanted=lambda labels: (),
        lacks=_lacks_spread,
        strata=_by_rank,
    ),
}
