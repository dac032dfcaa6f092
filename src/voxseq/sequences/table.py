"""One kind's table of the sequence index, read as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxseq.data.index import numbers, read_arrow
from voxseq.sequences.boxes import AXES
from voxseq.sequences.raw import Box
from voxseq.transforms.spatial import Triple

#: File beside the tables: optional sources that are not here, and kinds of sequence of which no
#: source is.
LEFT_OUT = "left_out.json"


@dataclass(frozen=True)
class IndexTable:
    """One kind's index as plain arrays; columns as in :mod:`voxseq.sequences.build`."""

    columns: Mapping[str, NDArray[np.generic]]
    training: NDArray[np.int64]
    validation: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path) -> IndexTable:
        """Read a table of the index.

        Raises:
            IntegrityError: it is missing or damaged.
        """
        table = read_arrow(path)
        columns = {name: numbers(table[name]) for name in table.column_names}
        held = columns["validation"]
        return cls(columns, np.flatnonzero(~held), np.flatnonzero(held))

    def box(self, row: int) -> tuple[Triple, Triple]:
        """Start and extent of a row's box."""
        start = tuple(int(self.columns[f"start_{a}"][row]) for a in AXES)
        extent = tuple(int(self.columns[f"extent_{a}"][row]) for a in AXES)
        return start, extent  # type: ignore[return-value]

    def number(self, name: str, row: int) -> int:
        """One integer of a row."""
        return int(self.columns[name][row])

    def extents(self) -> NDArray[np.int64]:
        """Voxels of every row's box: (rows, 3)."""
        return np.stack([self.columns[f"extent_{a}"] for a in AXES], axis=1).astype(np.int64)

    def stored(self, row: int, volume: str, low: str, high: str) -> Box:
        """A row's box of one of its volumes.

        Args:
            row: of this table.
            volume: column with the volume's row in its store.
            low, high: columns with its intensity range.
        """
        start, extent = self.box(row)
        values = (float(self.columns[name][row]) for name in (low, high))
        return Box(self.number("store", row), self.number(volume, row), start, extent, *values)
