"""The stage that prepares the images of one data set and writes them into a volume store.

As a pre-training source an image is only turned to RAS; its values and spacing stay (published
code: neither is normalised). As a downstream task it follows the task's recipe
(published recipes): RAS, foreground crop, resampling, intensity window.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from voxseq.config.data import StoreConfig, TaskDataConfig
from voxseq.data import adapters, catalogue, resample
from voxseq.data.adapters import Adapter
from voxseq.data.download import dataset_folder, read_index
from voxseq.data.index import entry_of
from voxseq.data.resample import Triple
from voxseq.data.splits import TEST, TRAIN, VAL
from voxseq.data.store import StoreWriter
from voxseq.data.types import Array, Entry, Volume
from voxseq.errors import ConfigError, DataError
from voxseq.progress import track

if TYPE_CHECKING:
    from voxseq.runs import RunContext

_LOG = logging.getLogger("voxseq.preprocess")
#: Least standard deviation that a z-score divides by.
_LEAST_SD = 1e-6


@dataclass(frozen=True)
class _Reader:
    """Reads images and labels of one data set."""

    adapter: Adapter
    folder: Path

    def image(self, entry: Entry) -> Volume:
        """The image as stored."""
        return self.adapter.read_image(self.folder, entry)

    def label(self, entry: Entry, image: Volume) -> Volume:
        """Label values on the image's grid.

        Voxel for voxel they belong to the image, so it is the image's affine that orients them:
        some labels state no orientation, or a slightly different one.
        """
        label = self.adapter.read_label(self.folder, entry)
        if label is None:
            raise DataError(f"{entry.path}: has no segmentation")
        return replace(image, array=label.array)


def execute(context: RunContext) -> None:
    """Write the store of one data set.

    Only training images of a data set serve as a source: its validation and test images are kept
    out of pre-training.

    Raises:
        DataError: an image has changed since it was checked, or none is left.
        ConfigError: merged labels do not fit the task's classes.
    """
    config = context.config
    dataset = catalogue.get(config["dataset"])
    download = context.inputs[f"download/{dataset.name}"]
    folder = dataset_folder(download, context.data_root, dataset.name)
    rows = cast("list[dict[str, Any]]", read_index(download).to_dict("records"))
    if config["role"] == "source":
        rows = [row for row in rows if row["split"] == TRAIN]
    if not rows:
        raise DataError(f"{dataset.title}: no image to prepare", "look at its set_aside.csv")
    reader = _Reader(adapters.get(dataset.adapter), folder)
    writer = StoreWriter(context.out, StoreConfig.model_validate(config["store"]))
    for key, row in enumerate(track(rows, f"preparing {dataset.name}", len(rows))):
        if config["role"] == "source":
            _add_source(writer, key, row, reader)
        else:
            _add_task(writer, key, row, reader, config)
    writer.close()


def to_native(prediction: Array, row: Mapping[str, Any]) -> Array:
    """Map a prediction on the prepared grid back to the image's reoriented, uncropped grid.

    Args:
        prediction: classes (X, Y, Z), mapped by the nearest voxel; or class probabilities
            (C, X, Y, Z), background first, mapped linearly.
        row: the volume's row of the store's table.

    Returns:
        The same kind of array with the native shape; what the crop left out is background, with
        probability 1.
    """
    start = [int(row[f"crop_start_{a}"]) for a in "xyz"]
    shape = [int(row[f"crop_shape_{a}"]) for a in "xyz"]
    native = [int(row[f"native_{a}"]) for a in "xyz"]
    prepared = tuple(int(row[f"p_{a}"]) for a in "xyz")
    if prediction.shape[-3:] != prepared or prediction.ndim not in {3, 4}:
        raise ValueError(f"a prediction of shape {prediction.shape}, expected {prepared}")
    box = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    if prediction.ndim == 3:
        classes = np.zeros(native, prediction.dtype)
        classes[box] = resample.nearest(prediction, shape)
        return classes
    probabilities = np.zeros((len(prediction), *native), np.float32)
    probabilities[0] = 1.0
    probabilities[(slice(None), *box)] = resample.linear(prediction, shape)
    return probabilities


def foreground_box(image: Array, data: TaskDataConfig) -> tuple[Triple, Triple]:
    """Start and shape of the smallest box around the foreground, plus the margin.

    Foreground is what lies above the window's lower end (above zero after windowing, as published)
    or, without a window, above the image's minimum. An image without any is taken whole.
    """
    whole: tuple[Triple, Triple] = ((0, 0, 0), _triple(image.shape))
    if not data.foreground_crop:
        return whole
    if data.normalise == "window" and data.window is not None:
        mask = image > data.window[0] * data.scale
    else:
        mask = image > image.min()
    start, shape = [], []
    for axis in range(3):
        inside = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(inside):
            return whole
        first = max(int(inside[0]) - data.crop_margin, 0)
        last = min(int(inside[-1]) + data.crop_margin, image.shape[axis] - 1)
        start.append(first)
        shape.append(last - first + 1)
    return _triple(start), _triple(shape)


def normalise(image: Array, data: TaskDataConfig) -> Array:
    """Intensities (X, Y, Z) as the task's recipe wants them, float32."""
    values = np.asarray(image, dtype=np.float32) / np.float32(data.scale)
    if data.normalise == "window" and data.window is not None:
        low, high = data.window
        values = np.clip((values - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    elif data.normalise == "zscore":
        mean, sd = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        values = (values - np.float32(mean)) / np.float32(max(sd, _LEAST_SD))
    return np.asarray(values, dtype=np.float32)


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
    merged = table[label.astype(np.uint8)]
    highest = int(merged.max())
    if highest > classes:
        raise ConfigError(
            f"{path}: label value {highest} is left after merge_labels, but the task names "
            f"{classes} foreground classes",
            "name all classes in labels, or merge the others in data.merge_labels",
        )
    return merged


def _add_source(writer: StoreWriter, key: int, row: dict[str, Any], reader: _Reader) -> None:
    image, spacing = resample.to_ras(reader.image(entry_of(row)))
    box = ((0, 0, 0), _triple(image.shape))
    writer.add(key, image, None, {**row, **_geometry(image.shape, box, image.shape, spacing)})


def _add_task(
    writer: StoreWriter,
    key: int,
    row: dict[str, Any],
    reader: _Reader,
    config: Mapping[str, Any],
) -> None:
    data = TaskDataConfig.model_validate(config["data"])
    entry = entry_of(row)
    volume = reader.image(entry)
    image, spacing = resample.to_ras(volume)
    start, shape = foreground_box(image, data)
    target = _target(shape, spacing, data)
    box = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    prepared = normalise(resample.linear(image[box], target), data)
    label = native = None
    if config["type"] == "segmentation":
        values, _ = resample.to_ras(reader.label(entry, volume))
        whole = merge_labels(values, data.merge_labels, int(config["labels"]), entry.label_path)
        label = resample.nearest(whole[box], target)
        if config.get("native_labels", False) and row["split"] in {VAL, TEST}:
            native = whole
    geometry = _geometry(target, (start, shape), image.shape, spacing)
    writer.add(key, prepared, label, {**row, **geometry}, native)


def _target(shape: Triple, spacing: Sequence[float], data: TaskDataConfig) -> Triple:
    if data.resize is not None:
        return data.resize
    if data.spacing is not None:
        return resample.shape_for_spacing(shape, spacing, data.spacing)
    return shape


def _geometry(
    prepared: Sequence[int],
    box: tuple[Triple, Triple],
    native: Sequence[int],
    spacing: Sequence[float],
) -> dict[str, int | float]:
    """Columns that describe the way from the image's own grid to the prepared one."""
    columns: dict[str, int | float] = {}
    for i, axis in enumerate("xyz"):
        start, size = box[0][i], box[1][i]
        columns[f"crop_start_{axis}"] = int(start)
        columns[f"crop_shape_{axis}"] = int(size)
        columns[f"native_{axis}"] = int(native[i])
        columns[f"p_spacing_{axis}"] = float(spacing[i]) * size / prepared[i]
    return columns


def _triple(values: Sequence[int]) -> Triple:
    x, y, z = (int(v) for v in values)
    return (x, y, z)
