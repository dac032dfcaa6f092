"""Parts of the split: copies of a picture stay together, later parts keep their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from voxseq.catalogue import DataSet
from voxseq.catalogue.splits import (
    TRAIN,
    VAL,
    crossing,
    hold_out,
    joined_subjects,
    ratio_split,
)
from voxseq.data.same_picture import same_pictures

if TYPE_CHECKING:
    from voxseq.config.runs import SplitSettings


def divide(
    rows: Sequence[dict[str, Any]], dataset: DataSet, split: SplitSettings
) -> tuple[list[list[str]], dict[str, str]]:
    """Fill the column split of every row.

    Args:
        rows: of the usable images in the index.
        dataset: row of the catalogue.
        split: how subjects are divided where no lists are published.

    Returns:
        Groups of subjects that show the same picture; and by volume id the reason why an image is
        to be set aside: published lists have it, or its copy, in a later part too.
    """
    pictures = _pictures(rows, dataset, split.pictures)
    joined = joined_subjects((row["subject"], p) for row, p in zip(rows, pictures, strict=True))
    _assign_splits(rows, dataset, split, joined)
    reasons: dict[str, str] = {}
    for keys, reason in (
        ([row["subject"] for row in rows], "its subject is also in a later split: {}"),
        (pictures, "same picture as {} in a later split"),
        ([row["content_hash"] for row in rows], "same voxels as {} in a later split"),
    ):
        images = [(row["volume_id"], row["split"], k) for row, k in zip(rows, keys, strict=True)]
        reasons |= {name: reason.format(other) for name, other in crossing(images).items()}
    return joined, reasons


def _pictures(rows: Sequence[Mapping[str, Any]], dataset: DataSet, are_compared: bool) -> list[str]:
    """A word for each row that those have in common which show the same picture.

    Without a comparison, as for a source that is not divided, these are the same voxels.
    """
    keys = [(row["volume_id"], row["content_hash"]) for row in rows]
    if are_compared and (dataset.role != "source" or any(row["split"] for row in rows)):
        for number, (one, other, _) in enumerate(same_pictures(rows)):
            keys += [(rows[i]["volume_id"], f"pair {number}") for i in (one, other)]
    groups = joined_subjects(keys)
    first = {name: members[0] for members in groups for name in members}
    return [first.get(row["volume_id"], row["volume_id"]) for row in rows]


def _assign_splits(
    rows: Sequence[dict[str, Any]],
    dataset: DataSet,
    split: SplitSettings,
    joined: Sequence[Sequence[str]],
) -> None:
    """Fill the column split of every row, by the published lists where there are any."""
    if any(row["split"] for row in rows):
        if not any(row["split"] == VAL for row in rows):
            training = {row["subject"] for row in rows if row["split"] == TRAIN}
            chosen = hold_out(training, split.validation_fraction, split.seed)
            for row in rows:
                if row["split"] == TRAIN and row["subject"] in chosen:
                    row["split"] = VAL
        return
    subjects = {row["subject"] for row in rows}
    if dataset.role == "source":
        parts = dict.fromkeys(subjects, TRAIN)
    else:
        parts = ratio_split(subjects, split.ratio, split.seed, joined)
    for row in rows:
        row["split"] = parts[row["subject"]]
