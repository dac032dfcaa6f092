"""What the report says about images that pre-training was not shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxseq.report.pages import markup
from voxseq.report.results import read_record

SEQUENCES_RUN = "sequences/all"
RECORD = "exclusion.json"
HEADER = ("Source", "Images", "Excluded", "Reasons")


def exclusion_record(inputs: Mapping[str, Path]) -> dict[str, Any]:
    """The record that building the sequences left; empty for a study that pre-trains nothing."""
    return read_record(inputs, SEQUENCES_RUN, RECORD)


def exclusion_html(record: Mapping[str, Any]) -> str:
    """A sentence, and a table of the sources from which images were excluded."""
    if not record:
        return "<p>There is no record of a sequence index: this study pre-trains nothing.</p>"
    total = sum(record["volumes"].values())
    out = sum(sum(reasons.values()) for reasons in record["excluded"].values())
    lead = (
        f"<p>{out} of {total} images of the sources are excluded, because tasks hold out "
        f"{record['held_out']} images for validation and test.</p>"
    )
    table = markup.grid(HEADER, exclusion_rows(record)) if record["excluded"] else ""
    return "\n".join([lead, table, markup.notes(_notes(record))])


def exclusion_rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a source with exclusions: name, images, excluded ones, count of each reason."""
    return [
        (
            dataset,
            str(record["volumes"][dataset]),
            str(sum(reasons.values())),
            "; ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items())),
        )
        for dataset, reasons in sorted(record["excluded"].items())
    ]


def _notes(record: Mapping[str, Any]) -> list[str]:
    notes = [
        "Same picture: the images, averaged over 8 × 8 × 8 boxes, correlate by at least "
        f"{record['correlation']:g} and their sides differ by at most "
        f"{100 * record['side_tolerance']:g} %. excluded.csv of the sequence index names every "
        "image and the one it equals; docs/leakage.md says what this misses."
    ]
    return notes + [
        f"sequences.exclude lists {counts['subjects']} subjects of {dataset}; {counts['found']} of "
        "them are among its images."
        for dataset, counts in sorted(record["lists"].items())
    ]
