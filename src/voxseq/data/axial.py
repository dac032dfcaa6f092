"""The axial series among reformatted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxseq.base.files import write_csv
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.data.volume import REFORMATTED


def write_axial(out: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the axial series where others are among them; returns notes for the summary.

    Where the plane of a series tells its class (RICORD), scores on the axial ones say more.
    """
    axial = [row for row in rows if row["contrast"] != REFORMATTED]
    count = len(rows) - len(axial)
    if not count:
        return []
    columns = ("volume_id", "subject", "split", "label")
    write_csv(out / "axial.csv", columns, [[str(row[c]) for c in columns] for row in axial])
    notes = [f"{count} of {len(rows)} series are reformatted; axial.csv lists the others"]
    for split in (TRAIN, VAL, TEST):
        for label in sorted({row["label"] for row in rows if row["split"] == split}):
            of_class = [r["contrast"] for r in rows if (r["split"], r["label"]) == (split, label)]
            some = of_class.count(REFORMATTED)
            if some:
                notes.append(f"{split}, class {label}: {some} of {len(of_class)} are reformatted")
    return notes
