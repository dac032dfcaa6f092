"""The report of a check of data sets: faults and warnings, each with what to do next.

A *fault* is what a user must repair: an image that would be set aside, files that are not what was
fetched. A *warning* is what the stages handle themselves, or what only looks odd.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from voxseq.base.errors import IntegrityError
from voxseq.base.paths import files
from voxseq.base.words import several
from voxseq.catalogue import DataSet
from voxseq.fetch import RECORD, Record, read_record
from voxseq.fetch.content import checksum

Severity = Literal["fault", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd.

    Attributes:
        severity: "fault" or "warning".
        dataset: name in the catalogue.
        file: the file or folder concerned, relative to the data root.
        reason: what is wrong with it.
        next: what to do about it, a command where there is one.
    """

    severity: Severity
    dataset: str
    file: str
    reason: str
    next: str


@dataclass
class Report:
    """Findings in the data sets below a data root; images counts the usable ones of each."""

    root: Path | None
    findings: list[Finding] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)

    def add(
        self, severity: Severity, dataset: DataSet, path: str, reason: str, next_step: str
    ) -> None:
        """Add a finding about ``path``, relative to the data set's folder; "" is the folder."""
        folder = dataset.place(self.root)
        place = f"{dataset.folder}/{path}" if path not in ("", ".") else dataset.folder
        reason = reason.replace(f"{folder}/", "").replace(f"{folder}: ", "")
        reason = reason.removeprefix(f"{path}: ")
        self.findings.append(Finding(severity, dataset.name, place, reason, next_step))

    @property
    def faults(self) -> int:
        """Number of faults."""
        return sum(finding.severity == "fault" for finding in self.findings)

    def summary(self) -> str:
        """One line."""
        read = several(len(self.images), "data set")
        usable = several(sum(self.images.values()), "usable image")
        faults = several(self.faults, "fault")
        return f"{read}, {usable}: {faults}, {several(len(self.findings) - self.faults, 'warning')}"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        findings = [asdict(finding) for finding in self.findings]
        return {"images": self.images, "faults": self.faults, "findings": findings}


def show_command(dataset: DataSet) -> str:
    """The command that tells everything about a data set."""
    if dataset.own:
        return "docs/own-data.md describes your own data sets"
    return f"voxseq data show {dataset.name}"


#: What to look at, by words of the reason why an image of the user is set aside; the first counts.
_LOOKS = (
    (
        r"does not exist|leads nowhere|is missing or unusable",
        "restore the file, or take the image out of the list or folder that names it",
    ),
    (
        r"damaged|truncated|cannot be read|cannot be understood|promises",
        "compare its size and checksum with the source and open it in another viewer (ITK-SNAP, "
        "3D Slicer); copy it from there once more if they differ",
    ),
    (
        r"label|segmentation",
        "open the segmentation over its image in ITK-SNAP or 3D Slicer, and compare the values and "
        "headers of both",
    ),
    (
        r"slice|DICOM|ImagePosition|ImageOrientation|series",
        "open the series in a DICOM viewer (3D Slicer, Weasis) and compare the number and the "
        "headers of its slices with the source",
    ),
    (
        r"affine|spacing|axes|shape|grid|box centre|bits",
        "look at its header in ITK-SNAP or 3D Slicer and compare it with the source",
    ),
    (r"class", "compare its class with the table of the publishers"),
    (
        r"voxel|value|NaN",
        "open it in ITK-SNAP or 3D Slicer and look at its range of values and at empty slices",
    ),
)
#: The same of files that no publisher has; they come first.
_OWN_LOOKS = (
    (
        r"damaged|truncated|cannot be read|cannot be understood|promises",
        "open it in another viewer (ITK-SNAP, 3D Slicer); where that fails too, export it anew "
        "from the program that wrote it",
    ),
    (r"has no class|class -?\d", "compare its class with the labels of the task and your table"),
)
_LOOK = "open it in ITK-SNAP or 3D Slicer and compare it with the source"


def look_at(dataset: DataSet, reason: str) -> str:
    """What a user looks at in an own file that is set aside for ``reason``."""
    what = reason.partition(": ")[2] or reason
    looks = (*_OWN_LOOKS, *_LOOKS) if dataset.own else _LOOKS
    look = next((look for words, look in looks if re.search(words, what)), _LOOK)
    if dataset.own:
        return f"{look}; correct it or leave it out"
    return f"{look}; correct it or leave it out; {show_command(dataset)} describes the data set"


def fetch_again(dataset: DataSet) -> str:
    """How to get a damaged file that was fetched anew: only whole folders are fetched."""
    if not dataset.files:
        return f"fetch it again, or leave it out; {show_command(dataset)}"
    return (
        f"fetch it again or leave it out; or move {dataset.folder} away and call "
        f"voxseq data download {dataset.name}"
    )


def check_fetched(report: Report, dataset: DataSet) -> bool:
    """Compare a folder with its record; nothing is said of a folder that was not fetched.

    Returns:
        Whether it was fetched.
    """
    folder, show = dataset.place(report.root), show_command(dataset)
    assert folder is not None, "what was fetched has a data root"
    try:
        record = read_record(folder)
    except IntegrityError as error:
        report.add("fault", dataset, RECORD, error.what, f"{error.hint}; {show}")
        return True
    if record is None:
        return False
    if not record.is_of(dataset):
        reason = "was fetched for another version of the catalogue's entry"
        report.add("warning", dataset, RECORD, reason, show)
    count = len(report.findings)
    again = fetch_again(dataset)
    # Files that were taken as they arrived have a checksum of their own.
    for item in record.fetched:
        path, (kind, found, _) = folder / item.path, item.checksum.partition(":")
        if item.archive or item.files != 1 or not found:
            continue
        if not path.is_file():
            report.add("fault", dataset, item.path, "was fetched and is missing", again)
        elif checksum(path, kind) != item.checksum:
            reason = "has changed since it was fetched: another checksum"
            report.add("fault", dataset, item.path, reason, again)
    if len(report.findings) == count:
        _check_total(report, dataset, record)
    weak = [item.source for item in record.fetched if item.is_weak]
    if weak:
        reason = f"no checksum vouches for {len(weak)} files, such as {weak[0]}"
        remedy = f"nothing to repair: no source states one; {show}"
        report.add("warning", dataset, RECORD, reason, remedy)
    return True


def _check_total(report: Report, dataset: DataSet, record: Record) -> None:
    """Number and bytes of all files: unpacked files have no checksum of their own."""
    folder, apart = dataset.place(report.root), {RECORD, *record.lists}
    assert folder is not None, "what was fetched has a data root"
    sizes = [(folder / path).stat().st_size for path in files(folder) if path not in apart]
    fetched = sum(item.files for item in record.fetched)
    size = sum(item.bytes for item in record.fetched)
    if len(sizes) > fetched:
        reason = f"{len(sizes) - fetched} files were added to the {fetched} fetched ones"
        remedy = f"nothing to repair if they are yours; {show_command(dataset)}"
        report.add("warning", dataset, "", reason, remedy)
    elif len(sizes) < fetched:
        reason = f"{fetched - len(sizes)} of {fetched} fetched files are missing"
        report.add("fault", dataset, "", reason, fetch_again(dataset))
    elif sum(sizes) != size:
        reason = f"its files have {sum(sizes)} bytes, fetched were {size}: some have changed"
        report.add("fault", dataset, "", reason, fetch_again(dataset))
