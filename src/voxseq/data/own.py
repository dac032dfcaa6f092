"""Checks of a user's own data sets, before and after their files are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxseq.base.errors import DataError
from voxseq.catalogue import DataSet
from voxseq.data.volume import Scan

if TYPE_CHECKING:
    from voxseq.config.runs import TaskNeeds


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
