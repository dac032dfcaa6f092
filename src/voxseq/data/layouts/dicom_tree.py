"""Folders of DICOM series, with or without file extensions.

Option ``folders``: a regular expression of the series' folder with the groups ``subject`` and,
where it applies, ``image``; a series is then of the folder that it lies in or below. Without it
series are told apart by their UID wherever they lie, subjects by PatientID.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from voxseq.base.paths import plain
from voxseq.catalogue import DataSet
from voxseq.data.layouts.nifti_tree import unique
from voxseq.data.readers.dicom import SliceHeader
from voxseq.data.readers.dicom_volume import read_volume
from voxseq.data.readers.files import nothing_found
from voxseq.data.readers.series import Tree, place_of, scan_tree, stacks
from voxseq.data.volume import Entry, Remark, Scan, Volume

#: The catalogue's names of modalities, as DICOM has them.
MODALITIES = {"CT": ("CT",), "MRI": ("MR",), "CT and MRI": ("CT", "MR")}


def scan(folder: Path, dataset: DataSet, *, first: bool = False) -> Scan:
    """List the series below ``folder``; see :class:`Scan`."""
    pattern = dataset.options.get("folders")

    def owner(place: str) -> str | None:
        if not pattern:
            return ""
        pure = PurePosixPath(place)
        above = (str(path).removeprefix(".") for path in (pure, *pure.parents))
        return next((path for path in above if re.fullmatch(pattern, path)), None)

    tree = scan_tree(folder, MODALITIES[dataset.modality], owner, first=first)
    remarks, rejected = tree.damaged()
    remarks = [*(remark for _, remark in tree.aside), *remarks]
    entries: list[Entry] = []
    owners = [owner(str(PurePosixPath(slices[0].path).parent)) for slices in tree.series]
    count = Counter(owners)
    for slices, label, found in _images(tree, dataset, remarks):
        entry = found
        place = owner(str(PurePosixPath(slices[0].path).parent))
        match = re.fullmatch(pattern, place) if pattern and place else None
        if match is not None:
            series = slices[0].series if count[place] > 1 else ""
            names = (match.groupdict().get("image") or "series", series, label)
            image = "_".join(plain(name) for name in names if name)
            entry = replace(entry, subject=match["subject"], image=image)
        entries.append(entry)
    for place, number in count.items():
        if place and number > 1:
            reason = f"{number} series (SeriesInstanceUID) in a folder that should hold one"
            next_step = "each is an image of its own; leave those out that are not meant"
            remarks.append(Remark(place, reason, next_step))
    remarks += _in_several(zip(owners, tree.series, strict=True))
    if not entries and not rejected:
        least = f" (left out: {remarks[0].path}: {remarks[0].reason})" if remarks else ""
        expected = f"folders of DICOM slices of {dataset.modality}{least}"
        raise nothing_found(folder, expected, own=dataset.own)
    return Scan(tuple(unique(entries)), tuple(rejected), remarks=tuple(remarks))


def series_below(folder: Path, dataset: DataSet, owner: Callable[[str], str | None]) -> Scan:
    """List the series in the folders that have an owner; none where there is no DICOM file.

    Args:
        folder: of the data set.
        dataset: its modality tells which series count.
        owner: as for :func:`voxseq.data.readers.series.scan_tree`.
    """
    tree = scan_tree(folder, MODALITIES[dataset.modality], owner)
    remarks, rejected = tree.damaged()
    remarks = [*(remark for _, remark in tree.aside), *remarks]
    entries = [entry for _, _, entry in _images(tree, dataset, remarks)]
    return Scan(tuple(entries), tuple(rejected), remarks=tuple(remarks))


def _images(
    tree: Tree, dataset: DataSet, remarks: list[Remark]
) -> Iterator[tuple[list[SliceHeader], str, Entry]]:
    """Yield series, label of the stack and entry of every image; remarks are added."""
    for slices in tree.series:
        found, said = stacks(slices)
        remarks += said
        for label, part in found.items():
            yield slices, label, _entry(part, label, dataset)


def look(folder: Path, dataset: DataSet) -> Scan:
    """The same by the first file of each folder, where every series has one of its own."""
    return scan(folder, dataset, first="folders" in dataset.options)


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read a series in Hounsfield units, slices in order of their position."""
    return read_volume(folder, entry)


def _in_several(series: Iterable[tuple[str | None, list[SliceHeader]]]) -> Iterator[Remark]:
    """Name series of which a part lies in another folder that has images of its own."""
    places: dict[tuple[str, str], list[str]] = {}
    for place, slices in series:
        if place and slices[0].series:
            places.setdefault((slices[0].patient, slices[0].series), []).append(place)
    for (_, uid), found in places.items():
        if len(found) > 1:
            reason = f"the same series ({uid}) is in several folders, each taken for an image"
            next_step = f"look at {', '.join(found[1:])} too, and put parts of one image together"
            yield Remark(found[0], reason, next_step)


def _entry(slices: list[SliceHeader], label: str, dataset: DataSet) -> Entry:
    first = slices[0]
    place, files = place_of(slices)
    name = plain(place)
    subject, image = first.patient or first.study, first.series
    stated = first.modality or MODALITIES[dataset.modality][0]
    return Entry(
        subject=plain(subject) if subject else name,
        image="_".join(filter(None, (plain(image) if image else name, plain(label)))),
        path=place,
        locator=label,
        modality={"MR": "MRI"}.get(stated, stated),
        files=files,
    )
