"""Voxel positions of each class of a label, from which crops get their centres."""

from __future__ import annotations

import numpy as np

from voxseq.catalogue.splits import words_of
from voxseq.data.slabs import class_counts, slabs
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
    for number in np.flatnonzero(counts.any(axis=0)).tolist():
        total = int(counts[:, number].sum())
        # Which of the class's voxels, counted in C order.
        chosen = np.arange(min(total, most))
        if total > most:
            rng = np.random.default_rng([number, *words_of(volume_id)])
            chosen = np.sort(rng.choice(total, most, replace=False))
        borders = np.append(0, np.cumsum(counts[:, number]))
        ends = np.searchsorted(chosen, borders)
        found = []
        for i, box in enumerate(boxes):
            if ends[i] < ends[i + 1]:
                mask = label[box] == number
                if number == 0 and shown is not None:
                    mask &= shown[0][box] > shown[1]
                inside = np.flatnonzero(mask)[chosen[ends[i] : ends[i + 1]] - borders[i]]
                found.append(inside + box[0].start * label[0].size)
        places = np.stack(np.unravel_index(np.concatenate(found), label.shape), axis=1)
        positions[number] = places.astype(np.int32)
    return positions
