"""The names of classes in a ``dataset.json`` against those of the catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from voxseq.catalogue.label_names import UNREADABLE, names_by_value
from voxseq.data.readers.dataset_json import NAME
from voxseq.data.volume import Remark

_WORD = re.compile(r"[^\W_]+")
#: Words that data sets use for the same.
_SAME = {"tumour": "tumor", "cancer": "tumor", "lesion": "tumor", "carcinoma": "tumor"}
_BACKGROUND = {"", "background", "bg"}


def label_remarks(labels: Any, classes: Sequence[str], title: str) -> list[Remark]:
    """A remark where ``labels`` of a dataset.json are not the classes of the catalogue, in order.

    Names are compared without case, spaces and underscores; a longer name may hold the other's
    words, such as "colon cancer primaries" those of "cancer".

    Args:
        labels: value → name (Decathlon, nnU-Net 1), name → value or values (nnU-Net 2), or names.
        classes: foreground classes in the order of their values.
        title: of the data set.
    """
    if labels is None or not classes:
        return []
    look = (
        "open a segmentation over its image in ITK-SNAP or 3D Slicer to see which number is "
        f"which; correct labels of {NAME}, or renumber the segmentations"
    )
    try:
        found = names_by_value(labels)
    except UNREADABLE:
        reason = f"its labels cannot be understood: {str(labels)[:80]}"
        return [Remark(NAME, reason, look)]
    wanted = dict(enumerate(classes, start=1))
    held = {value: name for value, name in found.items() if not _is_background(value, name)}
    if held.keys() == wanted.keys() and all(_fits(held[value], value, wanted) for value in wanted):
        return []
    stated = ", ".join(f"{value} {name}" for value, name in sorted(held.items())[:20]) or "none"
    expected = ", ".join(f"{value} {name}" for value, name in wanted.items())
    is_turned = sorted(map(_words, held.values())) == sorted(map(_words, wanted.values()))
    kind = "in another order" if is_turned else "other classes"
    reason = f"its labels are {kind}: {stated}; those of {title} are {expected}"
    return [Remark(NAME, reason, look)]


def _is_background(value: int, name: str) -> bool:
    """Whether a value stands for no class; nnU-Net 2 leaves voxels called "ignore" out."""
    word = " ".join(_words(name))
    return word == "ignore" or (value == 0 and word in _BACKGROUND)


def _words(name: str) -> tuple[str, ...]:
    words = (word.casefold().removesuffix("s") for word in _WORD.findall(name))
    return tuple(sorted(_SAME.get(word, word) for word in words))


def _fits(name: str, value: int, wanted: Mapping[int, str]) -> bool:
    """Whether a name is that of ``value``, and not rather that of another one."""
    own, expected = set(_words(name)), set(_words(wanted[value]))
    if own == expected or _joined(name) == _joined(wanted[value]):
        return True
    others = [set(_words(other)) for key, other in wanted.items() if key != value]
    return own not in others and (expected <= own or own <= expected) and bool(own)


def _joined(name: str) -> str:
    return "".join(_WORD.findall(name)).casefold()
