"""The stage that finds, reads and checks every image of one data set.

A data set lies below the data root in its published layout: the user puts it there, or it is
fetched where the configuration allows so. Without a data root the phantoms are generated.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxseq import catalogue
from voxseq.base import processes as parallel
from voxseq.base.commands import overlays_of, with_overlays
from voxseq.base.digest import digest
from voxseq.base.errors import DataError
from voxseq.base.failures import read_named, require_readable
from voxseq.base.files import write_csv, write_json
from voxseq.base.progress import track
from voxseq.catalogue import DataSet
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.data import checks, index, layouts, plausible
from voxseq.data.aligned import check_groups
from voxseq.data.axial import write_axial
from voxseq.data.channels import channel_paths, read_channels, require_one_grid
from voxseq.data.division import divide
from voxseq.data.examined import LEFT_OUT, SET_ASIDE, SUMMARY, dataset_folder, dataset_of
from voxseq.data.headers import grid_remarks
from voxseq.data.index import index_row
from voxseq.data.journal import Journal, States, require_unchanged, state_of
from voxseq.data.own import named_facts, own_needs, require_own
from voxseq.data.readers.files import dangling
from voxseq.data.scorable import require_scorable
from voxseq.data.targets import CLASSES, TARGETS
from voxseq.data.volume import Entry, Remark, Scan, Volume, volume_id
from voxseq.fetch import NotOfferedError, provide

if TYPE_CHECKING:
    from voxseq.config.runs import ExamineRun, SplitSettings, TaskNeeds
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.download")
_SPLITS = (TRAIN, VAL, TEST)
_SHOWN = 5


@dataclass
class Examination:
    """The images of a data set.

    Attributes:
        found: what its layout lists.
        rows: of the usable images in the index, in the same order as ``entries``.
        aside: images that are set aside, with the reason.
        notes: for the summary.
        remarks: on files that are used all the same, or that are no images.
    """

    found: Scan = field(default_factory=lambda: Scan(()))
    rows: list[dict[str, Any]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    aside: list[tuple[Entry, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def set_aside(self, reasons: Mapping[str, str]) -> None:
        """Move the rows with these volume ids out of the usable ones."""
        both = list(zip(self.rows, self.entries, strict=True))
        out = [(e, reasons[r["volume_id"]]) for r, e in both if r["volume_id"] in reasons]
        kept = [(row, entry) for row, entry in both if row["volume_id"] not in reasons]
        self.aside += out
        self.rows, self.entries = [row for row, _ in kept], [entry for _, entry in kept]


def execute(context: RunContext[ExamineRun]) -> None:
    """Index one data set and set its unusable images aside.

    An optional source that is not here gives an empty index; see
    :func:`voxseq.data.examined.is_left_out`.

    Writes ``index.parquet``, ``splits.csv``, ``set_aside.csv``, ``remarks.csv`` and
    ``summary.json``, and where some CT series are reformatted (RICORD) ``axial.csv``, the images
    without these.

    Raises:
        DataError: the data set is missing, or too few of its images are usable.
    """
    config = context.config
    dataset = dataset_of(config)
    try:
        folder = _provide(context, dataset)
    except NotOfferedError as error:
        if not config.optional:
            raise
        _write(context.out, dataset, Examination(notes=[LEFT_OUT]))
        _LOG.warning("left out of pre-training: %s", error.what)
        return
    examined = examine(
        dataset, folder, config.task, config.split, context.state, workers=context.workers
    )
    usable, count = len(examined.rows), len(examined.rows) + len(examined.aside)
    if config.phantoms is None:
        examined.notes += catalogue.count_notes(dataset, len(examined.found))
    examined.notes += write_axial(context.out, examined.rows)
    _write(context.out, dataset, examined)
    if not usable or usable < config.min_valid_fraction * count - 1e-9:
        images = f"{dataset.title}: {usable} of {count} images in {folder} are usable"
        lines = [f"{images}, data.min_valid_fraction asks for {config.min_valid_fraction:g}:"]
        lines += [f"  {reason}" for _, reason in examined.aside[:_SHOWN]]
        if len(examined.aside) > _SHOWN:
            lines.append(f"  and {len(examined.aside) - _SHOWN} more")
        seen = with_overlays(f"voxseq data verify {dataset.name}", overlays_of(context.logs.name))
        remedy = f"`{seen}` tells what to look at in each; or lower data.min_valid_fraction"
        raise DataError("\n".join(lines), remedy)
    check_splits(dataset, examined.rows, config.task)
    absent = examined.found.absent
    if absent:
        shown = ", ".join(absent[:_SHOWN])
        _LOG.warning("%d images that its lists name are not here, such as %s", len(absent), shown)
    for remark in examined.remarks[:_SHOWN]:
        _LOG.warning("%s: %s", remark.path, remark.reason)
    if len(examined.remarks) > _SHOWN:
        _LOG.warning("and %d more remarks in remarks.csv", len(examined.remarks) - _SHOWN)
    _LOG.info("%s: %d images usable, %d set aside", dataset.name, usable, len(examined.aside))


def _provide(context: RunContext[ExamineRun], dataset: DataSet) -> Path:
    folder = dataset_folder(context.out, context.data_root, dataset)
    if dataset.own:
        require_own(dataset, folder)
    elif context.data_root is None:
        from voxseq.phantoms import generate

        _LOG.info("%s: phantoms are generated, no real volumes", dataset.name)
        phantoms = context.config.phantoms
        assert phantoms is not None, "without a data root phantoms are configured"
        generate(dataset.name, folder, phantoms)
    else:
        provide(dataset, folder, context.fetch_bytes)
    return folder


def examine(
    dataset: DataSet,
    folder: Path,
    task: TaskNeeds | None,
    split: SplitSettings,
    state: Path | None = None,
    *,
    workers: int = 0,
) -> Examination:
    """Read and check every image of a data set, and divide the usable ones by the split.

    Args:
        dataset: row of the catalogue.
        folder: the data set's folder.
        task: that the images are to serve, if any.
        split: how subjects are divided where no lists are published.
        state: folder for the journal of what has been checked, with which a later call goes on.
        workers: processes that read images; they change nothing in the result.

    Raises:
        DataError: the folder does not hold the published layout.
    """
    with read_named(folder):
        found = layouts.listed(dataset, folder)
        if dataset.own:
            task = own_needs(found, dataset, task)
        read = {path for entry in found.entries for path in (entry.path, entry.label_path)}
        remarks = [*found.remarks, *dangling(folder, read)]
    examined = Examination(
        found, aside=list(found.rejected), notes=list(found.notes), remarks=remarks
    )
    results = _check_all(_Job(folder, dataset, task, found.ignore), found.entries, state, workers)
    for entry, result in zip(found.entries, results, strict=True):
        if "reason" in result:
            _LOG.warning("set aside: %s", result["reason"])
            examined.aside.append((entry, result["reason"]))
        else:
            examined.remarks += [Remark(*remark) for remark in result["remarks"]]
            examined.rows.append(result["row"])
            examined.entries.append(entry)
    if task is not None and task.labels:
        held = [TARGETS[task.type].held(row) for row in examined.rows]
        examined.remarks += checks.absent_classes(held, _wanted(dataset, task, found))
    contrasts = dataset.options.get("contrasts")
    if contrasts:
        bad, odd = check_groups(examined.rows, contrasts)
        examined.remarks += odd
        groups = {row["volume_id"]: row["group"] for row in examined.rows}
        examined.set_aside({name: bad[group] for name, group in groups.items() if group in bad})
    joined, reasons = divide(examined.rows, dataset, split)
    examined.set_aside(reasons)
    examined.remarks += plausible.remarks(dataset, examined.rows)
    examined.notes += [
        f"the same image under several subjects: {', '.join(group)}" for group in joined
    ]
    return examined


def _wanted(dataset: DataSet, task: TaskNeeds, found: Scan) -> dict[int, str]:
    """Names of the classes by value; a segmentation has 0 for what is none."""
    if found.labels:
        return dict(found.labels)
    names = dataset.classes or [f"{number}" for number in range(1, task.labels + 1)]
    return dict(enumerate(names, start=int(task.type == "segmentation")))


@dataclass(frozen=True)
class _Job:
    """What a process needs to know to check the images of one data set.

    Attributes:
        ignore: label value of voxels that count for nothing.
    """

    folder: Path
    dataset: DataSet
    task: TaskNeeds | None
    ignore: int | None = None

    def states(self, entry: Entry) -> States:
        """State of each file of an entry, by its path."""
        return {path: state_of(self.folder, path) for path in _paths(entry)}

    def key(self, entry: Entry, states: States) -> str:
        """Word for what is checked: the entry, its task, and the state of its files."""
        task = self.task and self.task.model_dump(mode="json")
        more = [] if self.ignore is None else [self.ignore]
        return digest([self.dataset.name, asdict(entry), list(states.values()), task, *more])


def _check_all(
    job: _Job, entries: Sequence[Entry], state: Path | None, workers: int
) -> list[dict[str, Any]]:
    """Check every image; what an earlier, stopped call has checked is taken from its journal."""
    journal = Journal(None if state is None else state / "checked.jsonl")
    states = [job.states(entry) for entry in entries]
    keys = [job.key(entry, state) for entry, state in zip(entries, states, strict=True)]
    items = zip(keys, entries, states, strict=True)
    left = {key: (entry, state) for key, entry, state in items if journal.get(key) is None}
    done = len(keys) - len(left)
    title = f"checking {job.dataset.name}"
    if done:
        _LOG.info("%s: %d of %d were checked before", title, done, len(entries))
    work = parallel.Work[tuple[Entry, States]](
        title, lambda item: volume_id(job.dataset.name, item[0]), "download"
    )
    function = functools.partial(_examine, job)
    results = parallel.in_order(function, list(left.values()), workers, work)
    for key, result in zip(left, track(results, title, len(keys), done), strict=True):
        journal.add(key, result)
    return [journal.get(key) for key in keys]


def _paths(entry: Entry) -> list[str]:
    """The files of an image and of its segmentation."""
    return [path for path in (*entry.paths, entry.label_path) if path]


def _examine(job: _Job, item: tuple[Entry, States]) -> dict[str, Any]:
    """The image's row of the index and the remarks on it, or the reason why it cannot be used.

    Raises:
        ResourceError: a file has vanished or changed since the data set was listed.
    """
    entry, before = item
    result = _row_or_reason(job, entry)
    require_unchanged(job.folder, before)
    return result


def _row_or_reason(job: _Job, entry: Entry) -> dict[str, Any]:
    try:
        return _usable_row(job, entry)
    except DataError:
        # Some libraries do not tell a failure of the machine from a damaged file.
        for path in _paths(entry):
            require_readable(job.folder / path)
    try:
        return _usable_row(job, entry)
    except DataError as error:
        return {"reason": error.what}


def _usable_row(job: _Job, entry: Entry) -> dict[str, Any]:
    adapter, names = layouts.get(job.dataset.layout), job.dataset.channels
    channels = read_channels(adapter, job.folder, entry, names)
    image = next(channels)
    measured = checks.check_image(image, entry.path)
    shape = image.array.shape
    if entry.centre and not all(0 <= c < n for c, n in zip(entry.centre, shape[:2], strict=True)):
        raise DataError(
            f"{entry.path}: the box centre {entry.centre} of {entry.image} lies outside the image, "
            f"{shape[:2]}"
        )
    row = index_row(job.dataset.name, entry, image, measured)
    row[plausible.QUANTILES] = plausible.quantiles(image.array)
    # The label is checked against the image's grid: its voxels may go before the label's come.
    grid = replace(image, array=np.broadcast_to(np.uint8(0), shape))
    remarks = [*image.remarks, *grid_remarks(image, entry.path)]
    del image
    hashes = [measured.content_hash]
    # Of the further channels only the grid and the voxels are checked.
    for path, channel in zip(channel_paths(entry, names)[1:], channels, strict=True):
        require_one_grid(grid, channel, path)
        hashes.append(checks.check_image(channel, path).content_hash)
    row["content_hash"] = checks.joined_hash(hashes)
    if job.task is not None:
        row |= _check_target(job, job.task, entry, grid, remarks)
        remarks += checks.empty_label(row.get(CLASSES, [1]), entry.label_path)
    return {"row": row, "remarks": [astuple(remark) for remark in remarks]}


def _check_target(
    job: _Job, task: TaskNeeds, entry: Entry, grid: Volume, remarks: list[Remark]
) -> dict[str, Any]:
    """Check the class, the number or the segmentation that a task needs.

    Values may be those that the data set publishes, before any merging. Remarks on the file of the
    segmentation are added to ``remarks``.

    Returns:
        What the row says of it.
    """
    if task.type == "regression":
        if entry.value is None:
            raise DataError(f"{entry.path}: has no number to predict")
        return {}
    count = len(job.dataset.classes) or task.labels
    if task.type == "classification":
        if entry.label < 0 and job.dataset.own:
            raise DataError(f"{entry.path}: has no class")
        if entry.label not in range(count):
            raise DataError(f"{entry.path}: class {entry.label}, expected {list(range(count))}")
        return {}
    label = layouts.get(job.dataset.layout).read_label(job.folder, entry)
    if label is None:
        raise DataError(f"{entry.path}: has no segmentation")
    # Without an orientation of its own, it has that of its image.
    remarks += label.remarks if label.oriented else ()
    known = {*range(count + 1)}
    ignored = {value for value in (task.ignore_label, job.ignore) if value is not None}
    values = checks.check_label(label, grid, entry.label_path, known | ignored)
    shown = [value for value in values if value not in ignored]
    return {"label_hash": checks.content_hash(label.array), CLASSES: shown}


def check_splits(
    dataset: DataSet, rows: Sequence[Mapping[str, Any]], task: TaskNeeds | None
) -> None:
    """Refuse images that are not enough for the data set's task, before any training.

    The splits that ``task`` names are looked at.

    Raises:
        DataError: see :func:`voxseq.data.scorable.require_scorable`.
    """
    if task is not None:
        target, splits = TARGETS[task.type], [row["split"] for row in rows]
        require_scorable(
            dataset.title,
            task.type,
            splits,
            [target.held(row) for row in rows],
            # Classes of a segmentation may still be merged.
            wanted=() if task.type == "segmentation" else target.wanted(task.labels),
            needed=task.splits,
        )


def _write(out: Path, dataset: DataSet, examined: Examination) -> None:
    rows = examined.rows
    index.write_table(out / index.INDEX, rows, index.SCHEMA)
    aside = [(volume_id(dataset.name, e), e.path, reason) for e, reason in examined.aside]
    write_csv(out / SET_ASIDE, ("volume_id", "path", "reason"), aside)
    remarks = [astuple(remark) for remark in examined.remarks]
    write_csv(out / "remarks.csv", ("path", "reason", "next"), remarks)
    subjects = sorted({(r["subject"], r["split"]) for r in rows})
    write_csv(out / "splits.csv", ("subject", "split"), subjects)
    summary = {
        "dataset": dataset.name,
        "found": len(rows) + len(aside),
        "usable": len(rows),
        "set_aside": len(aside),
        "listed_but_absent": len(examined.found.absent),
        "absent": sorted(examined.found.absent),
        "images": {name: sum(r["split"] == name for r in rows) for name in _SPLITS},
        "subjects": {name: sum(split == name for _, split in subjects) for name in _SPLITS},
        "notes": examined.notes,
        **named_facts(examined.found),
        "remarks": len(remarks),
    }
    write_json(out / SUMMARY, summary)
