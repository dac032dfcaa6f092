"""Which images pre-training may not see, because a task is validated or tested on them.

An image of a source is excluded when, in this order,

1. its data set's own lists hold it out;
2. a task holds out its subject, by name, in the same data set;
3. its voxels are those of a held-out image of any task;
4. it shows the picture of one: another storage, spacing, window or a few voxels less;
5. ``sequences.exclude`` names its subject;
6. another image of its subject is excluded for 3 or 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from voxseq.base.errors import DataError
from voxseq.catalogue.splits import TEST, VAL
from voxseq.data.index import read_details, read_index, read_table
from voxseq.data.same_picture import (
    CANDIDATE,
    SAME_PICTURE,
    SIDE_TOLERANCE,
    Pictures,
    copies,
    pictures,
)
from voxseq.data.store import TABLE
from voxseq.sequences.listed import Listed

OWN_LISTS = "held out by the data set's own lists"
SUBJECT = "held-out subject of a task"
VOXELS = "same voxels as a held-out image of a task"
PICTURE = "same picture as a held-out image of a task"
LISTED = "named in sequences.exclude"
PERSON = "subject of an image that a task holds out"
REASONS = (OWN_LISTS, SUBJECT, VOXELS, PICTURE, LISTED, PERSON)
COLUMNS = ("dataset", "volume_id", "subject", "reason", "held_out", "correlation")

#: Data set and subject.
Person = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Selection:
    """What is used and what is not.

    Attributes:
        volumes: rows of the sources' stores that pre-training may see, with their data set, the
            number of the store and the row in it.
        excluded: the others, columns :data:`COLUMNS`: ``held_out`` is the volume id of the held-out
            image that stands behind the reason, "" for 1 and 5; ``correlation`` is that of the
            details for 4, NaN else.
        record: the numbers for ``exclusion.json``.
    """

    volumes: pd.DataFrame
    excluded: pd.DataFrame
    record: Mapping[str, Any]


def select(
    inputs: Mapping[str, Path],
    sources: Sequence[str],
    lists: Mapping[str, Sequence[str]],
    files: Mapping[str, str] | None = None,
) -> Selection:
    """Divide the images of the sources.

    Args:
        inputs: run id without its seed → folder: the sources' stores and the indexes of all data
            sets.
        sources: data sets.
        lists: data set → subjects that are left out by name.
        files: data set → file of its list, for messages.

    Raises:
        DataError: no source has an image.
        ConfigError: nobody of a list is in its data set.
    """
    held_out = held_out_images(inputs)
    volumes = _stored(inputs, sources)
    listed = Listed.of(lists, volumes, files or {})
    found = _reasons(volumes, held_out, listed.people, inputs)
    # Wide columns are of no use any more.
    volumes = volumes.drop(columns=["affine", "thumbnail"], errors="ignore")
    is_out = (found["reason"] != "").to_numpy(bool)
    excluded = pd.concat([volumes.loc[is_out, list(COLUMNS[:3])], found[is_out]], axis=1)
    record = _record(volumes, excluded, held_out, listed.record)
    return Selection(volumes[~is_out].reset_index(drop=True), excluded, record)


def held_out_images(inputs: Mapping[str, Path]) -> pd.DataFrame:
    """Rows of the validation and test images of every task, with the column ``dataset``."""
    indexes = {
        name.removeprefix("download/"): read_index(folder)
        for name, folder in sorted(inputs.items())
        if name.startswith("download/")
    }
    held = {name: index[index["split"].isin([VAL, TEST])] for name, index in indexes.items()}
    parts = [table.assign(dataset=name) for name, table in held.items() if len(table)]
    columns = ["dataset", "volume_id", "subject", "content_hash", "thumbnail"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _stored(inputs: Mapping[str, Path], sources: Sequence[str]) -> pd.DataFrame:
    parts = []
    for number, dataset in enumerate(sources):
        table = read_table(inputs[f"preprocess/source/{dataset}"] / TABLE)
        if table.empty:
            # An optional source that is not here; the numbers of the others stay.
            continue
        parts.append(table.assign(dataset=dataset, store=number, row=np.arange(len(table))))
    if not parts:
        raise DataError(
            f"none of the sources of pre-training is here: {', '.join(sources)}",
            "get one (`voxseq data show NAME`), then give data.release another value",
        )
    return pd.concat(parts, ignore_index=True)


def _pictures(table: pd.DataFrame, inputs: Mapping[str, Path]) -> Pictures:
    """Pictures of some images; their details are in the indexes of their data sets."""
    places = list(zip(table["dataset"], table["volume_id"], strict=True))

    def packed(numbers: Sequence[int]) -> list[str]:
        names: dict[str, list[str]] = {}
        for dataset, volume in (places[number] for number in numbers):
            names.setdefault(dataset, []).append(volume)
        found = {
            volume: text
            for dataset, volumes in names.items()
            for volume, text in zip(
                volumes, read_details(inputs[f"download/{dataset}"], volumes), strict=True
            )
        }
        return [found[places[number][1]] for number in numbers]

    return pictures(table, _people(table), packed)


def _reasons(
    volumes: pd.DataFrame,
    held_out: pd.DataFrame,
    listed: Collection[Person],
    inputs: Mapping[str, Path],
) -> pd.DataFrame:
    """Reason ("" for none), held-out image and correlation of every volume."""
    people = _people(volumes)
    ids = held_out["volume_id"].to_list()
    persons = _first(_people(held_out), ids)
    hashes = _first_by_channel(held_out["content_hash"], ids)
    same_voxels = [hashes.get(content, "") for content in volumes["content_hash"]]
    nearest, correlations = copies(_pictures(volumes, inputs), _pictures(held_out, inputs))
    same_picture = [ids[i] if i >= 0 else "" for i in nearest]
    behind = [one or other for one, other in zip(same_voxels, same_picture, strict=True)]
    copied = {person: name for person, name in zip(people, behind, strict=True) if name}
    rows: list[tuple[str, str, float]] = []
    for i, (person, split) in enumerate(zip(people, volumes["split"], strict=True)):
        if split in (VAL, TEST):
            rows.append((OWN_LISTS, "", np.nan))
        elif person in persons:
            rows.append((SUBJECT, persons[person], np.nan))
        elif same_voxels[i]:
            rows.append((VOXELS, same_voxels[i], np.nan))
        elif same_picture[i]:
            rows.append((PICTURE, same_picture[i], round(float(correlations[i]), 4)))
        elif person in listed:
            rows.append((LISTED, "", np.nan))
        else:
            rows.append((PERSON if person in copied else "", copied.get(person, ""), np.nan))
    return pd.DataFrame(rows, columns=list(COLUMNS[3:]), index=volumes.index)


def _first(keys: Iterable[Any], ids: Sequence[str]) -> dict[Any, str]:
    """Key → the first held-out image that has it."""
    return dict(zip(reversed([*keys]), reversed(ids), strict=True))


def _first_by_channel(joined: Iterable[str], ids: Sequence[str]) -> dict[str, str]:
    """Content hash of a channel → the first held-out image that has it."""
    pairs = [(one, name) for text, name in zip(joined, ids, strict=True) for one in text.split()]
    return dict(reversed(pairs))


def _people(table: pd.DataFrame) -> list[Person]:
    return list(zip(table["dataset"], table["subject"].astype(str), strict=True))


def _record(
    volumes: pd.DataFrame,
    excluded: pd.DataFrame,
    held_out: pd.DataFrame,
    listed: Mapping[str, Any],
) -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = {}
    reasons = Counter(zip(excluded["dataset"], excluded["reason"], strict=True))
    for (dataset, reason), count in reasons.items():
        counts.setdefault(dataset, {})[reason] = count
    return {
        "held_out": len(held_out),
        "volumes": {str(k): int(n) for k, n in volumes.groupby("dataset").size().items()},
        "excluded": counts,
        "lists": dict(listed),
        "candidate": CANDIDATE,
        "correlation": SAME_PICTURE,
        "side_tolerance": SIDE_TOLERANCE,
    }
