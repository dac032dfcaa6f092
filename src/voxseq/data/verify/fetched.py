"""Whether a data set's folder still is what was fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from voxseq.base.errors import IntegrityError
from voxseq.base.paths import files
from voxseq.catalogue import DataSet
from voxseq.fetch import RECORD, Fetched, Record, read_record
from voxseq.fetch.content import checksum

#: Severity, path below the folder, reason, and what to do: "" for obtaining it again.
Item = tuple[Literal["fault", "warning"], str, str, str]


def fetched_faults(dataset: DataSet, folder: Path) -> Iterator[Item]:
    """Compare a folder with its record; nothing for a folder that was not fetched."""
    show = f"voxseq data show {dataset.name}"
    try:
        record = read_record(folder)
    except IntegrityError as error:
        yield "fault", RECORD, error.what, f"{error.hint}; {show}"
        return
    if record is None:
        return
    if not record.is_of(dataset):
        yield "warning", RECORD, "was fetched for another version of the catalogue's entry", show
    changed = list(_changed_files(folder, record))
    yield from changed
    if not changed:
        yield from _changed_total(folder, record, show)
    weak = [item.source for item in record.fetched if item.is_weak]
    if weak:
        reason = f"no checksum vouches for {len(weak)} files, such as {weak[0]}"
        yield "warning", RECORD, reason, f"nothing to repair: no source states one; {show}"


def _changed_files(folder: Path, record: Record) -> Iterator[Item]:
    """Files that were taken as they arrived, whose checksum is known."""
    for item in record.fetched:
        if item.archive or item.files != 1 or ":" not in item.checksum:
            continue
        path = folder / item.path
        if not path.is_file():
            yield "fault", item.path, "was fetched and is missing", ""
        elif checksum(path, item.checksum.partition(":")[0]) != item.checksum:
            yield "fault", item.path, "has changed since it was fetched: another checksum", ""


def _changed_total(folder: Path, record: Record, show: str) -> Iterator[Item]:
    """Number and bytes of all files: unpacked files have no checksum of their own."""
    lists = set(record.lists)
    here = [path for path in files(folder) if path != RECORD and path not in lists]
    count, size = len(here), sum((folder / path).stat().st_size for path in here)
    fetched, fetched_size = _total(record.fetched)
    if count < fetched:
        yield "fault", "", f"{fetched - count} of {fetched} fetched files are missing", ""
    elif count > fetched:
        reason = f"{count - fetched} files were added to the {fetched} fetched ones"
        yield "warning", "", reason, f"nothing to repair if they are yours; {show}"
    elif size != fetched_size:
        yield (
            "fault",
            "",
            f"its files have {size} bytes, fetched were {fetched_size}: some have changed",
            "",
        )


def _total(items: tuple[Fetched, ...]) -> tuple[int, int]:
    return sum(item.files for item in items), sum(item.bytes for item in items)
