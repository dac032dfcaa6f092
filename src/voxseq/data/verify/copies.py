"""Images that occur more than once, within a data set and between data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from voxseq.catalogue.splits import TEST, VAL
from voxseq.data.thumbnail import pictures, repeated

_EXCLUDED = (
    "nothing to repair: building the sequences leaves it out (snakemake --cores all sequences, "
    "then see excluded.csv)"
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
        is_task: whether a task is trained and tested on its data set.
    """

    dataset: str
    row: Mapping[str, Any]
    is_source: bool
    is_task: bool

    @property
    def is_held_out(self) -> bool:
        """Whether a task is validated or tested on it."""
        return self.is_task and self.row["split"] in (VAL, TEST)

    @property
    def person(self) -> tuple[str, str]:
        """Data set and subject."""
        return (self.dataset, str(self.row["subject"]))

    @property
    def place(self) -> tuple[str, str]:
        """Data set and file, or folder of a series; files of many images are told apart."""
        row = self.row
        return (self.dataset, row["path"] if row["centre_x"] >= 0 else row["volume_id"])


@dataclass(frozen=True)
class Copy:
    """An image that is there twice; ``path`` is relative to the data set's folder."""

    dataset: str
    path: str
    reason: str
    next: str


def copies_found(images: Sequence[Seen]) -> Iterator[Copy]:
    """Say which images are the same, by their voxels or by their picture.

    Images of one subject of a data set are compared by their voxels only: the contrasts of a head
    look alike. What two data sets share besides held-out images is counted, not listed.
    """
    shared: dict[tuple[str, str], list[tuple[Seen, Seen]]] = {}
    for one, other, text in (*_by_voxels(images), *_by_picture(images)):
        inside = _leak(one, other)
        if inside is not None:
            yield _copy(*inside, f"{text}, which a task holds out", _EXCLUDED)
        elif one.dataset == other.dataset:
            yield _copy(other, one, text, _JOINED)
        else:
            shared.setdefault((other.dataset, one.dataset), []).append((other, one))
    for (dataset, second), pairs in sorted(shared.items()):
        example, its_copy = pairs[0]
        reason = f"{len(pairs)} images are also in {second}, such as {_name(its_copy)}"
        yield Copy(dataset, str(example.row["path"]), reason, _TWICE)


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
    for i, j, correlation in repeated(pictures(table)):
        one, other = images[i], images[j]
        is_known = one.row["content_hash"] == other.row["content_hash"]
        if not is_known and one.person != other.person:
            yield one, other, f"the same picture as {{}} (correlation {correlation:.4f})"


def _leak(one: Seen, other: Seen) -> tuple[Seen, Seen] | None:
    """The image that pre-training may read, and the held-out one; None where it is no leak."""
    for source, held_out in ((one, other), (other, one)):
        if source.is_source and not source.is_held_out and held_out.is_held_out:
            return source, held_out
    return None


def _copy(image: Seen, other: Seen, text: str, remedy: str) -> Copy:
    return Copy(image.dataset, str(image.row["path"]), text.format(_name(other)), remedy)


def _name(image: Seen) -> str:
    return str(image.row["volume_id"])
