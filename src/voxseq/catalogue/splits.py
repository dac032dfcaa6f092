"""Training, validation and test parts, by subject.

Every subject has a number drawn from the seed and its name alone, and subjects are taken in the
order of their numbers. Leaving a subject out therefore moves at most those at the borders.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping, Sequence

TRAIN, VAL, TEST = "train", "val", "test"


def ratio_split(
    subjects: Iterable[str],
    ratio: tuple[float, float, float],
    seed: int,
    joined: Sequence[Sequence[str]] = (),
) -> dict[str, str]:
    """Divide subjects into train, validation and test at random (paper, section 4: 7:1:2).

    The first two parts have round(ratio x n) subjects, the test part has the rest; from three
    subjects on no part is empty.

    Args:
        subjects: names.
        ratio: shares of the three parts.
        seed: of the draw.
        joined: groups of subjects that must stay together, because they hold the same image.

    Returns:
        The part of every subject, in the order of the names.
    """
    units = _units(set(subjects), joined)
    order = _order(units, seed)
    sizes = part_sizes(len(order), ratio)
    parts = [
        part for part, size in zip((TRAIN, VAL, TEST), sizes, strict=True) for _ in range(size)
    ]
    assigned = dict(zip(order, parts, strict=True))
    return {s: assigned[unit] for unit, members in units.items() for s in members}


def part_sizes(count: int, ratio: tuple[float, float, float]) -> tuple[int, int, int]:
    """Number of subjects in train, validation and test."""
    if count < 3:
        # One case is for training; of two, the second is for the test.
        return (min(count, 1), 0, max(count - 1, 0))
    train = min(max(_round(count * ratio[0]), 1), count - 2)
    val = min(max(_round(count * ratio[1]), 1), count - train - 1)
    return (train, val, count - train - val)


def hold_out(subjects: Iterable[str], fraction: float, seed: int) -> set[str]:
    """A validation part of a published training list: round(fraction x n) subjects, at least 1.

    The training list keeps at least one subject.
    """
    names = set(subjects)
    if len(names) < 2:
        return set()
    size = min(max(_round(len(names) * fraction), 1), len(names) - 1)
    return set(_order({name: [name] for name in names}, seed)[:size])


def joined_subjects(images: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Groups of subjects that share an image, from (subject, key of the image) pairs."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for subject, content in images:
        one, other = root(first.setdefault(content, subject)), root(subject)
        parent[max(one, other)] = min(one, other)
    groups: dict[str, list[str]] = {}
    for name in sorted(parent):
        groups.setdefault(root(name), []).append(name)
    return [members for members in groups.values() if len(members) > 1]


def crossing(images: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Training and validation images that occur in a later part too.

    Args:
        images: (volume id, split, key that the same image has in all parts).

    Returns:
        volume id → id of the same image in the validation or test part.
    """
    rank = {TRAIN: 0, VAL: 1, TEST: 2}
    rows = list(images)
    latest: dict[str, tuple[str, str]] = {}
    for name, split, content in sorted(rows, key=lambda row: -rank[row[1]]):
        latest.setdefault(content, (name, split))
    return {
        name: latest[content][0] for name, split, content in rows if split != latest[content][1]
    }


def words_of(text: str) -> list[int]:
    """Four 32-bit numbers made of a text, to seed a generator with."""
    return list(struct.unpack("<4I", hashlib.sha256(text.encode()).digest()[:16]))


def _units(subjects: set[str], joined: Sequence[Sequence[str]]) -> Mapping[str, list[str]]:
    """Subjects that stay together, by the first of them."""
    units: dict[str, list[str]] = {}
    placed: set[str] = set()
    for group in joined:
        members = sorted(set(group) & subjects)
        if members:
            units[members[0]] = members
            placed.update(members)
    units.update({name: [name] for name in subjects - placed})
    return dict(sorted(units.items()))


def _order(units: Mapping[str, Sequence[str]], seed: int) -> list[str]:
    import numpy as np  # late: the plan counts cases without it

    numbers = {
        name: float(np.random.default_rng([seed, *words_of(name)]).random()) for name in units
    }
    return sorted(units, key=lambda name: (numbers[name], name))


def _round(value: float) -> int:
    # Half goes up; a share such as 0.7 x 45 = 31.499999999999996 counts as a half.
    return math.floor(value + 0.5 + 1e-9)
