"""Subsets of the labelled cases (label-ratio study, Table 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from voxseq.base.random import numpy_generator


def subset(
    ids: Sequence[str], labels: Sequence[int] | None, ratio: float, seed: int
) -> tuple[str, ...]:
    """Choose a share of the cases: nested over ratios, and stratified where there are classes.

    One seeded ranking of all cases is made and its head taken, so that a smaller ratio is always
    contained in a larger one. The published code takes the first ⌊n·r⌋ items of its list, whatever
    their classes; that number is kept, the choice is by seed.

    Args:
        ids: distinct names of the training cases; their order does not matter.
        labels: class of each case, or ``None`` for cases without one.
        ratio: share to keep, in (0, 1].
        seed: of the ranking.

    Returns:
        max(⌊n·ratio⌋, number of classes or 1) names, in sorted order; every class is among them,
        and the number of its cases is within one of its share, or one.

    Raises:
        ValueError: no cases, repeated names, or a ratio outside (0, 1].
    """
    if not 0.0 < ratio <= 1.0:
        raise ValueError(f"ratio {ratio}: expected a number in (0, 1]")
    if not ids or len(set(ids)) < len(ids):
        raise ValueError("expected at least one case, and distinct names")
    classes = [0] * len(ids) if labels is None else list(labels)
    ranked = _ranking(dict(sorted(zip(ids, classes, strict=True))), seed)
    # The small number undoes rounding such as 100 * 0.29 = 28.999…
    count = max(int(len(ids) * ratio + 1e-9), len(set(classes)))
    return tuple(sorted(ranked[:count]))


def _ranking(class_of: dict[str, int], seed: int) -> list[str]:
    names = list(class_of)
    order = numpy_generator(seed, "subset").permutation(len(names))
    sizes = Counter(class_of.values())
    seen: Counter[int] = Counter()
    keys: list[tuple[float, int, str]] = []
    for position, index in enumerate(order):
        name = names[index]
        label = class_of[name]
        # The first case of every class leads; the others are spread evenly over the ranking.
        place = (seen[label] + 0.5) / sizes[label] if seen[label] else 0.0
        keys.append((place, position, name))
        seen[label] += 1
    return [name for _, _, name in sorted(keys)]
