"""Batches that a test makes up, for what is tested of the way that rows take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from voxseq.training.rows import Arrays, Batch, Field, Rows


class MadeRows(Rows):
    """Rows by a function of their step and number.

    Args:
        make: step and row → values of the entries.
        layout: the entries of a row; int64 ``value`` by default.
        count: rows of a batch.
    """

    def __init__(
        self,
        make: Callable[[int, int], Mapping[str, Any]],
        layout: Mapping[str, Field] | None = None,
        count: int = 1,
    ) -> None:
        self.make, self.count = make, count
        self.layout = layout or {"value": Field((), "int64")}

    def fill(self, step: int, row: int, out: Arrays) -> None:
        for name, value in self.make(step, row).items():
            out[name][...] = value


def kept(batches: Iterable[Batch]) -> list[Batch]:
    """Copies of batches, whose memory the next ones reuse."""
    return [{name: value.clone() for name, value in batch.items()} for batch in batches]
