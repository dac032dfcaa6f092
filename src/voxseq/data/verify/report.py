"""The report of a check of data sets: faults and warnings, each with what to do next.

A *fault* is what a user must repair: an image that would be set aside, files that are not what was
fetched. A *warning* is what the stages handle themselves, or what only looks odd.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from voxseq.catalogue import DataSet

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

    root: Path
    findings: list[Finding] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)

    def add(
        self, severity: Severity, dataset: DataSet, path: str, reason: str, next_step: str
    ) -> None:
        """Add a finding about ``path``, relative to the data set's folder; "" is the folder."""
        folder = self.root / dataset.folder
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
        usable = sum(self.images.values())
        warnings = len(self.findings) - self.faults
        return (
            f"{len(self.images)} data sets, {usable} usable images: {self.faults} faults, "
            f"{warnings} warnings"
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        findings = [asdict(finding) for finding in self.findings]
        return {"images": self.images, "faults": self.faults, "findings": findings}


def show_command(dataset: DataSet) -> str:
    """The command that tells everything about a data set."""
    return f"voxseq data show {dataset.name}"


def obtain_again(dataset: DataSet) -> str:
    """How to get a damaged file anew: only whole folders are fetched."""
    if not dataset.files:
        return f"obtain it again, or leave it out; {show_command(dataset)}"
    return (
        f"obtain it again or leave it out; or move {dataset.folder} away and call "
        f"voxseq data download {dataset.name}"
    )
