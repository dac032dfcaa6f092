"""Slices of single test cases that a run keeps for the pictures of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from voxseq.data.task_volumes import Volumes
from voxseq.data.volume import Array
from voxseq.evaluation.segmentation import HD95, surface_scores_per_class

Arrays = dict[str, Array]
#: Most slices that are kept of a case.
SLICES = 7
#: Longest side of a kept slice in pixels; of a larger one every second, third, … pixel is kept.
SIDE = 256
_MM3_PER_ML = 1000.0


def segmented(
    volumes: Volumes, row: int, truth: Array, prediction: Array, count: int = SLICES
) -> Arrays:
    """Slices along z of a segmented case, spread over what is labelled.

    Args:
        volumes: of the task.
        row: of the case.
        truth: (X, Y, Z) classes on the prepared grid.
        prediction: as ``truth``.
        count: number of slices at most; the one with the most truth is among them.

    Returns:
        The arrays of :func:`kept`, with ``truth`` and ``prediction`` of shape (X, Y, S) uint8.
    """
    area = (truth > 0).sum(axis=(0, 1))
    marked = np.flatnonzero(((truth > 0) | (prediction > 0)).any(axis=(0, 1)))
    main = int(area.argmax())
    numbers = _spread(marked if marked.size else np.array([main]), main, count)
    step = _step(truth.shape)
    labels = {"truth": truth, "prediction": prediction}
    parts = {
        name: array[::step, ::step, numbers].astype(np.uint8) for name, array in labels.items()
    }
    return {**kept(volumes, row, numbers, main), **parts}


def whole(volumes: Volumes, row: int, truth: Array, prediction: Array) -> Arrays:
    """Slices along z spread over the image of a case that has one class or value.

    Args:
        volumes: of the task.
        row: of the case.
        truth: 0-d.
        prediction: 0-d.
    """
    depth = volumes.shape(row)[2]
    numbers = _spread(np.arange(depth), depth // 2, SLICES)
    return {**kept(volumes, row, numbers, depth // 2), "truth": truth, "prediction": prediction}


def kept(volumes: Volumes, row: int, numbers: Sequence[int], main: int) -> Arrays:
    """What every picture has besides truth and prediction.

    Returns:
        ``image`` (X, Y, S) float32, first channel; ``numbers`` (S,) of the slices along z from 0;
        ``main``, the place among them of the one to be shown first; ``depth``, the image's number
        of slices; ``spacing`` (3,) mm between the pixels of a slice, and between slices of the
        image; ``oriented``, whether the axes lead to the right, to the front and upwards (RAS+) as
        the file states; ``case``, its name.
    """
    image = volumes.image(row)[0]
    step = _step(image.shape)
    x, y, z = volumes.spacing(row)
    return {
        "image": image[::step, ::step, numbers].astype(np.float32),
        "numbers": np.array(numbers, np.int64),
        "main": np.array(list(numbers).index(main)),
        "depth": np.array(image.shape[2]),
        "spacing": np.array([x * step, y * step, z]),
        "oriented": np.array(volumes.oriented(row)),
        "case": np.array(volumes.name(row)),
    }


def errors_of(
    volumes: Volumes,
    row: int,
    truth: Array,
    prediction: Array,
    classes: int,
    known: Mapping[str, Array],
) -> Arrays:
    """Errors of a segmented case that a reader can picture.

    Args:
        volumes: of the task.
        row: of the case.
        truth: (X, Y, Z) classes on the prepared grid.
        prediction: as ``truth``.
        classes: number of foreground classes.
        known: scores of the case; distances that are among them are not computed again.

    Returns:
        ``hd95`` (classes,) mm, NaN where either mask is empty; ``volumes`` (2, classes) ml of the
        truth and of the prediction.
    """
    spacing = volumes.spacing(row)
    distances = known.get(HD95)
    if distances is None:
        scores = surface_scores_per_class(prediction, truth, spacing, [0.0] * classes)
        distances = scores[HD95]
    voxel = float(np.prod(spacing)) / _MM3_PER_ML
    counts = [[(mask == k + 1).sum() for k in range(classes)] for mask in (truth, prediction)]
    return {"hd95": distances, "volumes": voxel * np.array(counts, float)}


def _step(shape: Sequence[int]) -> int:
    return -(-max(shape[:2]) // SIDE)


def _spread(numbers: Array, main: int, count: int) -> list[int]:
    """At most ``count`` evenly spread numbers, the nearest to ``main`` being ``main`` itself."""
    places = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int)
    chosen = numbers[np.unique(places)]
    chosen[int(np.abs(chosen - main).argmin())] = main
    return [int(number) for number in np.unique(chosen)]
