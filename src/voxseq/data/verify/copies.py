"""Images that occur more than once, within a data set and between data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from voxseq.catalogue import DataSet
from voxseq.data.same_picture import pictures, repeated
from voxseq.data.verify.report import Report

_EXCLUDED = (
    "nothing to repair: building the sequences leaves it out, and excluded.csv beside them names it"
)
_JOINED = (
    "nothing to repair when both are one person: they share a part of the split; else remove one"
)
_TWICE = "nothing to repair: such images count twice; sequences.exclude leaves subjects out"


@dataclass(frozen=True, eq=False)
class Seen:
    """One usable image.

    Attributes:
        row: its row of the index, with its part of the split.
        is_source: whether pre-training may read it.
        is_held_out: whether a task is validated or tested on it.
    """

    dataset: DataSet
    row: Mapping[str, Any]
    is_source: bool
    is_held_out: bool

    @property
    def person(self) -> tuple[str, str]:
        """Data set and subject."""
        return (self.dataset.name, str(self.row["subject"]))

    @property
    def place(self) -> tuple[str, str]:
        """Data set and file, or folder of a series; files of many images are told apart."""
        row = self.row
        return (self.dataset.name, row["path"] if row["centre_x"] >= 0 else row["volume_id"])


def check_copies(report: Report, images: Sequence[Seen]) -> None:
    """Say which images are the same, by their voxels or by their picture.

    Images of one subject of a data set are compared by their voxels only: the contrasts of a head
    look alike. What two data sets share besides held-out images is counted, not listed.
    """
    shared: dict[tuple[str, str], list[tuple[Seen, Seen]]] = {}
    for one, other, text in (*_by_voxels(images), *_by_picture(images)):
        pairs = ((one, other), (other, one))
        leaks = [(a, b) for a, b in pairs if a.is_source and not a.is_held_out and b.is_held_out]
        if leaks:
            source, held_out = leaks[0]
            reason = f"{text.format(held_out.row['volume_id'])}, which a task holds out"
            report.add("warning", source.dataset, source.row["path"], reason, _EXCLUDED)
        elif one.dataset == other.dataset:
            reason = text.format(one.row["volume_id"])
            report.add("warning", other.dataset, other.row["path"], reason, _JOINED)
        else:
            key = (other.dataset.name, one.dataset.name)
            shared.setdefault(key, []).append((other, one))
    for (_, second), pairs_of_two in sorted(shared.items()):
        example, its_copy = pairs_of_two[0]
        reason = (
            f"{len(pairs_of_two)} images are also in {second}, such as {its_copy.row['volume_id']}"
        )
        report.add("warning", example.dataset, example.row["path"], reason, _TWICE)


def _by_voxels(images: Sequence[Seen]) -> Iterator[tuple[Seen, Seen, str]]:
    groups: dict[str, list[Seen]] = {}
    for image in images:
        groups.setdefault(image.row["content_hash"], []).append(image)
    for members in groups.values():
        # All are compared with a held-out one, where there is one: that is what matters most.
        first = next((image for image in members if image.is_held_out), members[0])
        # Lesions that lie on the same slices share them by design.
        yield from (
            (first, other, "the same voxels as {}")
            for other in members
            if other.place != first.place
        )


def _by_picture(images: Sequence[Seen]) -> Iterator[tuple[Seen, Seen, str]]:
    table = pd.DataFrame([image.row for image in images])
    persons = [image.person for image in images]
    for i, j, correlation in repeated(pictures(table, persons)):
        one, other = images[i], images[j]
        if one.row["content_hash"] != other.row["content_hash"]:
            yield one, other, f"the same picture as {{}} (correlation {correlation:.4f})"
