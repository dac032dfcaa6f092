"""RICORD 1A and 1B: DICOM series, and the lists of the published split.

A line of ``RICORD_train.txt`` reads
``RICORD_nii/MIDRC-RICORD-1A/ID<patient>_date<mm-dd-yyyy>_<number>-<description>-<end>.nii.gz 1``:
it names the end of PatientID, StudyDate, SeriesNumber, SeriesDescription, the last five characters
of SeriesInstanceUID, and the class. A series is found by these; every folder holds one series, as
TCIA and IDC deliver them. Options: ``values``, "stored" as published or "hu".

Slices are in order of InstanceNumber, axes (row, column, slice), as published. Series that are not
axial get the contrast "reformatted", because the plane of a series tells much of its class here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from voxseq.base.errors import DataError
from voxseq.base.lists import examples, is_header
from voxseq.base.paths import plain, walk
from voxseq.catalogue import DataSet
from voxseq.data.readers.dicom import Values, dicom_names, is_axial, read_header, read_series, text
from voxseq.data.readers.files import damaged, nothing_found, published_text
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


def scan(folder: Path, dataset: DataSet) -> Scan:
    """Match the lines of the lists to the series on disk; see :class:`Scan`.

    Raises:
        DataError: a list is missing or a line of it is not of the published form.
    """
    listed = [item for split in ("train", "val", "test") for item in _read_list(folder, split)]
    found, broken = _series(folder)
    entries: list[Entry] = []
    rejected: list[tuple[Entry, str]] = []
    absent: list[_Listed] = []
    for item in listed:
        places = found.pop(item.key, [])
        if not places:
            absent.append(item)
            continue
        place, axial = places[0]
        entry = Entry(
            subject=plain(item.key[0]),
            image=item.image,
            path=place,
            locator=dataset.options["values"],
            modality=dataset.modality,
            contrast="" if axial else REFORMATTED,
            label=item.label,
            split=item.split,
        )
        if len(places) == 1:
            entries.append(entry)
        else:
            rejected.append((entry, f"{len(places)} series fit its line in the list"))
    if not entries and not rejected:
        raise nothing_found(folder, "series of MIDRC-RICORD-1A and -1B that its lists name")
    notes = [f"{len(broken)} series with an unreadable first file: {broken[:5]}"] * bool(broken)
    notes += [f"{len(found)} series that no list names"] * bool(found)
    names = tuple(f"{item.key[0]}/{item.image}" for item in absent)
    remarks = _unmatched(listed, absent, len(found))
    return Scan(tuple(entries), tuple(rejected), names, tuple(notes), tuple(remarks))


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read a series as published: by InstanceNumber, axes (row, column, slice)."""
    values, _, uid = entry.locator.partition(" ")
    return read_series(folder, entry.path, uid=uid, order="instance", values=cast(Values, values))


def _series(folder: Path) -> tuple[dict[Key, list[tuple[str, bool]]], list[str]]:
    """Folder of each series, and whether it is axial; and folders that cannot be read."""
    found: dict[Key, list[tuple[str, bool]]] = {}
    broken = []
    for place, names in walk(folder):
        files = dicom_names(folder / place, names)
        if not files:
            continue
        try:
            header = read_header(folder, str(PurePosixPath(place) / files[0]))
        except DataError:
            broken.append(place)
            continue
        number = _integer(text(header, "SeriesNumber"))
        end = text(header, "SeriesInstanceUID")[-5:]
        key = (text(header, "PatientID"), text(header, "StudyDate"), number, end)
        found.setdefault(key, []).append((place or ".", is_axial(header)))
    return found, broken


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
