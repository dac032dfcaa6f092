"""The stage that finds, reads and checks every image of one data set.

Nothing is fetched from a network here: the user puts a data set, in its published layout, below
the data root; without a data root the phantoms are generated.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxseq.config.data import PhantomConfig
from voxseq.data import adapters, catalogue, checks, splits
from voxseq.data.adapters import Adapter
from voxseq.data.catalogue import DataSet
from voxseq.data.index import INDEX, SCHEMA, index_row, read_index, write_table
from voxseq.data.types import Entry, Scan, volume_id
from voxseq.errors import DataError
from voxseq.files import write_json, write_text
from voxseq.progress import track

if TYPE_CHECKING:
    from voxseq.runs import RunContext

__all__ = ["dataset_folder", "execute", "read_index"]

_LOG = logging.getLogger("voxseq.download")
RAW = "raw"
_SHOWN = 5


@dataclass
class _Outcome:
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


def dataset_folder(download_out: Path, data_root: Path | None, dataset: str) -> Path:
    """Folder with the files of ``dataset``: the user's, or the generated one of the run."""
    if data_root is None:
        return download_out / RAW
    return data_root / catalogue.get(dataset).folder


def execute(context: RunContext) -> None:
    """Index one data set and set its unusable images aside.

    Writes ``index.parquet``, ``splits.csv``, ``set_aside.csv`` and ``summary.json``.

    Raises:
        DataError: the data set is missing, or too few of its images are usable.
    """
    config = context.config
    dataset = catalogue.get(config["dataset"])
    folder = _provide(context, dataset)
    adapter = adapters.get(dataset.adapter)
    found = adapter.scan(folder, dataset)
    outcome = _examine_all(adapter, folder, dataset, found, config.get("task"))
    _require_whole_groups(outcome, dataset)
    notes = [*found.notes, *_assign_splits(outcome, dataset, config["split"])]
    _write(context.out, dataset, outcome, found, notes)
    _require_enough(outcome, dataset, folder, float(config["min_valid_fraction"]))
    _LOG.info(
        "%s: %d images usable, %d set aside", dataset.name, len(outcome.rows), len(outcome.aside)
    )


def _provide(context: RunContext, dataset: DataSet) -> Path:
    folder = dataset_folder(context.out, context.data_root, dataset.name)
    if context.data_root is None:
        from voxseq.data.phantoms import generate

        generate(dataset.name, folder, PhantomConfig.model_validate(context.config["phantoms"]))
    elif not folder.is_dir():
        raise DataError(
            f"{dataset.title}: the folder {folder} does not exist",
            f"put the data set there; to be had at: {dataset.access}",
        )
    return folder


def allowed_labels(dataset: DataSet, task: Mapping[str, Any] | None) -> range:
    """Values that labels may have: as the data set publishes them, before any merging."""
    count = int(dataset.options.get("labels", task["labels"] if task else 0))
    if task and task["type"] == "classification":
        return range(count)
    return range(count + 1)


def _examine_all(
    adapter: Adapter,
    folder: Path,
    dataset: DataSet,
    found: Scan,
    task: Mapping[str, Any] | None,
) -> _Outcome:
    outcome = _Outcome(aside=list(found.rejected))
    for entry in track(found.entries, f"checking {dataset.name}", len(found.entries)):
        try:
            row = _examine(adapter, folder, dataset, entry, task)
        except DataError as error:
            _LOG.warning("set aside: %s", error.what)
            outcome.aside.append((entry, error.what))
        else:
            outcome.rows.append(row)
            outcome.entries.append(entry)
    return outcome


def _examine(
    adapter: Adapter,
    folder: Path,
    dataset: DataSet,
    entry: Entry,
    task: Mapping[str, Any] | None,
) -> dict[str, Any]:
    image = adapter.read_image(folder, entry)
    measured = checks.check_image(image, entry.path)
    _check_centre(entry, image.array.shape)
    if task is not None:
        allowed = allowed_labels(dataset, task)
        if task["type"] == "classification":
            if entry.label not in allowed:
                raise DataError(f"{entry.path}: class {entry.label}, expected {list(allowed)}")
        else:
            label = adapter.read_label(folder, entry)
            if label is None:
                raise DataError(f"{entry.path}: has no segmentation")
            checks.check_label(label, image, entry.label_path, allowed)
    return index_row(dataset.name, entry, image, measured)


def _check_centre(entry: Entry, shape: Sequence[int]) -> None:
    if entry.centre is None:
        return
    if not all(0 <= c < n for c, n in zip(entry.centre, shape[:2], strict=True)):
        raise DataError(
            f"{entry.path}: the box centre {entry.centre} of {entry.image} lies outside the image, "
            f"{tuple(shape[:2])}"
        )


def _require_whole_groups(outcome: _Outcome, dataset: DataSet) -> None:
    contrasts = dataset.options.get("contrasts")
    if not contrasts:
        return
    shapes = {row["path"]: tuple(row[f"shape_{a}"] for a in "xyz") for row in outcome.rows}
    bad = checks.incomplete_groups(outcome.entries, shapes, contrasts)
    outcome.set_aside({r["volume_id"]: bad[r["group"]] for r in outcome.rows if r["group"] in bad})


def _assign_splits(outcome: _Outcome, dataset: DataSet, config: Mapping[str, Any]) -> list[str]:
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


def _refuse_crossings(outcome: _Outcome) -> None:
    """Set training images aside that a later part holds too, by subject or by content."""
    rows = outcome.rows
    by_content = splits.crossing((r["volume_id"], r["split"], r["content_hash"]) for r in rows)
    by_subject = splits.crossing((r["volume_id"], r["split"], r["subject"]) for r in rows)
    reasons = {name: f"its subject is also in a later split: {o}" for name, o in by_subject.items()}
    reasons |= {name: f"same voxels as {o} in a later split" for name, o in by_content.items()}
    outcome.set_aside(reasons)


def _write(
    out: Path, dataset: DataSet, outcome: _Outcome, found: Scan, notes: Sequence[str]
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
    write_json(out / "summary.json", summary)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _require_enough(
    outcome: _Outcome, dataset: DataSet, folder: Path, min_valid_fraction: float
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
