"""RICORD 1A and 1B: DICOM series, and the lists of the published split.

A line of ``RICORD_train.txt`` reads
``RICORD_nii/MIDRC-RICORD-1A/ID<patient>_date<mm-dd-yyyy>_<number>-<description>-<end>.nii.gz 1``:
it names the end of PatientID, StudyDate, SeriesNumber, SeriesDescription, the last five characters
of SeriesInstanceUID, and the class. A series is found by these, anywhere below the folder. Options:
``values``, "stored" as published or "hu".

Slices are in order of InstanceNumber, axes (row, column, slice), as published. Series that are not
axial get the contrast "reformatted", because the plane of a series tells much of its class here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from voxseq.base.errors import DataError
from voxseq.base.lists import examples, is_header
from voxseq.base.paths import plain
from voxseq.catalogue import DataSet
from voxseq.data.readers.dicom import SliceHeader
from voxseq.data.readers.dicom_volume import Values, read_volume
from voxseq.data.readers.files import damaged, nothing_found, published_text
from voxseq.data.readers.series import place_of, scan_tree, stacks
from voxseq.data.readers.stack import is_axial
from voxseq.data.volume import REFORMATTED, Entry, Remark, Scan, Volume

_LINE = re.compile(
    r"(?:.*/)?(?P<collection>MIDRC-RICORD-1[AB])/ID(?P<patient>.+)_date(?P<date>\d\d-\d\d-\d{4})_"
    r"(?P<number>[0-9.]+)-(?P<description>.*)-(?P<end>.{5})"
    r"(?i:_0000)?(?i:\.nii(?:\.gz)?)?[\s,;]+(?P<label>[01])"
)
#: More letters than any line of the lists has.
_LONGEST = 1000
#: PatientID, StudyDate, SeriesNumber, end of SeriesInstanceUID.
Key = tuple[str, str, int, str]


@dataclass(frozen=True)
class _Listed:
    key: Key
    image: str
    label: int
    split: str


def scan(folder: Path, dataset: DataSet, *, first: bool = False) -> Scan:
    """Match the lines of the lists to the series on disk; see :class:`Scan`.

    Raises:
        DataError: a list is missing or a line of it is not of the published form.
    """
    listed = [item for split in ("train", "val", "test") for item in _read_list(folder, split)]
    tree = scan_tree(folder, ("CT",), lambda _: "", first=first)
    found: dict[Key, list[list[SliceHeader]]] = {}
    for slices in tree.series:
        found.setdefault(_key(slices[0]), []).append(slices)
    entries: list[Entry] = []
    rejected: list[tuple[Entry, str]] = []
    absent: list[_Listed] = []
    remarks: list[Remark] = []
    listed_series: set[str] = set()
    for item in listed:
        candidates = found.pop(item.key, [])
        if not candidates:
            absent.append(item)
            continue
        listed_series |= {slices[0].series for slices in candidates}
        parts, said = stacks(candidates[0])
        remarks += said if len(parts) == 1 else []
        slices = max(parts.values(), key=len, default=candidates[0])
        place, files = place_of(slices)
        entry = Entry(
            subject=plain(item.key[0]),
            image=item.image,
            path=place,
            locator=dataset.options["values"],
            modality=dataset.modality,
            contrast="" if is_axial(slices[0]) else REFORMATTED,
            label=item.label,
            split=item.split,
            files=files,
        )
        if len(candidates) > 1:
            rejected.append((entry, f"{place}: {len(candidates)} series fit its line in the list"))
        elif len(parts) != 1:
            shown = ", ".join(parts) or "views of different orientations"
            rejected.append((entry, f"{place}: its series is no single stack of slices: {shown}"))
        else:
            entries.append(entry)
    if not entries and not rejected:
        raise nothing_found(folder, "series of MIDRC-RICORD-1A and -1B that its lists name")
    # Of series that no list names it is enough to tell how many there are.
    broken, lost = tree.damaged()
    remarks += [remark for uid, remark in tree.aside if uid in listed_series]
    remarks += broken
    remarks += [
        Remark(entry.path, reason, "restore it if a list names it") for entry, reason in lost
    ]
    notes = [f"{len(found)} series that no list names"] * bool(found)
    names = tuple(f"{item.key[0]}/{item.image}" for item in absent)
    remarks += _unmatched(listed, absent, len(found))
    return Scan(tuple(entries), tuple(rejected), names, tuple(notes), tuple(remarks))


def look(folder: Path, dataset: DataSet) -> Scan:
    """The same by the first file of each folder, to count series."""
    return scan(folder, dataset, first=True)


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read a series as published: by InstanceNumber, axes (row, column, slice)."""
    return read_volume(folder, entry, order="instance", values=cast(Values, entry.locator))


def _key(header: SliceHeader) -> Key:
    return header.patient, header.date, _integer(header.number), header.series[-5:]


def _integer(number: str) -> int:
    """The number of a series; -1 where it is none."""
    try:
        return int(float(number))
    except (ValueError, OverflowError):
        return -1


def _read_list(folder: Path, split: str) -> list[_Listed]:
    path = folder / f"RICORD_{split}.txt"
    absent = DataError(
        f"{path}: the list of the {split} split is missing",
        "the three lists are published with MedCoSS",
    )
    # Whatever a spreadsheet has put between and around names and classes.
    plain_text = published_text(path, absent).replace('"', "").replace("\\", "/")
    lines = [line.strip(" \t,;") for line in plain_text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    body = lines[1:] if lines and is_header(lines[0]) else lines
    return [_parse(line, path, split) for line in body]


def _unmatched(listed: Sequence[_Listed], absent: Sequence[_Listed], here: int) -> list[Remark]:
    """A remark on every list of which no series is there, while others are."""
    remarks = []
    for split in ("train", "val", "test") if here else ():
        missing = [item.image for item in absent if item.split == split]
        if missing and len(missing) == sum(item.split == split for item in listed):
            reason = f"none of its {len(missing)} series is here, such as {examples(missing)}"
            remedy = f"{here} series here are in no list: compare PatientID, StudyDate and number"
            remarks.append(Remark(f"RICORD_{split}.txt", reason, remedy))
    return remarks


def _parse(line: str, path: Path, split: str) -> _Listed:
    # The pattern takes very long for very long lines.
    match = _LINE.fullmatch(line) if len(line) <= _LONGEST else None
    number = _integer(match["number"]) if match else -1
    if match is None or number < 0:
        raise damaged(path, f"the line {line[:120]!r} is not of the published form")
    month, day, year = match["date"].split("-")
    patient = f"{match['collection']}-{match['patient']}"
    key = (patient, f"{year}{month}{day}", number, match["end"])
    image = f"{match['date']}_{match['number']}-{match['description']}-{match['end']}"
    return _Listed(key, plain(image), int(match["label"]), split)
