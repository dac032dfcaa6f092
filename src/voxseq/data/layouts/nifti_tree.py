"""NIfTI files somewhere below a folder, recognised by the pattern of their path.

Options of the catalogue: ``patterns``, regular expressions for the relative path with the groups
``subject`` and, where they apply, ``image``, ``contrast`` and ``group``; ``modalities``, one per
pattern.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from voxseq.base.paths import files, first_match, plain
from voxseq.catalogue import DataSet
from voxseq.data.readers.files import nothing_found
from voxseq.data.volume import Entry, Scan


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the files whose path fits a pattern; see :class:`Scan`."""
    patterns = dataset.options["patterns"]
    modalities = dataset.options.get("modalities", [dataset.modality] * len(patterns))
    expected = f"files of the form {' or '.join(patterns)}"
    return matching(folder, list(zip(patterns, modalities, strict=True)), expected)


def matching(
    folder: Path, patterns: Sequence[tuple[str, str]], expected: str, exclude: str | None = None
) -> Scan:
    """List the files whose path fits a pattern, with the modality that stands beside it.

    Args:
        folder: of the data set.
        patterns: regular expressions, as in the options, and modalities.
        expected: for the message where no file fits.
        exclude: regular expression of paths to leave out.
    """
    entries = []
    for path in files(folder):
        found = first_match([pattern for pattern, _ in patterns], path)
        if found is None or (exclude and re.search(exclude, path)):
            continue
        index, match = found
        groups = match.groupdict("")
        entries.append(
            Entry(
                subject=groups["subject"],
                image=groups.get("image") or PurePosixPath(path).name.split(".", 1)[0],
                path=path,
                modality=patterns[index][1],
                contrast=groups.get("contrast", "").lower(),
                group=groups.get("group", ""),
            )
        )
    if not entries:
        raise nothing_found(folder, expected)
    return Scan(tuple(unique(entries)))


def unique(entries: list[Entry]) -> list[Entry]:
    """Give images of the same name (copies in several parts of a data set) distinct names."""
    count = Counter((e.subject, e.image) for e in entries)
    return [
        dataclasses.replace(e, image=plain(e.path)) if count[(e.subject, e.image)] > 1 else e
        for e in entries
    ]
