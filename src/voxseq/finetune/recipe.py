"""The cases of a run: its splits, and its share of the labelled ones (Table 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from voxseq.base.random import numpy_generator
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.data.scorable import require_scorable
from voxseq.data.targets import TARGETS
from voxseq.data.task_volumes import Volumes

if TYPE_CHECKING:
    from voxseq.config.runs import TaskRun


@dataclass(frozen=True)
class Splits:
    """Rows of the store by split; ``train`` is the share that the run may use."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def choose_splits(volumes: Volumes, config: TaskRun) -> Splits:
    """The cases of a run; of the training cases its share, see :func:`subset`.

    Raises:
        DataError: a split that is empty, cannot be scored or, of the share, cannot be learnt from.
    """
    recipe, target = config.recipe, TARGETS[config.recipe.type]
    train, val, test = (volumes.rows(split) for split in (TRAIN, VAL, TEST))
    row_of = {volumes.name(row): row for row in train}
    strata = target.strata([volumes.held(row, recipe.type) for row in train])
    chosen = subset(list(row_of), strata, config.ratio, config.seed)
    splits = Splits(tuple(row_of[name] for name in chosen), val, test)
    parts = {TRAIN: splits.train, VAL: val, TEST: test}
    share = f", a share of {config.ratio:g} of the training cases" if config.ratio < 1 else ""
    require_scorable(
        f"{volumes.folder}{share}",
        recipe.type,
        [split for split, rows in parts.items() for _ in rows],
        [volumes.held(row, recipe.type) for rows in parts.values() for row in rows],
        wanted=target.wanted(len(recipe.labels)),
    )
    return splits


def subset(
    ids: Sequence[str], labels: Sequence[int] | None, ratio: float, seed: int
) -> tuple[str, ...]:
    """Choose a share of the cases: nested over ratios, and stratified where there are strata.

    One seeded ranking of all cases is made and its head taken, so that a smaller ratio is always
    contained in a larger one. The published code takes the first ⌊n·r⌋ items of its list, whatever
    their classes; that number is kept, the choice is by seed.

    Args:
        ids: distinct names of the training cases; their order does not matter.
        labels: stratum of each case, such as its class; ``None``: no strata.
        ratio: share to keep, in (0, 1].
        seed: of the ranking.

    Returns:
        max(⌊n·ratio⌋, number of strata or 1) names, in sorted order; every stratum is among them,
        and the number of its cases is within one of its share, or one.

    Raises:
        ValueError: no cases, repeated names, or a ratio outside (0, 1].
    """
    if not 0.0 < ratio <= 1.0:
        raise ValueError(f"ratio {ratio}: expected a number in (0, 1]")
    if not ids or len(set(ids)) < len(ids):
        raise ValueError("expected at least one case, and distinct names")
    cases = sorted(zip(ids, labels or [0] * len(ids), strict=True))
    sizes = Counter(label for _, label in cases)
    seen: Counter[int] = Counter()
    ranked: list[tuple[float, int, str]] = []
    for position, index in enumerate(numpy_generator(seed, "subset").permutation(len(cases))):
        name, label = cases[index]
        # The first case of every class leads; the others are spread evenly over the ranking.
        place = (seen[label] + 0.5) / sizes[label] if seen[label] else 0.0
        ranked.append((place, position, name))
        seen[label] += 1
    # The small number undoes rounding such as 100 * 0.29 = 28.999…
    count = max(int(len(ids) * ratio + 1e-9), len(sizes))
    return tuple(sorted(name for _, _, name in sorted(ranked)[:count]))


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Use ``count`` threads for arithmetic: their number can change the last bits of a sum."""
    torch.set_num_threads(count)
    with threadpool_limits(limits=count):
        yield
