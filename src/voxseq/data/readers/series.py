"""From a tree of DICOM files to its series, and to the stacks of slices in each.

The headers of a tree are read once. Slices belong together by SeriesInstanceUID, wherever they lie
below the folder, and are then told apart by orientation and by what tells passes through one place
apart. What is no slice of an image is left out by name and costs nothing else.
"""

from __future__ import annotations

import filecmp
import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from voxseq.base.errors import DataError
from voxseq.base.failures import read_named
from voxseq.base.paths import plain, walk
from voxseq.data.readers.dicom import SliceHeader, dicom_names, left_out, read_headers
from voxseq.data.readers.stack import interleaved, steps_fault
from voxseq.data.volume import Array, Entry, Remark

#: Most slices of another orientation or size that are left out as views beside a larger stack.
_VIEWS = 3
#: Words of descriptions of localizers, and most slices that such a series has.
_LOCALIZER = re.compile(r"\b(scout|topogram|surview|scanogram|locali[sz]er)s?\b", re.IGNORECASE)
_LOCALIZERS = 15
#: Directions of slices that differ by more are of several orientations.
_APART = 0.05
#: What tells passes apart in any image, and what does where the series is no stack without it.
_ALWAYS, _ELSE = ("echo", "time", "b", "acquisition", "kernel", "stack"), ("type", "folder")
_NO_LOSS = "nothing to do, unless it is an image that you need"
Slices = list[SliceHeader]


@dataclass
class Tree:
    """The slices below a folder.

    Attributes:
        series: slices of each series, in the order of the first files.
        broken: folder → paths and reasons of its files that cannot be read.
        sound: folders that hold slices.
        aside: series UID and remark of what is left out.
    """

    series: list[Slices] = field(default_factory=list)
    broken: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    sound: set[str] = field(default_factory=set)
    aside: list[tuple[str, Remark]] = field(default_factory=list)

    def damaged(self) -> tuple[list[Remark], list[tuple[Entry, str]]]:
        """Remarks on broken files beside slices, and folders of which nothing else is there."""
        remarks, lost = [], []
        for place, files in self.broken.items():
            path, reason = files[0]
            more = f" (and {len(files) - 1} more files there)" if len(files) > 1 else ""
            if place in self.sound:
                reason = f"{reason.removeprefix(f'{path}: ')}, left out{more}"
                next_step = "the slices beside it are read without it; restore it if it is one"
                remarks.append(Remark(path, reason, next_step))
            else:
                name = plain(PurePosixPath(path).name)
                lost.append((Entry(plain(place or "."), name, path), f"{reason}{more}"))
        return remarks, lost


def scan_tree(
    folder: Path,
    modalities: Collection[str],
    owner: Callable[[str], str | None],
    *,
    first: bool = False,
) -> Tree:
    """Read the headers of all DICOM files below ``folder``, each once.

    Args:
        folder: the data set's folder.
        modalities: those of the data set, as DICOM names them.
        owner: folder → name of what its slices belong to; slices of different owners are of
            different series. None: the folder is none of the data set's.
        first: read the first file of each folder alone, to count series.

    Raises:
        ResourceError: a file may not be read, or has gone.
    """
    tree = Tree()
    series: dict[tuple[str, ...], Slices] = {}
    aside: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for place, names in walk(folder):
        owned = owner(place)
        if owned is None:
            continue
        found = (n for n in names if dicom_names(folder / place, [n]))
        for name in itertools.islice(found, 1 if first else None):
            path = str(PurePosixPath(place) / name)
            try:
                headers = read_headers(folder, path)
            except DataError as error:
                tree.broken.setdefault(place, []).append((path, error.what))
                continue
            for header in headers:
                reason = left_out(header, modalities)
                if reason:
                    aside[owned, header.series, reason].append(path)
                else:
                    tree.sound.add(place)
                    series.setdefault(_key(header, owned, place), []).append(header)
    for slices in series.values():
        views = [item for item in slices if _LOCALIZER.search(item.description)]
        if len(views) > _LOCALIZERS:
            views = []
        for item in views:
            reason = f"a localizer (SeriesDescription {item.description})"
            aside["", item.series, reason].append(item.path)
        if len(views) < len(slices):
            kept = [item for item in slices if item not in views]
            tree.series.append(_without_copies(folder, kept, tree))
    for (_, uid, reason), paths in aside.items():
        tree.aside.append((uid, _left_out([*dict.fromkeys(paths)], reason)))
    return tree


def _key(header: SliceHeader, owner: str, place: str) -> tuple[str, ...]:
    """Name of the series. Anonymised files may have one UID for many patients, or none."""
    if header.series:
        return owner, header.patient, header.series
    return owner, header.patient, header.study, place, header.number, header.description


def _left_out(paths: Sequence[str], reason: str) -> Remark:
    if len(paths) == 1:
        return Remark(paths[0], f"{reason}, left out", _NO_LOSS)
    return Remark(_common(paths), f"{len(paths)} files: {reason}, left out", _NO_LOSS)


def _without_copies(folder: Path, slices: Slices, tree: Tree) -> Slices:
    """Slices without files that are copies, byte by byte, of another one of the same place."""
    places = defaultdict(list)
    for item in slices:
        places[item.position, item.orientation, item.instance, item.frame].append(item.path)
    copies: dict[str, str] = {}
    for paths in places.values():
        for one, other in itertools.combinations(paths, 2):
            if {one, other} & {*copies}:
                continue
            with read_named(folder / other):
                if one != other and filecmp.cmp(folder / one, folder / other, shallow=False):
                    copies[other] = one
    if copies:
        reason = f"a copy of {next(iter(copies.values()))}"
        tree.aside.append((slices[0].series, _left_out([*copies], reason)))
    return [item for item in slices if item.path not in copies]


def stacks(slices: Slices) -> tuple[dict[str, Slices], list[Remark]]:
    """Divide a series into its stacks: by orientation and by passes through one place.

    Returns:
        Slices of each stack, by a label that is "" for the only one; and remarks on what is left
        out, such as views of another orientation, and on several stacks.
    """
    remarks: list[Remark] = []

    def leave(items: Slices, reason: str) -> None:
        if items:
            remarks.append(_left_out([*dict.fromkeys(s.path for s in items)], reason))

    colours = [item for item in slices if item.is_colour]
    if len(colours) < len(slices):
        leave(colours, "colours beside grey slices")
        slices = [item for item in slices if not item.is_colour]
    unplaced = [item for item in slices if item.position is None and item.orientation is None]
    if len(unplaced) <= min(_VIEWS, len(slices) // 2):
        leave(unplaced, "slices without a place beside slices with one")
        slices = [item for item in slices if item not in unplaced]
    groups = _by_orientation(slices)
    largest = max(len(group) for group in groups)
    if len(groups) > 1:
        views = [g for g in groups if len(g) == 1 or (len(g) <= _VIEWS and len(g) < largest)]
        leave([*itertools.chain(*views)], "slices of another orientation, as a localizer has")
        groups = [group for group in groups if group not in views]
    found: dict[str, Slices] = {}
    for number, group in enumerate(groups, start=1):
        sizes = Counter(item.size for item in group)
        size, count = sizes.most_common(1)[0]
        others = [item for item in group if item.size != size]
        if len(others) > min(_VIEWS, count - 1):
            others = []
        leave(others, "slices of another size than the series")
        kept = [item for item in group if item not in others]
        name = f"orientation{number}" if len(groups) > 1 else ""
        for label, part in _by_pass(kept):
            found[_joined(name, label)] = part
    if len(found) > 1:
        path = _common([item.path for item in slices])
        shown = ", ".join(f"{label} ({len(part)})" for label, part in found.items())
        reason = f"one series holds several stacks of slices, each an image of its own: {shown}"
        remarks.append(Remark(path, reason, "nothing to do if they are the images that you mean"))
    return found, remarks


def _joined(*names: str) -> str:
    return "_".join(name for name in names if name)


def _by_orientation(slices: Slices) -> list[Slices]:
    groups: list[tuple[tuple[float, ...] | None, Slices]] = []
    for item in slices:
        for known, group in groups:
            if item.orientation == known or _is_near(item.orientation, known):
                group.append(item)
                break
        else:
            groups.append((item.orientation, [item]))
    return [group for _, group in groups]


def _is_near(one: Sequence[float] | None, other: Sequence[float] | None) -> bool:
    # A slice without an orientation may belong anywhere: the stack is refused for it.
    return one is None or other is None or bool(np.abs(np.subtract(one, other)).max() < _APART)


def _by_pass(slices: Slices) -> list[tuple[str, Slices]]:
    """Divide slices of one orientation where several passes lie between or on each other."""
    depths = _depths(slices)
    if depths is None:
        return [("", slices)]
    order = np.argsort(depths, kind="stable")
    is_stack = not steps_fault(depths[order])
    if is_stack and slices[0].modality == "CT":
        is_stack = interleaved([slices[n].instance for n in order]) == 1
    for name in (*_ALWAYS, *(() if is_stack else _ELSE)):
        if name == "acquisition" and is_stack and slices[0].modality != "CT":
            continue
        parts: dict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(slices):
            parts[_facts(item)[name]].append(number)
        spans = sorted((depths[p].min(), depths[p].max()) for p in parts.values())
        crosses = any(b[0] < a[1] - 1e-3 for a, b in itertools.pairwise(spans))
        if not crosses or min(len(part) for part in parts.values()) < 2:
            continue
        if name in _ELSE and any(steps_fault(np.sort(depths[p])) for p in parts.values()):
            continue
        return [
            (_joined(f"{name}{value}", label), part)
            for value, numbers in parts.items()
            for label, part in _by_pass([slices[n] for n in numbers])
        ]
    return [("", slices)]


def _facts(item: SliceHeader) -> Mapping[str, str]:
    place = str(PurePosixPath(item.path).parent)
    kind = " ".join(item.image_type)
    return {**dict(item.passes), "stack": item.stack, "type": kind, "folder": place}


def _depths(slices: Slices) -> Array | None:
    """Place of each slice along the normal; None where one is unknown."""
    directions = slices[0].orientation
    if directions is None or any(item.position is None for item in slices):
        return None
    depths: Array = np.array([s.position for s in slices]) @ np.cross(
        directions[:3], directions[3:]
    )
    return depths


def place_of(slices: Slices) -> tuple[str, tuple[str, ...]]:
    """The folder that holds the files of an image, and their names in it."""
    paths = [*dict.fromkeys(item.path for item in slices)]
    place = _common(paths)
    names = (path.removeprefix(f"{place}/") if place else path for path in paths)
    return place or ".", tuple(names)


def _common(paths: Sequence[str]) -> str:
    return os.path.commonpath([str(PurePosixPath(path).parent) for path in paths])
