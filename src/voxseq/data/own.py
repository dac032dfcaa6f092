"""Checks of a user's own data sets, before and after their files are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxseq.base.errors import DataError
from voxseq.catalogue import DataSet
from voxseq.data.checks import check_image
from voxseq.data.headers import GRID_TOLERANCE, corner_distance, product
from voxseq.data.volume import Entry, Scan, Volume

if TYPE_CHECKING:
    from voxseq.config.runs import TaskNeeds

_RESAMPLE = "resample the channels of an image to one grid"


def require_own(dataset: DataSet, folder: Path) -> None:
    """Refuse a folder that does not exist.

    Raises:
        DataError: with the key that names it.
    """
    if folder.is_dir():
        return
    kind = "is a file, not a folder" if folder.exists() else "does not exist"
    raise DataError(
        f"data.sets.{dataset.name}.folder: {folder} {kind}",
        "correct it; a relative path begins at the folder where voxseq runs",
    )


def own_needs(found: Scan, dataset: DataSet, task: TaskNeeds | None) -> TaskNeeds | None:
    """Needs of a task on an own data set: its files may hold all values that the layout names."""
    if task is None or task.type != "segmentation" or dataset.classes or not found.labels:
        return task
    return task.model_copy(update={"labels": max([task.labels, *found.labels])})


def named_facts(found: Scan) -> dict[str, Any]:
    """What a layout says of classes and label values, for the summary."""
    facts: dict[str, Any] = {}
    if found.labels is not None:
        facts["labels"] = {str(value): name for value, name in found.labels.items()}
    if found.ignore is not None:
        facts["ignore"] = found.ignore
    return facts


def check_channels(
    read: Callable[[Path, Entry], Volume], folder: Path, entry: Entry, first: Volume
) -> None:
    """Check the further channels of an image, which must lie on the grid of the first one.

    Raises:
        DataError: one cannot be used.
    """
    for channel in channel_entries(entry)[1:]:
        volume = read(folder, channel)
        check_image(volume, channel.path)
        require_same_grid(first, volume, entry.path, channel.path)


def channel_entries(entry: Entry) -> list[Entry]:
    """An entry for every file of an image of several channels; itself where it has one file."""
    if not entry.channels:
        return [entry]
    return [replace(entry, path=path, channels=()) for path in entry.channels]


def require_same_grid(first: Volume, other: Volume, path: str, other_path: str) -> None:
    """Refuse channels of different grids.

    Raises:
        DataError: another shape, or corners further apart than half a voxel.
    """
    shapes = first.array.shape, other.array.shape
    if shapes[0] != shapes[1]:
        raise DataError(
            f"{other_path}: its shape {product(shapes[1])} is not that of the channel {path}, "
            f"{product(shapes[0])}",
            _RESAMPLE,
        )
    if not (first.oriented and other.oriented):
        return
    distance = corner_distance(first.affine, other.affine, shapes[0])
    if not distance <= GRID_TOLERANCE * min(first.spacing):
        raise DataError(
            f"{other_path}: its grid is not that of the channel {path}, their corners are up to "
            f"{distance:.3g} mm apart",
            _RESAMPLE,
        )
