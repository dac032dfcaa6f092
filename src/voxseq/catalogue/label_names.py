"""The ``labels`` of a ``dataset.json``: what each value of a segmentation is called."""

from __future__ import annotations

from typing import Any

#: What labels that cannot be understood raise.
UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, OverflowError)
#: By which nnU-Net 2 calls voxels that count for nothing.
_IGNORE = "ignore"


def names_by_value(labels: Any) -> dict[int, str]:
    """Name of every value of a segmentation.

    A value of several regions is called after the smallest. Where smaller regions take a part of
    that one away, its name says so: of ``{"tumour": [1, 2], "core": 2}`` the value 1 is "tumour
    without core".

    Args:
        labels: value → name (Decathlon, nnU-Net 1), name → value or values (nnU-Net 2), or names.

    Raises:
        ValueError, TypeError, AttributeError, KeyError, OverflowError: they are none of these.
    """
    if isinstance(labels, list):
        return {value: str(name) for value, name in enumerate(labels)}
    named: list[tuple[str, list[int]]] = []
    for key, held in labels.items():
        if isinstance(held, str) and not held.strip().isdigit():
            named.append((held, [int(key)]))
        else:
            values = held if isinstance(held, list) else [held]
            named.append((str(key), [int(value) for value in values]))
    owner: dict[int, tuple[str, list[int]]] = {}
    for region in sorted(named, key=lambda item: len(item[1])):
        for value in region[1]:
            owner.setdefault(value, region)
    return {value: _without(*region, owner) for value, region in owner.items()}


def _without(name: str, values: list[int], owner: dict[int, tuple[str, list[int]]]) -> str:
    """The name of a region, and of the largest ones that take a part of it away."""
    parts = {owner[value][0]: set(owner[value][1]) for value in values}
    parts.pop(name, None)
    largest = [
        part for part, held in parts.items() if not any(held < other for other in parts.values())
    ]
    return f"{name} without {', '.join(largest)}" if largest else name


def ignored_among(names: dict[int, str]) -> int | None:
    """The value whose voxels count for nothing, by its name; None without one."""
    return next((v for v, name in names.items() if name.casefold() == _IGNORE), None)
