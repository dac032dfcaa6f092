"""Batches as functions of the step: draws, their order, and the number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from voxseq.base.random import numpy_generator
from voxseq.config.base import Shape3
from voxseq.config.finetune import SegmentationRecipe
from voxseq.data.task_volumes import Volumes
from voxseq.training.batches import EpochOrder
from voxseq.training.loop import Batch
from voxseq.transforms.augment import Array, Augmentation
from voxseq.transforms.spatial import start_around

MakeBatch = Callable[[int], Batch]


class CropBatches:
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

    def __call__(self, step: int) -> Batch:
        """Batch of a step: image (B, 1, *roi) float32, label (B, 1, *roi) uint8, ids (B,)."""
        recipe = self.recipe
        size = recipe.volumes_per_batch * recipe.crops_per_volume
        # Crops are written to their place: collecting and joining them would touch all twice.
        images = np.empty((size, 1, *recipe.roi), np.float32)
        # A byte a voxel until the loss, between processes and on the way to a device.
        labels = np.empty((size, 1, *recipe.roi), np.uint8)
        ids = []
        for slot in range(size):
            number = slot // recipe.crops_per_volume
            row = self.order[step * recipe.volumes_per_batch + number]
            rng = numpy_generator(self.seed, "crop", step, slot)
            images[slot, 0], labels[slot, 0] = self._crop(row, rng)
            ids.append(row)
        return {
            "image": torch.from_numpy(images),
            "label": torch.from_numpy(labels),
            "ids": torch.tensor(ids),
        }

    def _crop(self, row: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Image and uint8 label of a crop; they may be views of a volume."""
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
        classes = sorted({0, *locations})
        chosen = classes[rng.integers(len(classes))]
        if chosen in locations:
            place: Array = locations[chosen][rng.integers(len(locations[chosen]))]
            return place
        return np.asarray(rng.integers(self.volumes.shape(row)))


class ImageBatches:
    """Batches of whole images for classification, in the order of the epochs."""

    def __init__(
        self,
        volumes: Volumes,
        rows: Sequence[int],
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.volumes, self.batch_size, self.seed = volumes, batch_size, seed
        self.augmentation = augmentation
        self.order = EpochOrder(rows, seed)

    def __call__(self, step: int) -> Batch:
        """Batch of a step: image (B, 1, X, Y, Z) float32, target (B,) int64, ids (B,)."""
        rows = [self.order[step * self.batch_size + slot] for slot in range(self.batch_size)]
        images = np.empty((self.batch_size, 1, *self.volumes.shape(rows[0])), np.float32)
        for slot, row in enumerate(rows):
            rng = numpy_generator(self.seed, "crop", step, slot)
            images[slot, 0] = self.augmentation.image(self.volumes.image(row), rng)
        return {
            "image": torch.from_numpy(images),
            "target": torch.tensor([self.volumes.target(row) for row in rows]),
            "ids": torch.tensor(rows),
        }


def image_parts(volumes: Volumes, rows: Sequence[int], size: int) -> Iterator[Tensor]:
    """Whole images, unchanged and in order, ``size`` at a time: (size, 1, X, Y, Z) float32."""
    for first in range(0, len(rows), size):
        images = [volumes.image(row) for row in rows[first : first + size]]
        yield torch.from_numpy(np.stack(images))[:, None]


def uniform_start(shape: Shape3, roi: Shape3, rng: np.random.Generator) -> Shape3:
    """First voxel of a crop, any place inside with the same chance."""
    x, y, z = (int(rng.integers(max(s - r, 0) + 1)) for s, r in zip(shape, roi, strict=True))
    return (x, y, z)


def pad_end(array: Array, shape: Shape3) -> Array:
    """Pad (X, Y, Z) with 0 at the end of each axis up to ``shape``."""
    if array.shape == shape:
        return array
    return np.pad(array, [(0, side - n) for n, side in zip(array.shape, shape, strict=True)])
