"""nnU-Net's raw data, versions 1 and 2: ``dataset.json``, ``imagesTr`` and ``labelsTr``.

The images of a case are ``imagesTr/CASE_0000.nii.gz``, ``CASE_0001`` and so on, one per channel;
its label is ``labelsTr/CASE.nii.gz``. Without labels a folder serves pre-training. ``imagesTs``
has no labels and is not read. Options: ``channels``, those of several that are read, by the names
in ``dataset.json``; ``splits`` or ``splits_final.json`` in the folder, and ``fold``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxseq.base.errors import DataError, ResourceError
from voxseq.base.files import read_json
from voxseq.base.paths import NIFTI, ending_of, inside, plain
from voxseq.catalogue import DataSet
from voxseq.catalogue.label_names import UNREADABLE
from voxseq.data.readers import any_image
from voxseq.data.readers.dataset_json import IMAGES, LABELS, NAME
from voxseq.data.readers.files import Names
from voxseq.data.readers.globs import case_of
from voxseq.data.readers.named_labels import named_labels
from voxseq.data.volume import Entry, Remark, Scan

read_image = any_image.read_image
read_label = any_image.read_label
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_NEXT = f"correct {NAME}; docs/own-data.md shows an example"


@dataclass(frozen=True)
class _Case:
    """Files of one case.

    Attributes:
        listed: files of its channels where ``dataset.json`` names them, else none.
        label: its label; "" without one.
    """

    name: str
    listed: tuple[str, ...] = ()
    label: str = ""


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the training cases; see :class:`Scan`.

    Raises:
        DataError: dataset.json is missing or cannot be understood, its channels or labels are not
            those that are asked for, or there is no image.
    """
    names = Names(folder)
    held = _read(folder, names)
    ending = _ending(held)
    try:
        cases = _cases(held, names, ending)
        channels = _channels(held, names)
    except (*UNREADABLE, IndexError) as error:
        raise DataError(f"{NAME}: cannot be understood ({error!r})", _NEXT) from None
    chosen = _chosen(channels, dataset)
    entries: list[Entry] = []
    rejected: list[tuple[Entry, str]] = []
    for case in cases:
        entry, reason = _entry(case, chosen, channels, names, ending, dataset)
        if reason:
            rejected.append((entry, reason))
        else:
            entries.append(entry)
    if not entries:
        said = f": {rejected[0][1]}" if rejected else ""
        raise DataError(
            f"{folder}: no case in {IMAGES}; expected {IMAGES}/CASE_0000{ending} for each "
            f"{LABELS}/CASE{ending}{said}",
            "correct folder or layout in data.sets, or the names of the files",
        )
    labels = named_labels(held.get("labels"), dataset)
    remarks = list(labels.remarks)
    stated = held.get("numTraining")
    if isinstance(stated, int) and stated != len(cases):
        reason = f"numTraining is {stated}, but the folder has {len(cases)} cases"
        remarks.append(Remark(NAME, reason, "look for missing files, or correct the number"))
    return Scan(
        tuple(entries),
        tuple(rejected),
        remarks=tuple(remarks),
        labels=labels.values,
        ignore=labels.ignore,
    )


def _read(folder: Path, names: Names) -> Mapping[str, Any]:
    if NAME not in names.below(""):
        raise DataError(
            f"{folder}: there is no {NAME}; expected it with {IMAGES} and {LABELS} beside it",
            "correct the folder in data.sets; without this file, layout files reads any tree",
        )
    try:
        held = read_json(folder / NAME)
    except ResourceError:
        raise
    except (ValueError, OSError) as error:
        raise DataError(f"{NAME}: is no JSON ({error})", _NEXT) from None
    if not isinstance(held, Mapping):
        raise DataError(f"{NAME}: holds a {type(held).__name__}, expected an object", _NEXT)
    return held


def _ending(held: Mapping[str, Any]) -> str:
    ending = str(held.get("file_ending", NIFTI[0]))
    if ending.lower() not in any_image.ENDINGS:
        raise DataError(
            f"{NAME}: file_ending is {ending!r}, expected one of {', '.join(any_image.ENDINGS)}",
            "convert images and labels, and correct file_ending",
        )
    return ending


def _cases(held: Mapping[str, Any], names: Names, ending: str) -> list[_Case]:
    """All cases by name: those that are listed, else those of the two folders."""
    if isinstance(held.get("dataset"), Mapping):
        return [
            _Case(
                str(case),
                tuple(inside(str(path), NAME) for path in item["images"]),
                inside(str(item["label"]), NAME) if item.get("label") else "",
            )
            for case, item in sorted(held["dataset"].items())
        ]
    labels = {case_of(n): n for n in names.below(LABELS) if ending_of(n, any_image.ENDINGS)}
    found = {case: f"{LABELS}/{name}" for case, name in labels.items()}
    for name in names.below(IMAGES):
        end = ending_of(name, any_image.ENDINGS)
        if not end:
            continue
        match = _CHANNEL.fullmatch(name.removesuffix(end))
        # A case may end in four digits and have no number of a channel, as in the Decathlon.
        is_whole = match is None or name.removesuffix(end) in labels
        case = name.removesuffix(end) if is_whole or match is None else match[1]
        found.setdefault(case, "")
    if isinstance(held.get("training"), list):
        # Version 1 uses the cases that it lists.
        listed = {case_of(path): path for path in (item["label"] for item in held["training"])}
        found = {case: found.get(case) or inside(path, NAME) for case, path in listed.items()}
    return [_Case(case, (), label) for case, label in sorted(found.items())]


def _channels(held: Mapping[str, Any], names: Names) -> list[str]:
    """Names of the channels in the order of their files."""
    stated = held.get("channel_names", held.get("modality"))
    if isinstance(stated, Mapping):
        return [str(name) for _, name in sorted(stated.items(), key=lambda item: int(item[0]))]
    if isinstance(stated, list):
        return [str(name) for name in stated]
    numbers = set()
    for name in names.below(IMAGES):
        match = _CHANNEL.fullmatch(name.removesuffix(ending_of(name, any_image.ENDINGS)))
        numbers |= {int(match[2])} if match else set()
    count = 1 if numbers != set(range(len(numbers))) else max(len(numbers), 1)
    return [str(number) for number in range(count)]


def _chosen(channels: list[str], dataset: DataSet) -> list[int]:
    """Numbers of the channels that are read.

    Raises:
        DataError: there are several and none is asked for, or one that is asked for is not there.
    """
    asked = dataset.options.get("channels")
    shown = ", ".join(channels)
    if asked is None:
        if len(channels) == 1:
            return [0]
        raise DataError(
            f"{NAME}: it has {len(channels)} channels ({shown}), but data.sets.{dataset.name} "
            "does not say which to read",
            f"write options.channels: [{shown}], all of them or some",
        )
    known = {name.casefold(): number for number, name in enumerate(channels)}
    for name in asked:
        if name.casefold() not in known:
            raise DataError(
                f"{NAME}: it has no channel {name!r}; it has {shown}",
                f"correct options.channels of data.sets.{dataset.name}",
            )
    return [known[name.casefold()] for name in asked]


def _entry(
    case: _Case,
    chosen: list[int],
    channels: list[str],
    names: Names,
    ending: str,
    dataset: DataSet,
) -> tuple[Entry, str]:
    """The case's image; and why it cannot be used, or ""."""
    expected = [f"{IMAGES}/{case.name}_{number:04d}{ending}" for number in range(len(channels))]
    if case.listed:
        expected = list(case.listed)
    elif len(channels) == 1 and names.find(expected[0]) is None:
        expected = [f"{IMAGES}/{case.name}{ending}"]
    paths, reason = [], ""
    for number in chosen:
        path = names.find(expected[number]) if number < len(expected) else None
        if path is None and not reason:
            wanted = expected[number] if number < len(expected) else f"channel {number}"
            reason = (
                f"{wanted}: the file of the channel {channels[number]} of the case {case.name} "
                "does not exist"
            )
        paths.append(path or expected[min(number, len(expected) - 1)])
    label = names.find(case.label) if case.label else ""
    if case.label and not label:
        reason = reason or f"{case.label}: the label of the case {case.name} does not exist"
    entry = Entry(
        plain(case.name),
        "image",
        paths[0],
        modality=dataset.modality,
        label_path=label or case.label,
        channels=tuple(paths) if len(paths) > 1 else (),
    )
    return entry, reason
