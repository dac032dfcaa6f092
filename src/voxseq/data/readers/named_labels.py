"""The labels that a user's ``dataset.json`` names, against the classes of the study's task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voxseq.base.errors import DataError
from voxseq.catalogue import DataSet
from voxseq.catalogue.label_names import UNREADABLE, ignored_among, names_by_value
from voxseq.data.readers.class_names import label_remarks
from voxseq.data.readers.dataset_json import NAME
from voxseq.data.volume import Remark


@dataclass(frozen=True)
class NamedLabels:
    """Values of a segmentation as a list of the data set names them.

    Attributes:
        values: value → name of each class, without background and ignored voxels; None where
            nothing is named.
        ignore: value of voxels that count for nothing; None without one.
        remarks: on names that are not those of the study.
    """

    values: Mapping[int, str] | None = None
    ignore: int | None = None
    remarks: tuple[Remark, ...] = ()


def named_labels(labels: Any, dataset: DataSet) -> NamedLabels:
    """Understand ``labels`` of a ``dataset.json``.

    Args:
        labels: value → name (version 1), or name → value or values (version 2); None without any.
        dataset: one that a user declares; its classes are those of the study's task, if any.

    Raises:
        DataError: they cannot be understood, or have other values than the task has classes.
    """
    if labels is None:
        return NamedLabels(ignore=dataset.options.get("ignore"))
    try:
        found = names_by_value(labels)
    except UNREADABLE:
        raise DataError(
            f"{NAME}: its labels cannot be understood: {str(labels)[:80]}",
            'write names and values, such as {"background": 0, "kidney": 1}',
        ) from None
    ignore = dataset.options.get("ignore", ignored_among(found))
    values = {v: n for v, n in sorted(found.items()) if v not in (0, ignore)}
    is_wanted = dataset.task in ("", "segmentation")
    wanted = dict(enumerate(dataset.classes, start=1)) if is_wanted else {}
    remarks = label_remarks(labels, list(wanted.values()), "the study")
    regions = _overlapping(labels, values)
    if regions:
        reason = (
            f"regions that overlap are not scored as such ({', '.join(regions)}); the classes are "
            f"their parts: {_shown(values)}"
        )
        remarks.append(Remark(NAME, reason, "data.merge_labels of the task joins parts"))
    if wanted and set(wanted) != set(values):
        raise DataError(
            f"{NAME}: its labels are {_shown(values)}, but the study has {_shown(wanted)}",
            "name all of them in labels of the task, in the order of their values, or join some by "
            "its data.merge_labels",
        )
    return NamedLabels(values, ignore, tuple(remarks))


def _overlapping(labels: Any, values: Mapping[int, str]) -> list[str]:
    """Names of regions of several values that are no class as a whole."""
    held = labels.items() if isinstance(labels, Mapping) else ()
    regions = [str(name) for name, part in held if isinstance(part, list) and len(part) > 1]
    return [name for name in regions if name not in values.values()]


def _shown(values: Mapping[int, str]) -> str:
    return ", ".join(f"{value} {name}" for value, name in values.items()) or "none"
