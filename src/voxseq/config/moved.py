"""Keys of earlier versions in whose place another key stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from voxseq.config.problems import Problem

#: Section → its key that is gone.
_GONE = {"finetune": "seeds", "pretrain": "seed"}


def of_moved(content: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys that are no longer there, with what to write instead."""
    for section, key in _GONE.items():
        below = content.get(section)
        if not isinstance(below, Mapping) or key not in below:
            continue
        old = below[key]
        # As many fine-tunings as an old list of seeds asked for.
        number = len(old) if isinstance(old, list | tuple) and old else 1
        yield Problem(
            f"{section}.{key}",
            "is gone: a seed is a whole chain, with phantoms, pre-trainings and fine-tunings of "
            f"its own; delete it, and state their number at the top of the file: seeds: {number}",
        )
