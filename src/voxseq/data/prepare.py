"""The stage that prepares the images of one data set and writes them into a volume store.

As a pre-training source an image is only turned to RAS; its values and spacing stay (published
code: neither is normalised). As a downstream task it follows the task's recipe
(published recipes): RAS, foreground crop, resampling, intensity window.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxseq.base import processes as parallel
from voxseq.base.digest import digest
from voxseq.base.errors import ConfigError, DataError
from voxseq.base.files import write_csv
from voxseq.base.progress import track
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.config.data import IGNORED, chosen_channels
from voxseq.data import grid as resample
from voxseq.data import journal as staging
from voxseq.data import layouts as adapters
from voxseq.data.channels import is_near, read_channels
from voxseq.data.checks import content_hash, single_hashes
from voxseq.data.examined import SET_ASIDE, dataset_folder, dataset_of, is_left_out
from voxseq.data.index import entry_of, read_rows
from voxseq.data.layouts import Adapter
from voxseq.data.prepared import (
    NothingShownError,
    geometry_columns,
    place_label,
    prepare_image,
)
from voxseq.data.scorable import require_scorable
from voxseq.data.slabs import class_counts, slabs
from voxseq.data.store import StoreWriter
from voxseq.data.targets import TARGETS
from voxseq.data.volume import Array, Volume

if TYPE_CHECKING:
    from voxseq.config.runs import PrepareRun, TaskPreparation
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.preprocess")
#: In the record of a volume: why it is set aside.
_ASIDE = "set_aside"
#: In the record of a volume: where its arrays are in its files.
_PLACES = "places"


@dataclass(frozen=True)
class _Reader:
    """Reads images and labels of one data set, which must be those that were indexed.

    Whatever the format, it is the voxels that are compared, as they are used.
    """

    adapter: Adapter
    folder: Path
    channels: tuple[str, ...]

    def image(self, row: Mapping[str, Any], chosen: Sequence[int]) -> list[Volume]:
        """Chosen channels of the image of a row of the index, as stored."""
        with _unchanged(row["path"]):
            read = read_channels(self.adapter, self.folder, entry_of(row), self.channels, chosen)
            volumes = list(read)
            hashes = single_hashes(row["content_hash"])
            affine = np.reshape(row["affine"], (4, 4))
            for number, volume in zip(chosen, volumes, strict=True):
                _compare(volume.array, hashes[number], "other voxels")
                # The index has the place of the first channel, near which the others are.
                is_same = np.array_equal(volume.affine, affine)
                if not is_same and (number == 0 or not is_near(volume, affine)):
                    raise DataError("another place or spacing of its voxels")
        return volumes

    def label(self, row: Mapping[str, Any]) -> Array:
        """Its label values as stored, voxel for voxel on the image's grid."""
        with _unchanged(row["label_path"] or row["path"]):
            label = self.adapter.read_label(self.folder, entry_of(row))
            if label is None:
                raise DataError("no segmentation")
            _compare(label.array, row["label_hash"], "other classes")
        return label.array


@contextmanager
def _unchanged(path: str) -> Iterator[None]:
    """Whatever is wrong with a file here was not so when the download stage checked it.

    Raises:
        DataError: in place of that of the block; it names the file and the next step.
    """
    try:
        yield
    except DataError as error:
        reason = error.what.removeprefix(f"{path}: ")
        raise DataError(
            f"{path}: changed since the download stage checked it: {reason}",
            "restore the file; or, where the new one is meant, give data.release another value: "
            "the stage download then checks the data sets anew",
        ) from None


def _compare(array: Array, expected: str, difference: str) -> None:
    if expected and content_hash(array) != expected:
        raise DataError(difference)


@dataclass(frozen=True)
class _Job:
    """What a process needs to know to prepare the images of one data set.

    Attributes:
        config: of the run.
        folder: of the data set.
        staged: where finished volumes are kept until all are.
    """

    config: PrepareRun
    folder: Path
    staged: Path

    def place(self, key: int) -> Path:
        """Folder of one finished volume."""
        return self.staged / f"{key:06d}"


@dataclass(frozen=True)
class _Item:
    """One image, or of a source one channel of it.

    Attributes:
        key: running number.
        row: of the index.
        channels: numbers of the channels that are read.
        name: of the one channel that it is; "" where images have no several, or all are together.
    """

    key: int
    row: dict[str, Any]
    channels: tuple[int, ...]
    name: str = ""

    @property
    def source(self) -> str:
        """What it is made of, in one word."""
        return digest([self.row, self.channels, self.name])


def execute(context: RunContext[PrepareRun]) -> None:
    """Write the store of one data set.

    Only training images of a data set serve as a source: its validation and test images are kept
    out of pre-training. An image of a task that shows nothing as it is prepared is set aside, in
    ``set_aside.csv``. Every volume is kept when it is finished, so that a stopped run goes on
    with the next; neither that nor the number of processes changes a byte.

    Raises:
        DataError: an image has changed since it was checked, too few are left, or those of a task
            are not enough for it.
        ConfigError: merged labels do not fit the task's classes.
    """
    config = context.config
    dataset = dataset_of(config)
    download = context.input(f"download/{dataset.name}")
    folder = dataset_folder(download, context.data_root, dataset)
    rows = read_rows(download)
    if config.task is None:
        rows = [row for row in rows if row["split"] == TRAIN]
    if not rows and not is_left_out(download):
        raise DataError(f"{dataset.title}: no image to prepare", "look at its set_aside.csv")
    job = _Job(config, folder, context.state / "volumes")
    items = list(_items(rows, config, dataset.channels))
    _prepare_all(job, items, context.workers, dataset.name)
    writer = StoreWriter(context.out, config.store)
    made: list[Mapping[str, Any]] = []
    aside: list[tuple[str, str, str]] = []
    for item in items:
        row, content = item.row, staging.content(job.place(item.key))
        if _ASIDE in content:
            aside.append((row["volume_id"], row["path"], content[_ASIDE]))
        else:
            places = content.pop(_PLACES)
            made.append({**row, **content})
            writer.adopt(len(made) - 1, made[-1], places, job.place(item.key))
    if aside:
        _set_aside(context.out, dataset.title, aside, len(made))
    if config.task is not None:
        task, target = config.task, TARGETS[config.task.type]
        # Merging may have left a case or a split without a class.
        require_scorable(
            context.run_id.removeprefix("preprocess/"),
            task.type,
            [row["split"] for row in made],
            [target.held(row) for row in made],
            wanted=target.wanted(task.labels),
            needed=task.splits,
        )
    writer.close()


def _set_aside(out: Path, title: str, aside: Sequence[tuple[str, str, str]], kept: int) -> None:
    """Name the images from which nothing can be learnt as they are prepared.

    Raises:
        DataError: they are the most: the recipe is wrong, not they.
    """
    write_csv(out / SET_ASIDE, ("volume_id", "path", "reason"), aside)
    for _, path, reason in aside:
        _LOG.warning("set aside: %s: %s", path, reason)
    if len(aside) > kept:
        raise DataError(
            f"{title}: {len(aside)} of {len(aside) + kept} images are set aside, such as "
            f"{aside[0][1]}: {aside[0][2]}",
            "compare data.window, data.scale and data.normalise of the task with the intensities "
            "of its images (voxseq data verify names odd ones)",
        )


def _items(
    rows: Sequence[dict[str, Any]], config: PrepareRun, names: Sequence[str]
) -> Iterator[_Item]:
    """What becomes a volume: of a task each image, of a source each channel that is used."""
    if config.task is not None:
        chosen = tuple(chosen_channels(names, config.task.data.channels))
        yield from (_Item(key, row, chosen) for key, row in enumerate(rows))
        return
    numbers = chosen_channels(names, config.channels)
    pairs = [(row, number) for row in rows for number in numbers]
    for key, (row, number) in enumerate(pairs):
        yield _Item(key, row, (number,), names[number])


def _prepare_all(job: _Job, items: Sequence[_Item], workers: int, name: str) -> None:
    """Prepare the volumes that an earlier, stopped call has not finished."""
    staging.remove_partial(job.staged)
    left = [item for item in items if not staging.finished(job.place(item.key), item.source)]
    done = len(items) - len(left)
    if done:
        _LOG.info("%s: %d of %d volumes were prepared before", name, done, len(items))
    title = f"preparing {name}"
    work = parallel.Work[_Item](title, lambda item: str(item.row["volume_id"]), "preprocess")
    results = parallel.in_order(functools.partial(_prepare, job), left, workers, work)
    for _ in track(results, title, len(items), done):
        pass


def _prepare(job: _Job, item: _Item) -> None:
    """Prepare one volume and keep it."""
    dataset = dataset_of(job.config)
    reader = _Reader(adapters.get(dataset.layout), job.folder, dataset.channels)
    with staging.staged(job.place(item.key)) as folder:
        writer = StoreWriter(folder, job.config.store)
        try:
            if job.config.task is None:
                _add_source(writer, item, reader)
            else:
                _add_case(writer, item, reader, job.config.task)
            found, places = writer.piece(item.key)
            made = {k: v for k, v in found.items() if k not in item.row or v != item.row[k]}
            made[_PLACES] = places
        except NothingShownError as error:
            made = {_ASIDE: error.what}
        staging.write_record(folder, item.source, made)


def _add_source(writer: StoreWriter, item: _Item, reader: _Reader) -> None:
    """Add one channel of an image as a source of pre-training, as it is stored."""
    row = item.row
    (volume,) = reader.image(row, item.channels)
    if item.name:
        # Its channels are the aligned contrasts of an image.
        (number,) = item.channels
        row = {
            **row,
            "channel": item.name,
            "content_hash": single_hashes(row["content_hash"])[number],
            "contrast": row["contrast"] or item.name.lower(),
            "group": row["group"] or row["volume_id"],
        }
    image, spacing = resample.to_ras(volume)
    geometry = geometry_columns(image.shape, ((0, 0, 0), image.shape), image.shape, spacing)
    writer.add(item.key, image, None, {**row, **geometry})


def _add_case(writer: StoreWriter, item: _Item, reader: _Reader, task: TaskPreparation) -> None:
    """Add an image of a task, with its segmentation if it is for one."""
    row, whole = item.row, None
    if task.type == "segmentation":
        # Read first: merged classes take less memory than what is stored.
        values = reader.label(row)
        whole = merge_labels(
            values, task.data.merge_labels, task.labels, row["label_path"], task.ignore_label
        )
        del values
    volumes = reader.image(row, item.channels)
    made = prepare_image(volumes, task.data)
    del volumes
    label = None
    if whole is not None:
        whole, label = place_label(whole, made)
    is_scored = task.native_labels and row["split"] in {VAL, TEST}
    is_window = task.data.normalise == "window"
    floors = [0.0 if is_window else float(channel.min()) for channel in made.image]
    native_label = whole if is_scored else None
    writer.add(item.key, made.image, label, {**row, **made.columns}, native_label, floors)


def merge_labels(
    label: Array,
    merge: Mapping[int, int],
    classes: int,
    path: str,
    ignored: int | None = None,
) -> Array:
    """Replace label values, and check that only the task's classes are left; uint8.

    Args:
        label: (X, Y, Z) values from 0 to 255.
        merge: value → value it becomes.
        classes: number of foreground classes of the task.
        path: for the message.
        ignored: value of voxels without a known class, which becomes ``IGNORED``.

    Raises:
        ConfigError: a value above ``classes`` is left.
    """
    table = np.arange(256, dtype=np.uint8)
    for old, new in merge.items():
        table[old] = new
    if ignored is not None:
        table[ignored] = IGNORED
    merged = np.empty_like(label, dtype=np.uint8)
    for box in slabs(merged):
        merged[box] = table[label[box].astype(np.uint8)]
    counts = class_counts(merged)
    if ignored is not None:
        counts[IGNORED] = 0
    highest = int(np.flatnonzero(counts).max(initial=0))
    if highest > classes:
        raise ConfigError(
            f"{path}: label value {highest} is left after merge_labels, but the task names "
            f"{classes} foreground classes",
            "name all classes in labels, merge the others in data.merge_labels, or leave them out "
            "by ignore_label",
        )
    return merged
