"""Subjects that the user's lists keep out of pre-training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pandas as pd

from voxseq.base.errors import ConfigError
from voxseq.base.lists import examples, find, spellings

_LOG = logging.getLogger("voxseq.sequences")
#: Columns of a store that name an image or where it was.
_PLACES = ("volume_id", "path", "group")


@dataclass
class Listed:
    """The subjects of all lists that are in their data sets.

    Attributes:
        people: data set and subject.
        record: number of names of each list, and how many of them were found.
    """

    people: set[tuple[str, str]] = field(default_factory=set)
    record: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        lists: Mapping[str, Sequence[str]],
        volumes: pd.DataFrame,
        files: Mapping[str, str],
    ) -> Listed:
        """Look for the names of each list among the subjects and files of its data set.

        Names that are not there are told, as pre-training would read what they stand for.

        Args:
            lists: data set → names.
            volumes: rows of the sources' stores.
            files: data set → file of its list, for messages.

        Raises:
            ConfigError: nobody of a list is in its data set, which is here.
        """
        listed = cls()
        for dataset, names in sorted(lists.items()):
            table = volumes[volumes["dataset"] == dataset]
            known = _known(table)
            found = {name: _subjects(name, known) for name in names}
            lost = [name for name in names if not found[name]]
            key = f"sequences.exclude.{dataset}"
            place = f"{key} ({files[dataset]})" if dataset in files else key
            subjects = sorted(set(table["subject"].astype(str)))
            if len(lost) == len(names) and subjects:
                raise ConfigError(
                    f"{place}: none of its {len(names)} names is in the data set: it names "
                    f"{examples(lost, subjects)}; subjects there are {examples(subjects)}",
                    "name subjects as index.parquet does, or leave the key out",
                )
            if lost:
                _LOG.warning(
                    "%s: %d of %d subjects are not in the data set, such as %s",
                    *(place, len(lost), len(names), examples(lost, subjects)),
                )
            listed.people |= {(dataset, subject) for held in found.values() for subject in held}
            listed.record[dataset] = {"subjects": len(names), "found": len(names) - len(lost)}
        return listed


def _subjects(name: str, known: Mapping[str, str]) -> set[str]:
    """Subjects that a line names: one, or where that is nobody, those of its words."""
    found = find(name, known)
    if found is not None:
        return {known[found]}
    words = name.split()
    return {known[s] for word in words for s in spellings(word) if s in known}


def _known(table: pd.DataFrame) -> dict[str, str]:
    """Subject by its name, and by all names that only its images bear."""
    bearers: dict[str, set[str]] = {}
    subjects = table["subject"].astype(str)
    for column in (c for c in _PLACES if c in table):
        for subject, place in zip(subjects, table[column].astype(str), strict=True):
            for name in _names(place):
                bearers.setdefault(name, set()).add(subject)
    unique = {name: next(iter(held)) for name, held in bearers.items() if len(held) == 1}
    return {**unique, **{subject: subject for subject in subjects}}


def _names(place: str) -> Iterator[str]:
    """Yield a path, and its last part as a list may write it."""
    if place:
        yield place
        yield from spellings(PurePosixPath(place).name)
