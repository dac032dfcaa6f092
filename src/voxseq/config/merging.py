"""Laying one configuration tree over another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``overlay`` over ``base``: mappings are merged key by key, all else is replaced.

    A key that ends in ``!`` replaces the mapping below it instead of merging into it.
    """
    merged = dict(base)
    for key, value in overlay.items():
        if isinstance(key, str) and key.endswith("!"):
            merged[key[:-1]] = merge({}, value) if isinstance(value, Mapping) else value
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged
