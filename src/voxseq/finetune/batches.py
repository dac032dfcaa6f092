"""Batches as functions of the step: draws, their order, and the number of workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from voxseq.base.random import numpy_generator
from voxseq.config.base import Shape3
from voxseq.config.data import IGNORED
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.training.batches import EpochOrder
from voxseq.training.rows import Arrays, Field, Rows
from voxseq.transforms.augment import Array, Augmentation
from voxseq.transforms.spatial import start_around


class CropRows(Rows):
    """Batches of crops for segmentation.

    A batch has ``volumes_per_batch`` volumes in the order of the epochs and ``crops_per_volume``
    crops of each. With ``class_balanced`` sampling the centre of a crop is a voxel of a class drawn
    with equal chances among the volume's classes, the background included (published code; for one
    foreground class this is its 1:1 ratio of positives and negatives).
    """

    def __init__(
        self,
        volumes: Volumes,
        rows: Sequence[int],
        recipe: SegmentationRecipe,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.volumes, self.recipe, self.seed = volumes, recipe, seed
        self.augmentation = augmentation
        self.order = EpochOrder(rows, seed)
        self.count = recipe.volumes_per_batch * recipe.crops_per_volume
        self.layout = {
            "image": Field((volumes.image_channels, *recipe.roi), "float32"),
            # A byte a voxel until the loss, between processes and on the way to a device.
            "label": Field((1, *recipe.roi), "uint8"),
            "ids": Field((), "int64"),
        }

    def fill(self, step: int, row: int, out: Arrays) -> None:
        """Cut and augment a crop: image (C, *roi), label (1, *roi), the number of its volume."""
        number = row // self.recipe.crops_per_volume
        volume = self.order[step * self.recipe.volumes_per_batch + number]
        rng = numpy_generator(self.seed, "crop", step, row)
        out["image"][...], out["label"][0] = self._crop(volume, rng)
        out["ids"][...] = volume

    def _crop(self, row: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Image (C, *roi) and uint8 label of a crop; they may be views of a volume."""
        shape, roi = self.volumes.shape(row), self.recipe.roi
        if self.recipe.crop_sampling == "class_balanced":
            start = start_around(self._centre(row, rng), shape, roi)
        else:
            start = uniform_start(shape, roi, rng)
        x, y, z = (min(r, s) for r, s in zip(roi, shape, strict=True))
        image = pad_end(self.volumes.image_crop(row, start, (x, y, z)), roi)
        label = pad_end(self.volumes.label_crop(row, start, (x, y, z)), roi)
        return self.augmentation(image, label, rng)

    def _centre(self, row: int, rng: np.random.Generator) -> Array:
        locations = self.volumes.locations(row)
        # Without places of the background it is anywhere, but not where the class is unknown.
        anywhere = () if IGNORED in locations else (0,)
        classes = sorted({*locations, *anywhere} - {IGNORED})
        chosen = classes[rng.integers(len(classes))]
        if chosen in locations:
            place: Array = locations[chosen][rng.integers(len(locations[chosen]))]
            return place
        return np.asarray(rng.integers(self.volumes.shape(row)))


class ImageRows(Rows):
    """Batches of whole images, in the order of the epochs.

    Args:
        volumes: store of the task.
        rows: of the training cases.
        batch_size: images of a batch.
        augmentation: of each image.
        seed: of order and augmentation.
        targets: row → number that is predicted; ``None``: the image's class.
    """

    def __init__(
        self,
        volumes: Volumes,
        rows: Sequence[int],
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        targets: Mapping[int, float] | None = None,
    ) -> None:
        self.volumes, self.count, self.seed = volumes, batch_size, seed
        self.targets = targets
        self.augmentation = augmentation
        self.order = EpochOrder(rows, seed)
        self.layout: Mapping[str, Field] = {
            "image": Field((volumes.image_channels, *volumes.shape(rows[0])), "float32"),
            "target": Field((), "int64" if targets is None else "float32"),
            "ids": Field((), "int64"),
        }

    def fill(self, step: int, row: int, out: Arrays) -> None:
        """Augment an image (C, X, Y, Z), with its target and number."""
        volume = self.order[step * self.count + row]
        rng = numpy_generator(self.seed, "crop", step, row)
        out["image"][...] = self.augmentation.image(self.volumes.image(volume), rng)
        targets = self.targets
        out["target"][...] = self.volumes.target(volume) if targets is None else targets[volume]
        out["ids"][...] = volume


def image_parts(volumes: Volumes, rows: Sequence[int], size: int) -> Iterator[Tensor]:
    """Whole images, unchanged and in order, ``size`` at a time: (size, C, X, Y, Z) float32."""
    for first in range(0, len(rows), size):
        images = [volumes.image(row) for row in rows[first : first + size]]
        yield torch.from_numpy(np.stack(images))


def uniform_start(shape: Shape3, roi: Shape3, rng: np.random.Generator) -> Shape3:
    """First voxel of a crop, any place inside with the same chance."""
    x, y, z = (int(rng.integers(max(s - r, 0) + 1)) for s, r in zip(shape, roi, strict=True))
    return (x, y, z)


def pad_end(array: Array, shape: Shape3) -> Array:
    """Pad (X, Y, Z) or (C, X, Y, Z) with 0 at the end of each axis up to ``shape``."""
    *channels, x, y, z = array.shape
    if (x, y, z) == shape:
        return array
    missing = [(0, side - n) for n, side in zip((x, y, z), shape, strict=True)]
    return np.pad(array, [*[(0, 0)] * len(channels), *missing])
