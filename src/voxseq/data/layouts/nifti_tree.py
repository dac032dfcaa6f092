"""NIfTI files somewhere below a folder, recognised by the pattern of their path.

Options of the catalogue: ``patterns``, regular expressions for the relative path with the groups
``subject`` and, where they apply, ``image`` and ``contrast``; ``modalities``, one a pattern.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path, PurePosixPath

from voxseq.base.paths import files, first_match
from voxseq.catalogue import DataSet
from voxseq.data.readers import nifti
from voxseq.data.readers.files import nothing_found
from voxseq.data.volume import Entry, Scan, Volume


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the files whose path fits a pattern; see :class:`Scan`."""
    patterns = dataset.options["patterns"]
    modalities = dataset.options.get("modalities", [dataset.modality] * len(patterns))
    entries = []
    for path in files(folder):
        found = first_match(patterns, path)
        if found is None:
            continue
        index, match = found
        groups = match.groupdict()
        entries.append(
            Entry(
                subject=groups["subject"],
                image=groups.get("image") or _stem(path),
                path=path,
                modality=modalities[index],
                contrast=(groups.get("contrast") or "").lower(),
            )
        )
    if not entries:
        raise nothing_found(folder, f"files of the form {' or '.join(patterns)}")
    return Scan(tuple(unique(entries)))


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read one file."""
    return nifti.read(folder, entry.path)


def read_label(folder: Path, entry: Entry) -> Volume | None:
    """Labels of these data sets are not used."""
    return None


def unique(entries: list[Entry]) -> list[Entry]:
    """Give images of the same name (copies in several parts of a data set) distinct names."""
    count = Counter((e.subject, e.image) for e in entries)
    return [
        dataclasses.replace(e, image=e.path.replace("%", "%25").replace("/", "%2F"))
        if count[(e.subject, e.image)] > 1
        else e
        for e in entries
    ]


def _stem(path: str) -> str:
    return PurePosixPath(path).name.split(".", 1)[0]
