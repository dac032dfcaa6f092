"""Folders of DICOM series, with or without file extensions.

Options: ``folders``, a regular expression of the series' folder with the groups ``subject`` and,
where it applies, ``image``; ``one_series``, every folder holds one series, so that its files need
not be opened to list it. Without them series are told apart by their UID, subjects by PatientID.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from pydicom.dataset import Dataset

from voxseq.base.errors import DataError
from voxseq.base.paths import plain, walk
from voxseq.catalogue import DataSet
from voxseq.data.layouts.nifti_tree import unique
from voxseq.data.readers.dicom import dicom_names, read_header, read_series, text
from voxseq.data.readers.files import nothing_found
from voxseq.data.volume import Entry, Scan, Volume


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the series below ``folder``; see :class:`Scan`."""
    pattern = dataset.options.get("folders")
    entries: list[Entry] = []
    rejected: list[tuple[Entry, str]] = []
    for place, names in walk(folder):
        match = re.fullmatch(pattern, place) if pattern else None
        if pattern and match is None:
            continue
        found = dicom_names(folder / place, names)
        if found and match is not None and dataset.options.get("one_series"):
            groups = match.groupdict()
            image = plain(groups.get("image") or "series")
            entries.append(Entry(groups["subject"], image, place, modality=dataset.modality))
            continue
        first: dict[str, Dataset] = {}
        for path in (str(PurePosixPath(place) / name) for name in found):
            try:
                header = read_header(folder, path)
            except DataError as error:
                bad = Entry(plain(place or "."), plain(PurePosixPath(path).name), path)
                rejected.append((bad, error.what))
                continue
            first.setdefault(text(header, "SeriesInstanceUID"), header)
        entries += [_entry(place, uid, header) for uid, header in first.items()]
    if not entries and not rejected:
        raise nothing_found(folder, "folders of DICOM slices")
    return Scan(tuple(unique(entries)), tuple(rejected))


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read a series in Hounsfield units, slices in order of their position."""
    return read_series(folder, entry.path, uid=entry.locator)


def _entry(place: str, uid: str, header: Dataset) -> Entry:
    name = plain(place or ".")
    subject = text(header, "PatientID") or text(header, "StudyInstanceUID")
    return Entry(
        subject=plain(subject) if subject else name,
        image=plain(uid) if uid else name,
        path=place or ".",
        locator=uid,
        modality={"MR": "MRI"}.get(text(header, "Modality"), text(header, "Modality")),
    )
