"""Checking what lies below the data root, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from voxseq import catalogue
from voxseq.base.errors import DataError, VoxseqError
from voxseq.base.failures import read_named
from voxseq.catalogue import DataSet
from voxseq.catalogue.splits import TEST, VAL
from voxseq.config.data import TaskDataConfig
from voxseq.config.datasets import DataConfig
from voxseq.config.runs import SplitSettings, TaskNeeds
from voxseq.config.sets import own_for
from voxseq.data.examine import check_splits, examine
from voxseq.data.plausible import QUANTILES, outside_window
from voxseq.data.verify import report as findings
from voxseq.data.verify.copies import Seen, check_copies
from voxseq.data.verify.report import Report, fetch_again, look_at, show_command
from voxseq.data.volume import Scan

#: Layouts whose images have one class each.
_CLASSIFIED = ("medmnist", "ricord")
_OUTSIDE = "compare the image with data.window and data.scale of the task: its store leaves it out"


@dataclass(frozen=True)
class Usage:
    """For what the data sets are to be used.

    Attributes:
        tasks: data set → type and number of labels of the task that uses it, and the splits that
            must suffice for it.
        sources: data sets that pre-training reads.
        optional: sources without which pre-training does.
        sets: data sets of the user, as they are used.
        split: seed, ratio and validation_fraction, as the examination takes them.
        recipes: data set → how the configuration's task prepares its images.
    """

    tasks: Mapping[str, TaskNeeds]
    sources: frozenset[str]
    split: SplitSettings
    optional: frozenset[str] = frozenset()
    sets: Mapping[str, DataSet] = field(default_factory=dict)
    recipes: Mapping[str, TaskDataConfig] = field(default_factory=dict)

    def dataset(self, name: str) -> DataSet:
        """The data set called ``name``.

        Raises:
            ConfigError: there is none.
        """
        return self.sets.get(name) or catalogue.get(name)

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        data: DataConfig,
        tasks: Mapping[str, TaskNeeds],
        sources: Iterable[str] | None = None,
        optional: Iterable[str] = (),
        recipes: Mapping[str, TaskDataConfig] | None = None,
        sets: Mapping[str, DataSet] | None = None,
    ) -> Usage:
        """By a configuration's tasks and sources.

        A data set without a task there is taken as the catalogue says, and so are the sources
        where there is no configuration.
        """
        rows = [data.dataset(name) for name in names]
        own = {row.name: _usual_task(row) for row in rows if _has_usual_task(row)}
        usual = (row.name for row in rows if row.role != "task")
        return cls(
            tasks={**own, **tasks},
            sources=frozenset(usual if sources is None else sources),
            split=SplitSettings.of(data),
            sets=sets or {name: own_for(row, None) for name, row in data.sets.items()},
            optional=frozenset(optional),
            recipes=recipes or {},
        )


def _has_usual_task(row: DataSet) -> bool:
    """Whether a task is known without a configuration; of an own set only the study knows."""
    return row.role != "source" and not row.own


def _usual_task(row: DataSet) -> TaskNeeds:
    labels = len(row.classes)
    is_classified = row.layout in _CLASSIFIED
    return TaskNeeds(type="classification" if is_classified else "segmentation", labels=labels)


def verify(names: Sequence[str], root: Path | None, usage: Usage, workers: int = 0) -> Report:
    """Check data sets, alone and against each other.

    Args:
        names: data sets of the catalogue.
        root: the data root; None where there is none, which only own data sets do without.
        usage: for what they are used.
        workers: processes that read images; they change no finding.

    Raises:
        ConfigError: a name that the catalogue lacks.
    """
    report = Report(root)
    seen: list[Seen] = []
    for dataset in [usage.dataset(name) for name in dict.fromkeys(names)]:
        rows = _verify_one(dataset, usage, workers, report)
        report.images[dataset.name] = len(rows)
        for row in rows:
            # As a list of Python's numbers a thumbnail takes eight times the memory.
            compact = {**row, "thumbnail": np.asarray(row["thumbnail"], dtype=np.float32)}
            del compact[QUANTILES]
            is_held_out = dataset.name in usage.tasks and row["split"] in (VAL, TEST)
            seen.append(Seen(dataset, compact, dataset.name in usage.sources, is_held_out))
    check_copies(report, seen)
    return report


def _verify_one(
    dataset: DataSet, usage: Usage, workers: int, report: Report
) -> list[dict[str, Any]]:
    """Add the findings of one data set; returns the rows of its usable images."""
    folder, task = dataset.place(report.root), usage.tasks.get(dataset.name)
    assert folder is not None, "without a data root only own data sets are checked"
    show = show_command(dataset)
    with read_named(folder):
        is_here, is_link = folder.is_dir(), folder.is_symlink()
    if is_link and not is_here:
        reason = f"the link leads nowhere, to {folder.readlink()}"
        report.add("fault", dataset, "", reason, "restore what it points to, or remove the link")
        return []
    if not is_here and dataset.own:
        reason = f"the folder {folder} does not exist"
        report.add("fault", dataset, "", reason, f"correct data.sets.{dataset.name}.folder")
        return []
    if not is_here:
        obtain = f"voxseq data download {dataset.name}" if dataset.files else show
        if dataset.name in usage.optional:
            reason = "not here: pre-training does without it"
            report.add("warning", dataset, "", reason, obtain)
        else:
            report.add("fault", dataset, "", "the folder does not exist", obtain)
        return []
    try:
        is_fetched = not dataset.own and findings.check_fetched(report, dataset)
        examined = examine(dataset, folder, task, usage.split, workers=workers)
    except VoxseqError as error:
        report.add("fault", dataset, "", error.what, f"{error.hint}; {show}".removeprefix("; "))
        return []
    _check_numbers(report, dataset, examined.found)
    for entry, reason in examined.aside:
        # The reason may be about the image, its label, or one slice of a series.
        first = reason.partition(": ")[0]
        is_concerned = first.startswith((entry.path, entry.label_path or entry.path))
        listed = "put all images of a subject into one part of the split"
        if not dataset.own:
            listed = f"compare the lists with the published ones; {show}"
        again = fetch_again(dataset) if is_fetched else look_at(dataset, reason)
        remedy = listed if "later split" in reason else again
        report.add("fault", dataset, first if is_concerned else entry.path, reason, remedy)
    for remark in examined.remarks:
        report.add("warning", dataset, remark.path, remark.reason, remark.next)
    if dataset.name in usage.recipes:
        for path, reason in outside_window(examined.rows, usage.recipes[dataset.name]):
            report.add("warning", dataset, path, reason, _OUTSIDE)
    try:
        check_splits(dataset, examined.rows, task)
    except DataError as error:
        # No file is wrong: a study without this task, or with more cases, can use them.
        reason = f"{error.what}; a study with this task stops before any training"
        report.add("warning", dataset, "", reason, error.hint or show)
    return examined.rows


def _check_numbers(report: Report, dataset: DataSet, found: Scan) -> None:
    """Add what the layout itself says, and numbers that differ from the published ones."""
    show = show_command(dataset)
    enough = "nothing to repair if that is meant"
    if not dataset.own:
        enough = f"a part is enough to work with; {show} tells how to get the rest"
    for note in catalogue.count_notes(dataset, len(found)):
        report.add("warning", dataset, "", note, enough)
    if found.absent:
        shown = ", ".join(found.absent[:3])
        reason = f"{len(found.absent)} images that its lists name are missing, such as {shown}"
        report.add("warning", dataset, "", reason, enough)
    for note in found.notes:
        report.add("warning", dataset, "", note, show)
