"""``dataset.json`` of the Medical Segmentation Decathlon and of nnU-Net, versions 1 and 2.

The Decathlon and nnU-Net 1 list images under ``training``; nnU-Net 1 writes the files of a listed
``x.nii.gz`` as ``x_0000.nii.gz``. nnU-Net 2 lists nothing, or names the files under ``dataset``:
its cases are the files ``imagesTr/CASE_0000.nii.gz``. Further channels of a case are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from voxseq.base.errors import DataError, ResourceError
from voxseq.base.files import read_json
from voxseq.base.lists import CHANNEL
from voxseq.base.paths import NIFTI, ending_of, inside, without_ending
from voxseq.data.readers.files import Names, damaged, nothing_found
from voxseq.data.volume import Remark

NAME = "dataset.json"
IMAGES, LABELS = "imagesTr", "labelsTr"
#: Keys by which nnU-Net 2 is told.
_VERSION_2 = ("channel_names", "file_ending", "numTraining", "dataset")
_ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|[\\/]")
_CASE_AND_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True)
class Case:
    """One training case; paths are relative to the data set's folder.

    Attributes:
        name: of the case, without ending and channel.
        image: its file, or its first channel.
        label: file of its segmentation.
        is_there: whether the image is.
    """

    name: str
    image: str
    label: str
    is_there: bool = True


@dataclass
class Content:
    """What a ``dataset.json`` says.

    Attributes:
        cases: in the order of the file.
        labels: as they stand in the file; None where it has none.
        name: of the data set, as it stands in the file.
        remarks: on how its entries were understood.
    """

    cases: list[Case] = field(default_factory=list)
    labels: Any = None
    name: Any = ""
    remarks: list[Remark] = field(default_factory=list)


def read(folder: Path, *, own: bool = False) -> Content:
    """Read ``folder / dataset.json`` and look for the files of its cases.

    Args:
        folder: of the data set.
        own: whether the data set is one that the user declares.

    Raises:
        DataError: it is missing or not as specified, or names files elsewhere.
        ResourceError: the machine failed.
    """
    path = folder / NAME
    names = Names(folder)
    if NAME not in names.below(""):
        raise nothing_found(folder, f"{NAME} with {IMAGES} and {LABELS} beside it", own=own)
    try:
        held = read_json(path)
        content = Content(labels=held.get("labels"), name=held.get("name", ""))
        if "training" not in held and any(key in held for key in _VERSION_2):
            listed = _version_2(held, names, path)
        else:
            listed = [(item["image"], item["label"]) for item in held["training"]]
        content.cases = _cases(listed, names, path, content.remarks)
        content.remarks += _channels(held, content.cases, names)
    except (DataError, ResourceError):
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        expected = 'JSON with "training": [{"image": …, "label": …}, …]'
        said = f"{type(error).__name__}: {error}"
        raise damaged(path, f"expected {expected} ({said})") from None
    return content


def _cases(
    listed: Iterable[tuple[str, str]], names: Names, path: Path, remarks: list[Remark]
) -> list[Case]:
    pairs = list(listed)
    images = _located([image for image, _ in pairs], names, path, remarks)
    labels = _located([label for _, label in pairs], names, path, remarks)
    cases = []
    for image, label in zip(images, labels, strict=True):
        found = _image(image, names)
        subject = _stem(image)
        if subject == f"{_stem(label)}{CHANNEL}":
            subject = _stem(label)
        there = names.find(label) or label
        cases.append(Case(subject, found or image, there, found is not None))
    return cases


def _image(path: str, names: Names) -> str | None:
    """The file of a listed image: under its own name, or as nnU-Net 1 stores it."""
    ending = ending_of(path)
    return names.find(path) or names.find(f"{path.removesuffix(ending)}{CHANNEL}{ending}")


def _located(entries: list[str], names: Names, path: Path, remarks: list[Remark]) -> list[str]:
    """Entries as paths below the folder; those of another machine by their last two parts.

    Raises:
        DataError: an entry leads elsewhere.
    """
    located: list[str] = []
    moved: list[tuple[str, str]] = []
    lost = ""
    for entry in entries:
        own = None if _ABSOLUTE.match(entry) else inside(entry, str(path))
        short = _last_two(entry, path)
        if own is not None and (_image(own, names) or not _image(short, names)):
            located.append(own)
            continue
        located.append(short)
        if _image(short, names):
            moved.append((entry, short))
        else:
            lost = lost or entry
    if lost and not moved:
        raise DataError(
            f"{path}: {lost[:80]!r} is the path of another place, and {_last_two(lost, path)!r} "
            "is not in the data set's folder",
            f"write paths that begin at the folder of {NAME}, such as {IMAGES}/case.nii.gz",
        )
    if moved:
        old, new = moved[0]
        reason = f"{len(moved)} of its paths are of another place: {old} is read as {new}"
        remarks.append(Remark(NAME, reason, f"nothing to repair if {new} is that file"))
    return located


def _last_two(entry: str, path: Path) -> str:
    parts = entry.replace("\\", "/").split("/")
    return inside("/".join(parts[-2:]).lstrip("/") or ".", str(path))


def _version_2(held: Mapping[str, Any], names: Names, path: Path) -> list[tuple[str, str]]:
    """Images and labels by nnU-Net 2: named under ``dataset``, or by the names of the files."""
    ending = str(held.get("file_ending", NIFTI[0]))
    if ending.lower() not in NIFTI:
        raise DataError(
            f"{path}: file_ending is {ending!r}, expected {' or '.join(NIFTI)}",
            "convert images and labels to NIfTI",
        )
    if "dataset" in held:
        return [(item["images"][0], item["label"]) for item in held["dataset"].values()]
    labels = {_stem(n): n for n in names.below(LABELS) if ending_of(n, NIFTI)}
    known = {*labels, *map(_stem, names.below(IMAGES))}
    images: dict[str, str] = {}
    for name in names.below(IMAGES):
        stem = _stem(name)
        match = _CASE_AND_CHANNEL.fullmatch(stem)
        is_channel = match and stem not in labels and {match[1], match[1] + CHANNEL} & known
        case = match[1] if match and is_channel else stem
        if ending_of(name, NIFTI):
            images.setdefault(case, name)
    listed = {case: (f"{IMAGES}/{name}", labels.get(case)) for case, name in images.items()}
    listed |= {
        c: (f"{IMAGES}/{c}{CHANNEL}{ending}", n) for c, n in labels.items() if c not in images
    }
    return [
        (image, f"{LABELS}/{label or case + ending}")
        for case, (image, label) in sorted(listed.items())
    ]


def _channels(held: Mapping[str, Any], cases: Iterable[Case], names: Names) -> list[Remark]:
    """One remark where images have further channels, which nobody reads."""
    count = 0
    example = ""
    for case in cases:
        ending = ending_of(case.image)
        first = case.image.removesuffix(ending)
        second = f"{first.removesuffix(CHANNEL)}_0001{ending}"
        if first.endswith(CHANNEL) and names.find(second):
            count, example = count + 1, example or second
    if not count:
        return []
    stated = held.get("channel_names", held.get("modality"))
    shown = f" ({', '.join(map(str, stated.values()))})" if isinstance(stated, Mapping) else ""
    reason = f"{count} images have several channels{shown}: only the first is read, not {example}"
    return [Remark(NAME, reason, "leave the data set out if its task needs all of them")]


def _stem(path: str) -> str:
    return without_ending(PurePosixPath(path).name)
