"""Voxel positions of each class of a label, from which crops get their centres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from voxseq.catalogue.splits import words_of
from voxseq.data.slabs import Box, class_counts, slabs
from voxseq.data.volume import Array


def class_locations(
    label: Array, most: int, volume_id: str, shown: tuple[Array, float] | None = None
) -> dict[int, Array]:
    """Positions of each class of ``label``; see :meth:`VolumeStore.locations`.

    Args:
        label: (X, Y, Z) uint8.
        most: positions of a class.
        volume_id: for the seed.
        shown: the image (X, Y, Z), and the value above which background counts (published code: the
            window's lower end). Where no background lies above it, all of it counts.
    """
    boxes = list(slabs(label, axis=0))
    counts = np.stack([class_counts(label[box]) for box in boxes])
    if shown is not None:
        image, floor = shown
        above = [np.count_nonzero((label[b] == 0) & (image[b] > floor)) for b in boxes]
        if any(above):
            counts[:, 0] = above
        else:
            shown = None
    positions = {}
    for number in np.flatnonzero(counts.any(axis=0)):
        total = int(counts[:, number].sum())
        # Which of the class's voxels, counted in C order.
        chosen = np.arange(min(total, most))
        if total > most:
            rng = np.random.default_rng([int(number), *words_of(volume_id)])
            chosen = np.sort(rng.choice(total, most, replace=False))
        ends = np.cumsum(counts[:, number])
        limit = shown if number == 0 else None
        flat = _flat_positions(label, int(number), boxes, ends, chosen, limit)
        places = np.stack(np.unravel_index(flat, label.shape), axis=1)
        positions[int(number)] = places.astype(np.int32)
    return positions


def _flat_positions(
    label: Array,
    number: int,
    boxes: Sequence[Box],
    ends: Array,
    chosen: Array,
    shown: tuple[Array, float] | None,
) -> Array:
    """Positions in C order of those voxels of a class that are the ``chosen`` ones of it.

    Args:
        label: (X, Y, Z).
        number: the class.
        boxes: slabs along the first axis.
        ends: voxels of the class up to the end of each slab.
        chosen: sorted numbers of voxels of the class.
        shown: image and the value above which its voxels count; None: all do.
    """
    found = []
    borders = np.searchsorted(chosen, [0, *ends])
    plane = label[0].size
    for i, box in enumerate(boxes):
        wanted = chosen[borders[i] : borders[i + 1]]
        if len(wanted):
            mask = label[box] == number
            if shown is not None:
                mask &= shown[0][box] > shown[1]
            inside = np.flatnonzero(mask)
            before = int(ends[i - 1]) if i else 0
            found.append(inside[wanted - before] + box[0].start * plane)
    flat: Array = np.concatenate(found)
    return flat
