"""Checking what lies below the data root, before anything is trained on it.

A *fault* is what a user must repair: an image that would be set aside, files that are not what was
fetched. A *warning* is what the stages handle themselves, or what only looks odd.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from voxseq import catalogue
from voxseq.base.errors import DataError, VoxseqError
from voxseq.catalogue import DataSet
from voxseq.config.data import DataConfig
from voxseq.config.runs import ExamineRun, SplitSettings, TaskNeeds
from voxseq.data.examine import Outcome, check_splits, examine
from voxseq.data.scorable import ALL_SPLITS
from voxseq.data.verify.copies import Seen, copies_found
from voxseq.data.verify.fetched import fetched_faults
from voxseq.data.verify.headers import header_items
from voxseq.data.volume import Entry, Scan
from voxseq.plan.context import RunContext

Severity = Literal["fault", "warning"]
#: Layouts whose images have one class each.
_CLASSIFIED = ("medmnist", "ricord")


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


@dataclass(frozen=True)
class Study:
    """For what the data sets are to be used.

    Attributes:
        tasks: data set → type and number of labels of the task that uses it.
        scored: data sets of the configuration's tasks, whose splits must suffice for them.
        sources: data sets that pre-training reads.
        optional: sources without which pre-training does.
        split: seed, ratio and validation_fraction, as the download stage takes them.
    """

    tasks: Mapping[str, TaskNeeds]
    sources: frozenset[str]
    split: SplitSettings
    scored: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        data: DataConfig,
        tasks: Mapping[str, TaskNeeds],
        sources: Iterable[str] | None = None,
        optional: Iterable[str] = (),
    ) -> Study:
        """Of a configuration's tasks and sources.

        A data set without a task there is taken as the catalogue says, and so are the sources
        where there is no configuration.
        """
        rows = [catalogue.get(name) for name in names]
        own = {row.name: _usual_task(row) for row in rows if row.role != "source"}
        usual = (row.name for row in rows if row.role != "task")
        chosen = frozenset(usual if sources is None else sources)
        return cls(
            {**own, **tasks}, chosen, SplitSettings.of(data), frozenset(tasks), frozenset(optional)
        )


@dataclass
class Report:
    """What was found; images counts the usable ones of every data set."""

    findings: list[Finding] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)

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
        return {
            "images": self.images,
            "faults": self.faults,
            "findings": [asdict(finding) for finding in self.findings],
        }


def verify(names: Sequence[str], root: Path, study: Study, workers: int = 0) -> Report:
    """Check data sets, alone and against each other.

    Args:
        names: data sets of the catalogue.
        root: the data root.
        study: for what they are used.
        workers: processes that read images; they change no finding.

    Raises:
        ConfigError: a name that the catalogue lacks.
    """
    report = Report()
    seen: list[Seen] = []
    for dataset in [catalogue.get(name) for name in dict.fromkeys(names)]:
        rows = _verify_one(dataset, root, study, workers, report)
        seen += [_seen(dataset, study, row) for row in rows]
        report.images[dataset.name] = len(rows)
    for copy in copies_found(seen):
        place = f"{catalogue.get(copy.dataset).folder}/{copy.path}"
        report.findings.append(Finding("warning", copy.dataset, place, copy.reason, copy.next))
    return report


def _usual_task(row: DataSet) -> TaskNeeds:
    kind: Literal["classification", "segmentation"] = (
        "classification" if row.layout in _CLASSIFIED else "segmentation"
    )
    return TaskNeeds(type=kind, labels=len(row.classes))


def _verify_one(
    dataset: DataSet, root: Path, study: Study, workers: int, report: Report
) -> list[dict[str, Any]]:
    """Add the findings of one data set; returns the rows of its usable images."""
    folder = root / dataset.folder

    def add(severity: Severity, path: str, reason: str, remedy: str) -> None:
        place = f"{dataset.folder}/{path}" if path not in ("", ".") else dataset.folder
        reason = reason.replace(f"{folder}/", "").replace(f"{folder}: ", "")
        reason = reason.removeprefix(f"{path}: ")
        report.findings.append(Finding(severity, dataset.name, place, reason, remedy))

    if not folder.is_dir():
        if dataset.name in study.optional:
            add("warning", "", "not here: pre-training does without it", _obtain(dataset))
        else:
            add("fault", "", "the folder does not exist", _obtain(dataset))
        return []
    for severity, path, reason, remedy in fetched_faults(dataset, folder):
        add(severity, path, reason, remedy or _renew(dataset))
    try:
        outcome, found, _ = _examined(dataset, folder, study, workers)
    except VoxseqError as error:
        add("fault", "", error.what, f"{error.hint or 'obtain it again'}; {_show(dataset)}")
        return []
    for severity, path, reason, remedy in (
        *_of_scan(dataset, found),
        *_of_images(dataset, folder, outcome),
    ):
        add(severity, path, reason, remedy)
    if dataset.name in study.scored:
        try:
            task = study.tasks[dataset.name].model_copy(update={"splits": ALL_SPLITS})
            check_splits(dataset, outcome.rows, task)
        except DataError as error:
            add("fault", "", error.what, error.hint or _show(dataset))
    return outcome.rows


def _examined(
    dataset: DataSet, folder: Path, study: Study, workers: int
) -> tuple[Outcome, Scan, list[str]]:
    """What the download stage would make of the folder."""
    config = ExamineRun(
        dataset=dataset.name,
        min_valid_fraction=1.0,
        split=study.split,
        task=study.tasks.get(dataset.name),
    )
    with tempfile.TemporaryDirectory(prefix="voxseq-verify-") as place:
        state = Path(place)
        context = RunContext(
            f"verify/{dataset.name}", config, state, state, {}, folder.parent, workers
        )
        return examine(context, dataset, folder)


_Item = tuple[Severity, str, str, str]


def _of_scan(dataset: DataSet, found: Scan) -> Iterable[_Item]:
    """Numbers, and what the layout itself says."""
    count = len(found.entries) + len(found.rejected)
    enough = f"a part is enough to work with; {_show(dataset)} tells how to get the rest"
    for note in catalogue.count_notes(dataset, count):
        yield "warning", "", note, enough
    if found.absent:
        shown = ", ".join(found.absent[:3])
        reason = f"{len(found.absent)} images that its lists name are missing, such as {shown}"
        yield "warning", "", reason, enough
    for note in found.notes:
        yield "warning", "", note, _show(dataset)


def _of_images(dataset: DataSet, folder: Path, outcome: Outcome) -> Iterable[_Item]:
    for entry, reason in outcome.aside:
        path = _concerned(entry, reason)
        listed = "later split" in reason
        yield "fault", path, reason, _lists(dataset) if listed else _renew(dataset)
    remedy = (
        f"compare the header with its source ({_show(dataset)}); leave the file out if it is wrong"
    )
    for row in outcome.rows:
        for severity, reason in header_items(dataset.layout, folder, row):
            yield severity, row["path"], reason, remedy


def _concerned(entry: Entry, reason: str) -> str:
    """The file that a reason is about: image, label, or one slice of a series."""
    first = reason.partition(": ")[0]
    return first if first.startswith((entry.path, entry.label_path or entry.path)) else entry.path


def _seen(dataset: DataSet, study: Study, row: Mapping[str, Any]) -> Seen:
    # As a list of Python's numbers a thumbnail takes eight times the memory.
    compact = {**row, "thumbnail": np.asarray(row["thumbnail"], dtype=np.float32)}
    return Seen(
        dataset.name,
        compact,
        is_source=dataset.name in study.sources,
        is_task=dataset.name in study.tasks,
    )


def _show(dataset: DataSet) -> str:
    return f"voxseq data show {dataset.name}"


def _obtain(dataset: DataSet) -> str:
    return f"voxseq data download {dataset.name}" if dataset.files else _show(dataset)


def _renew(dataset: DataSet) -> str:
    """How to get a damaged file anew: only whole folders are fetched."""
    if not dataset.files:
        return f"obtain it again, or leave it out; {_show(dataset)}"
    return (
        f"obtain it again or leave it out; or move {dataset.folder} away and call "
        f"voxseq data download {dataset.name}"
    )


def _lists(dataset: DataSet) -> str:
    return f"compare the lists with the published ones; {_show(dataset)}"
