"""The stage that prepares the images of one data set and writes them into a volume store.

As a pre-training source an image is only turned to RAS; its values and spacing stay (published
code: neither is normalised). As a downstream task it follows the task's recipe
(published recipes): RAS, foreground crop, resampling, intensity window.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxseq.base import processes as parallel
from voxseq.base.digest import digest
from voxseq.base.errors import ConfigError, DataError
from voxseq.base.files import write_csv
from voxseq.base.progress import track
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.config.data import TaskDataConfig
from voxseq.data import grid as resample
from voxseq.data import journal as staging
from voxseq.data import layouts as adapters
from voxseq.data.checks import content_hash
from voxseq.data.examined import SET_ASIDE, dataset_folder, dataset_of, is_left_out
from voxseq.data.grid import regrid
from voxseq.data.index import entry_of, read_rows
from voxseq.data.layouts import Adapter
from voxseq.data.plausible import LEAST_INSIDE
from voxseq.data.scorable import require_scorable
from voxseq.data.slabs import slabs, standard_deviation
from voxseq.data.store import StoreWriter
from voxseq.data.volume import Array, Volume

if TYPE_CHECKING:
    from voxseq.config.runs import PrepareRun, TaskPreparation
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.preprocess")
#: Least standard deviation that a z-score divides by.
_LEAST_SD = 1e-6
#: In the record of a volume: why it is set aside.
_ASIDE = "set_aside"
#: In the record of a volume: where its arrays are in its files.
_PLACES = "places"


class _NothingLeft(Exception):  # noqa: N818
    """An image from which nothing can be learnt as it is prepared; says why."""


@dataclass(frozen=True)
class _Reader:
    """Reads images and labels of one data set, which must be those that were indexed.

    Whatever the format, it is the voxels that are compared, as they are used.
    """

    adapter: Adapter
    folder: Path

    def image(self, row: Mapping[str, Any]) -> Volume:
        """The image of a row of the index, as stored."""
        with _unchanged(row["path"]):
            volume = self.adapter.read_image(self.folder, entry_of(row))
            _compare(volume.array, row["content_hash"], "other voxels")
            if not np.array_equal(volume.affine.ravel(), row["affine"]):
                raise DataError("another place or spacing of its voxels")
        return volume

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
    """One image: its running number, its row of the index, and that row in one word."""

    key: int
    row: dict[str, Any]
    source: str


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
    download = context.inputs[f"download/{dataset.name}"]
    folder = dataset_folder(download, context.data_root, dataset)
    rows = read_rows(download)
    if config.task is None:
        rows = [row for row in rows if row["split"] == TRAIN]
    if not rows and not is_left_out(download):
        raise DataError(f"{dataset.title}: no image to prepare", "look at its set_aside.csv")
    job = _Job(config, folder, context.state / "volumes")
    _prepare_all(job, rows, context.workers, dataset.name)
    writer = StoreWriter(context.out, config.store)
    made: list[Mapping[str, Any]] = []
    aside: list[tuple[str, str, str]] = []
    for key, row in enumerate(rows):
        content = staging.content(job.place(key))
        if _ASIDE in content:
            aside.append((row["volume_id"], row["path"], content[_ASIDE]))
        else:
            places = content.pop(_PLACES)
            made.append({**row, **content})
            writer.adopt(len(made) - 1, made[-1], places, job.place(key))
    if aside:
        _set_aside(context.out, dataset.title, aside, len(made))
    if config.task is not None:
        task = config.task
        # Merging may have left a case or a split without a class.
        require_scorable(
            context.run_id.removeprefix("preprocess/"),
            task.type,
            [row["split"] for row in made],
            [[int(n) for n in json.loads(row["voxels"])] or [row["label"]] for row in made],
            wanted=range(1, task.labels + 1) if task.type == "segmentation" else (),
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


def _prepare_all(job: _Job, rows: Sequence[dict[str, Any]], workers: int, name: str) -> None:
    """Prepare the volumes that an earlier, stopped call has not finished."""
    staging.remove_partial(job.staged)
    items = [_Item(key, row, digest(row)) for key, row in enumerate(rows)]
    left = [item for item in items if not staging.finished(job.place(item.key), item.source)]
    done = len(rows) - len(left)
    if done:
        _LOG.info("%s: %d of %d volumes were prepared before", name, done, len(rows))
    title = f"preparing {name}"
    work = parallel.Work[_Item](title, lambda item: str(item.row["volume_id"]), "preprocess")
    results = parallel.in_order(functools.partial(_prepare, job), left, workers, work)
    for _ in track(results, title, len(rows), done):
        pass


def _prepare(job: _Job, item: _Item) -> None:
    """Prepare one volume and keep it."""
    adapter = adapters.get(dataset_of(job.config).layout)
    with staging.staged(job.place(item.key)) as folder:
        writer = StoreWriter(folder, job.config.store)
        try:
            _add(writer, item.key, item.row, _Reader(adapter, job.folder), job.config.task)
            found, places = writer.piece(item.key)
            made = {k: value for k, value in found.items() if k not in item.row}
            made[_PLACES] = places
        except _NothingLeft as error:
            made = {_ASIDE: str(error)}
        staging.write_record(folder, item.source, made)


def _add(
    writer: StoreWriter,
    key: int,
    row: dict[str, Any],
    reader: _Reader,
    task: TaskPreparation | None,
) -> None:
    """Add a volume to a store, as a source of pre-training where ``task`` is None."""
    whole = None
    if task is not None and task.type == "segmentation":
        # Read first: merged classes take less memory than what is stored.
        values = reader.label(row)
        whole = merge_labels(values, task.data.merge_labels, task.labels, row["label_path"])
        del values
    volume = reader.image(row)
    image, spacing = resample.to_ras(volume)
    if whole is not None:
        # It is the image's affine that orients the classes: some labels state no orientation, or
        # a slightly different one.
        whole, _ = resample.to_ras(replace(volume, array=whole))
    del volume
    if task is None:
        box = ((0, 0, 0), image.shape)
        writer.add(key, image, None, {**row, **_geometry(image.shape, box, image.shape, spacing)})
        return
    native_shape = image.shape
    regridded = regrid(image, spacing, task.data)
    del image
    prepared = regridded.image
    _normalise_in_place(prepared, task.data)
    _require_contrast(prepared, task.data)
    label = None if whole is None else resample.nearest_at(whole, regridded.places)
    is_scored = task.native_labels and row["split"] in {VAL, TEST}
    geometry = _geometry(prepared.shape, regridded.box, native_shape, spacing)
    floor = 0.0 if task.data.normalise == "window" else float(prepared.min())
    writer.add(key, prepared, label, {**row, **geometry}, whole if is_scored else None, floor)


def _require_contrast(prepared: Array, data: TaskDataConfig) -> None:
    """Refuse a prepared image (X, Y, Z) that shows nothing.

    Raises:
        _NothingLeft: it is constant, or nearly all of it lies at the edges of the window.
    """
    low, high = float(prepared.min()), float(prepared.max())
    if low == high:
        raise _NothingLeft("prepared as the task asks, every voxel has one value")
    if data.normalise != "window" or data.window is None:
        return
    bright = sum(int(np.count_nonzero(prepared[box] >= 1)) for box in slabs(prepared))
    dark = sum(int(np.count_nonzero(prepared[box] <= 0)) for box in slabs(prepared))
    if bright + dark > (1 - LEAST_INSIDE) * prepared.size:
        window = " to ".join(f"{end * data.scale:g}" for end in data.window)
        raise _NothingLeft(
            f"prepared, {dark / prepared.size:.1%} of its voxels lie below and "
            f"{bright / prepared.size:.1%} above the task's window {window}: it shows nothing else"
        )


def normalise(image: Array, data: TaskDataConfig) -> Array:
    """Intensities (X, Y, Z) as the task's recipe wants them: a new array, float32."""
    values = np.array(image, dtype=np.float32, order="C")
    _normalise_in_place(values, data)
    return values


def _normalise_in_place(values: Array, data: TaskDataConfig) -> None:
    values /= np.float32(data.scale)
    if data.normalise == "window" and data.window is not None:
        low, high = data.window
        values -= np.float32(low)
        values /= np.float32(high - low)
        np.clip(values, 0.0, 1.0, out=values)
    elif data.normalise == "zscore":
        mean, sd = values.mean(dtype=np.float64), standard_deviation(values)
        values -= np.float32(mean)
        values /= np.float32(max(sd, _LEAST_SD))


def merge_labels(label: Array, merge: Mapping[int, int], classes: int, path: str) -> Array:
    """Replace label values, and check that only the task's classes are left; uint8.

    Args:
        label: (X, Y, Z) values from 0 to 255.
        merge: value → value it becomes.
        classes: number of foreground classes of the task.
        path: for the message.

    Raises:
        ConfigError: a value above ``classes`` is left.
    """
    table = np.arange(256, dtype=np.uint8)
    for old, new in merge.items():
        table[old] = new
    merged = np.empty_like(label, dtype=np.uint8)
    for box in slabs(merged):
        merged[box] = table[label[box].astype(np.uint8)]
    highest = int(merged.max())
    if highest > classes:
        raise ConfigError(
            f"{path}: label value {highest} is left after merge_labels, but the task names "
            f"{classes} foreground classes",
            "name all classes in labels, merge the others in data.merge_labels, or leave them out "
            "by ignore_label",
        )
    return merged


def _geometry(
    prepared: Sequence[int],
    box: tuple[Sequence[float], Sequence[float]],
    native: Sequence[int],
    spacing: Sequence[float],
) -> dict[str, int | float]:
    """Columns that describe the way from the image's own grid to the prepared one."""
    columns: dict[str, int | float] = {}
    for axis, start, size, n, whole, mm in zip("xyz", *box, prepared, native, spacing, strict=True):
        columns[f"crop_start_{axis}"] = float(start)
        columns[f"crop_shape_{axis}"] = float(size)
        columns[f"native_{axis}"] = int(whole)
        columns[f"p_spacing_{axis}"] = float(mm) * size / n
    return columns
