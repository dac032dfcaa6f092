"""One training sequence for a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from voxseq.base.random import numpy_generator
from voxseq.config.data import SequencesConfig
from voxseq.sequences.sampler import SequenceSampler
from voxseq.transforms.spatial import Array

#: Sequences among which the one for a figure is chosen.
CANDIDATES = 48


def example(
    index: Path, stores: Mapping[str, Path], config: SequencesConfig, kind: str, number: int
) -> tuple[Array, str]:
    """One training sequence of a kind, for a figure.

    Random crops may show nothing but air. Of :data:`CANDIDATES` sequences, spread over the index,
    the one is taken whose plainest patch varies most.

    Args are as those of :class:`SequenceSampler`; ``number`` is the seed of the choice.

    Returns:
        The volume (X, Y, Z) in 0..1 and the name of its data set.
    """
    sampler = SequenceSampler(index, stores, config, (kind,), seed=0)
    rows = sampler.training_rows(kind)
    spread = np.linspace(0, len(rows) - 1, min(CANDIDATES, len(rows))).astype(int)
    items = [
        sampler.read(kind, int(rows[i]), numpy_generator(number, "example", int(i))) for i in spread
    ]
    variations = [
        min(part.std() for part in np.split(item.volume, config.length, axis=2)) for item in items
    ]
    chosen = items[int(np.argmax(variations))]
    return chosen.volume, chosen.source
