"""The stage that finds, reads and checks every image of one data set.

A data set lies below the data root in its published layout: the user puts it there, or it is
fetched where the configuration allows so. Without a data root the phantoms are generated.
"""

from __future__ import annotations

import csv
import functools
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxseq import catalogue
from voxseq.base import processes as parallel
from voxseq.base.digest import digest
from voxseq.base.errors import DataError
from voxseq.base.failures import require_readable
from voxseq.base.files import write_json, write_text
from voxseq.base.progress import track
from voxseq.catalogue import DataSet, splits
from voxseq.config.data import PhantomConfig
from voxseq.data import checks
from voxseq.data import journal as staging
from voxseq.data import layouts as adapters
from voxseq.data.index import (
    INDEX,
    LEFT_OUT,
    SCHEMA,
    SUMMARY,
    dataset_folder,
    index_row,
    write_table,
)
from voxseq.data.layouts import Adapter
from voxseq.data.scorable import require_scorable
from voxseq.data.volume import REFORMATTED, Entry, Scan, Volume, volume_id
from voxseq.fetch import NotOfferedError, provide

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext


_LOG = logging.getLogger("voxseq.download")
_SHOWN = 5
#: What a checked segmentation holds, beside the columns of the index.
CLASSES = "classes"


@dataclass
class Outcome:
    """Rows of usable images, and images set aside with the reason."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    aside: list[tuple[Entry, str]] = field(default_factory=list)

    def set_aside(self, reasons: Mapping[str, str]) -> None:
        """Move the rows with these volume ids out of the usable ones."""
        keep = [i for i, row in enumerate(self.rows) if row["volume_id"] not in reasons]
        self.aside += [
            (entry, reasons[row["volume_id"]])
            for row, entry in zip(self.rows, self.entries, strict=True)
            if row["volume_id"] in reasons
        ]
        self.rows = [self.rows[i] for i in keep]
        self.entries = [self.entries[i] for i in keep]


def execute(context: RunContext) -> None:
    """Index one data set and set its unusable images aside.

    An optional source that is not here gives an empty index; see :func:`is_left_out`.

    Writes ``index.parquet``, ``splits.csv``, ``set_aside.csv`` and ``summary.json``, and where some
    CT series are reformatted (RICORD) ``axial.csv``, the images without these.

    Raises:
        DataError: the data set is missing, or too few of its images are usable.
    """
    config = context.config
    dataset = catalogue.get(config["dataset"])
    try:
        folder = _provide(context, dataset)
    except NotOfferedError as error:
        if not config.get("optional"):
            raise
        _write(context.out, dataset, Outcome(), Scan(()), [LEFT_OUT])
        _LOG.warning("left out of pre-training: %s", error.what)
        return
    outcome, found, notes = examine(context, dataset, folder)
    if context.data_root is not None:
        notes += catalogue.count_notes(dataset, len(found.entries) + len(found.rejected))
    notes += _write_axial(context.out, outcome)
    _write(context.out, dataset, outcome, found, notes)
    _require_enough(outcome, dataset, folder, float(config["min_valid_fraction"]))
    check_splits(dataset, outcome.rows, config["task"])
    _LOG.info(
        "%s: %d images usable, %d set aside", dataset.name, len(outcome.rows), len(outcome.aside)
    )


def examine(context: RunContext, dataset: DataSet, folder: Path) -> tuple[Outcome, Scan, list[str]]:
    """Read and check every image of a data set, and divide the usable ones by the split.

    Args:
        context: its configuration's ``task`` and ``split`` are read; the journal of what has been
            checked lies in its state folder.
        dataset: row of the catalogue.
        folder: the data set's folder.

    Returns:
        The outcome, what the adapter found, and notes for the summary.

    Raises:
        DataError: the folder does not hold the published layout.
    """
    config = context.config
    found = adapters.get(dataset.adapter).scan(folder, dataset)
    outcome = _examine_all(context, _Job(folder, dataset, config.get("task")), found)
    _require_whole_groups(outcome, dataset)
    return outcome, found, [*found.notes, *_assign_splits(outcome, dataset, config["split"])]


def _provide(context: RunContext, dataset: DataSet) -> Path:
    folder = dataset_folder(context.out, context.data_root, dataset.name)
    if context.data_root is None:
        from voxseq.phantoms import generate

        _LOG.info("%s: phantoms are generated, no real volumes", dataset.name)
        generate(dataset.name, folder, PhantomConfig.model_validate(context.config["phantoms"]))
    else:
        provide(dataset, folder, context.fetch_bytes)
    return folder


def allowed_labels(dataset: DataSet, task: Mapping[str, Any] | None) -> range:
    """Values that labels may have: as the data set publishes them, before any merging."""
    count = int(dataset.options.get("labels", task["labels"] if task else 0))
    if task and task["type"] == "classification":
        return range(count)
    return range(count + 1)


@dataclass(frozen=True)
class _Job:
    """What a process needs to know to check the images of one data set."""

    folder: Path
    dataset: DataSet
    task: Mapping[str, Any] | None

    def key(self, entry: Entry) -> str:
        """Word for what is checked: the entry, its task, and the state of its files."""
        files = [staging.state_of(self.folder, p) for p in (entry.path, entry.label_path) if p]
        return digest([self.dataset.name, asdict(entry), files, dict(self.task or {})])


def _examine_all(context: RunContext, job: _Job, found: Scan) -> Outcome:
    """Check every image; what an earlier, stopped call has checked is taken from its journal."""
    journal = staging.Journal(context.state / "checked.jsonl")
    keys = [job.key(entry) for entry in found.entries]
    both = zip(found.entries, keys, strict=True)
    left = {key: entry for entry, key in both if journal.get(key) is None}
    done = len(keys) - len(left)
    title = f"checking {job.dataset.name}"
    if done:
        _LOG.info("%s: %d of %d were checked before", title, done, len(found.entries))
    work = parallel.Work[Entry](title, lambda e: volume_id(job.dataset.name, e), "download")
    function = functools.partial(_examine, job)
    results = parallel.in_order(function, list(left.values()), context.workers, work)
    for key, result in zip(left, track(results, title, len(keys), done), strict=True):
        journal.add(key, result)
    return _gather(found, [journal.get(key) for key in keys])


def _gather(found: Scan, results: Sequence[Mapping[str, Any]]) -> Outcome:
    outcome = Outcome(aside=list(found.rejected))
    for entry, result in zip(found.entries, results, strict=True):
        if "reason" in result:
            _LOG.warning("set aside: %s", result["reason"])
            outcome.aside.append((entry, result["reason"]))
        else:
            outcome.rows.append(result["row"])
            outcome.entries.append(entry)
    return outcome


def _examine(job: _Job, entry: Entry) -> dict[str, Any]:
    """The image's row of the index, or the reason why it cannot be used."""
    adapter = adapters.get(job.dataset.adapter)
    try:
        return {"row": _usable_row(job, adapter, entry)}
    except DataError:
        # Some libraries do not tell a failure of the machine from a damaged file.
        for path in filter(None, (entry.path, entry.label_path)):
            require_readable(job.folder / path)
    try:
        return {"row": _usable_row(job, adapter, entry)}
    except DataError as error:
        return {"reason": error.what}


def _usable_row(job: _Job, adapter: Adapter, entry: Entry) -> dict[str, Any]:
    image = adapter.read_image(job.folder, entry)
    measured = checks.check_image(image, entry.path)
    _check_centre(entry, image.array.shape)
    row = index_row(job.dataset.name, entry, image, measured)
    # The label is checked against the image's grid: its voxels may go before the label's come.
    grid = replace(image, array=np.broadcast_to(np.uint8(0), image.array.shape))
    del image
    if job.task is not None:
        row |= _check_target(job, adapter, entry, grid)
    return row


def _check_target(job: _Job, adapter: Adapter, entry: Entry, grid: Volume) -> dict[str, Any]:
    """Check the class or the segmentation that a task needs; returns what the row says of it."""
    task = job.task or {}
    allowed = allowed_labels(job.dataset, task)
    if task["type"] == "classification":
        if entry.label not in allowed:
            raise DataError(f"{entry.path}: class {entry.label}, expected {list(allowed)}")
        return {}
    label = adapter.read_label(job.folder, entry)
    if label is None:
        raise DataError(f"{entry.path}: has no segmentation")
    values = checks.check_label(label, grid, entry.label_path, allowed)
    return {"label_hash": checks.content_hash(label.array), CLASSES: values}


def _check_centre(entry: Entry, shape: Sequence[int]) -> None:
    if entry.centre is None:
        return
    if not all(0 <= c < n for c, n in zip(entry.centre, shape[:2], strict=True)):
        raise DataError(
            f"{entry.path}: the box centre {entry.centre} of {entry.image} lies outside the image, "
            f"{tuple(shape[:2])}"
        )


def check_splits(
    dataset: DataSet, rows: Sequence[Mapping[str, Any]], task: Mapping[str, Any] | None
) -> None:
    """Refuse images that are not enough for the data set's task, before any training.

    The splits that ``task`` names are looked at.

    Raises:
        DataError: see :func:`voxseq.data.scorable.require_scorable`.
    """
    if task is not None:
        classes = [row.get(CLASSES, [row["label"]]) for row in rows]
        splits, needed = [row["split"] for row in rows], task.get("splits", ())
        require_scorable(dataset.title, task["type"], splits, classes, needed=needed)


def _require_whole_groups(outcome: Outcome, dataset: DataSet) -> None:
    contrasts = dataset.options.get("contrasts")
    if not contrasts:
        return
    shapes = {row["path"]: tuple(row[f"shape_{a}"] for a in "xyz") for row in outcome.rows}
    bad = checks.incomplete_groups(outcome.entries, shapes, contrasts)
    outcome.set_aside({r["volume_id"]: bad[r["group"]] for r in outcome.rows if r["group"] in bad})


def _assign_splits(outcome: Outcome, dataset: DataSet, config: Mapping[str, Any]) -> list[str]:
    """Fill the column split of every row; returns notes for the summary."""
    rows, seed = outcome.rows, int(config["seed"])
    published = any(row["split"] for row in rows)
    images = [(row["subject"], row["content_hash"]) for row in rows]
    joined = splits.joined_subjects(images)
    if published:
        _hold_out_validation(rows, float(config["validation_fraction"]), seed)
    elif dataset.role == "source":
        for row in rows:
            row["split"] = splits.TRAIN
    else:
        train, val, test = (float(r) for r in config["ratio"])
        parts = splits.ratio_split({s for s, _ in images}, (train, val, test), seed, joined)
        for row in rows:
            row["split"] = parts[row["subject"]]
    _refuse_crossings(outcome)
    return [f"the same image under several subjects: {', '.join(group)}" for group in joined]


def _hold_out_validation(rows: list[dict[str, Any]], fraction: float, seed: int) -> None:
    """Take a validation part from the training list where the layout publishes none."""
    if any(row["split"] == splits.VAL for row in rows):
        return
    training = {row["subject"] for row in rows if row["split"] == splits.TRAIN}
    chosen = splits.hold_out(training, fraction, seed)
    for row in rows:
        if row["split"] == splits.TRAIN and row["subject"] in chosen:
            row["split"] = splits.VAL


def _refuse_crossings(outcome: Outcome) -> None:
    """Set training images aside that a later part holds too, by subject or by content."""
    rows = outcome.rows
    by_content = splits.crossing((r["volume_id"], r["split"], r["content_hash"]) for r in rows)
    by_subject = splits.crossing((r["volume_id"], r["split"], r["subject"]) for r in rows)
    reasons = {name: f"its subject is also in a later split: {o}" for name, o in by_subject.items()}
    reasons |= {name: f"same voxels as {o} in a later split" for name, o in by_content.items()}
    outcome.set_aside(reasons)


def _write(
    out: Path, dataset: DataSet, outcome: Outcome, found: Scan, notes: Sequence[str]
) -> None:
    write_table(out / INDEX, outcome.rows, SCHEMA)
    aside = [(volume_id(dataset.name, e), e.path, reason) for e, reason in outcome.aside]
    _write_csv(out / "set_aside.csv", ("volume_id", "path", "reason"), aside)
    subjects = sorted({(r["subject"], r["split"]) for r in outcome.rows})
    _write_csv(out / "splits.csv", ("subject", "split"), subjects)
    names = (splits.TRAIN, splits.VAL, splits.TEST)
    summary = {
        "dataset": dataset.name,
        "found": len(outcome.rows) + len(aside),
        "usable": len(outcome.rows),
        "set_aside": len(aside),
        "listed_but_absent": len(found.absent),
        "absent": sorted(found.absent),
        "images": {name: sum(r["split"] == name for r in outcome.rows) for name in names},
        "subjects": {name: sum(split == name for _, split in subjects) for name in names},
        "notes": list(notes),
    }
    write_json(out / SUMMARY, summary)


def _write_axial(out: Path, outcome: Outcome) -> list[str]:
    """List the axial series where others are among them; returns notes for the summary.

    Where the plane of a series tells its class (RICORD), scores on the axial ones say more.
    """
    axial = [row for row in outcome.rows if row["contrast"] != REFORMATTED]
    count = len(outcome.rows) - len(axial)
    if not count:
        return []
    columns = ("volume_id", "subject", "split", "label")
    _write_csv(out / "axial.csv", columns, [[str(row[c]) for c in columns] for row in axial])
    notes = [f"{count} of {len(outcome.rows)} series are reformatted; axial.csv lists the others"]
    for split in (splits.TRAIN, splits.VAL, splits.TEST):
        rows = [row for row in outcome.rows if row["split"] == split]
        for label in sorted({row["label"] for row in rows}):
            of_class = [row for row in rows if row["label"] == label]
            some = sum(row["contrast"] == REFORMATTED for row in of_class)
            if some:
                notes.append(f"{split}, class {label}: {some} of {len(of_class)} are reformatted")
    return notes


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _require_enough(
    outcome: Outcome, dataset: DataSet, folder: Path, min_valid_fraction: float
) -> None:
    total = len(outcome.rows) + len(outcome.aside)
    usable = len(outcome.rows)
    if usable and usable >= min_valid_fraction * total - 1e-9:
        return
    shown = [f"  {reason}" for _, reason in outcome.aside[:_SHOWN]]
    more = len(outcome.aside) - len(shown)
    if more > 0:
        shown.append(f"  and {more} more")
    raise DataError(
        "\n".join(
            [
                f"{dataset.title}: {usable} of {total} images in {folder} are usable, "
                f"data.min_valid_fraction asks for {min_valid_fraction:g}:",
                *shown,
            ]
        ),
        "obtain these files again, or lower data.min_valid_fraction",
    )
