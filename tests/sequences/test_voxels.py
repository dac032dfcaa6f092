"""The voxels of a spatial sequence, against the formula written out."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.sequence_store import Image, config, noise, write_store
from voxseq.base.files import write_json
from voxseq.sequences.boxes import BOX
from voxseq.sequences.build import random_boxes
from voxseq.sequences.sampler import SequenceSampler
from voxseq.sequences.table import LEFT_OUT
from voxseq.transforms.intensity import intensity_range


@pytest.mark.parametrize("factor", [np.int16(1), np.float32(1 / 3)])
@pytest.mark.parametrize("shape", [(14, 12, 13), (60, 50, 60)])
def test_voxels_are_those_of_the_formula_to_the_last_bit(
    tmp_path: Path, factor: np.generic, shape: tuple[int, int, int]
) -> None:
    """Of volumes whose voxels the store keeps and of those it reads from their file."""
    volume = noise(5, shape) * factor
    write_store(tmp_path / "store", "amos22", [Image("a", volume)])
    index = tmp_path / "index"
    index.mkdir()
    starts = random_boxes(shape, (8, 8, 8), 4, np.random.default_rng(2))
    table = pd.DataFrame(starts.astype(np.int32), columns=list(BOX))
    crops = [volume[x : x + 8, y : y + 8, z : z + 8] for x, y, z in starts[:, :3]]
    ranges = np.array([intensity_range(crop, (1.0, 99.9)) for crop in crops])
    low, high = ranges.T
    table.assign(store=0, row=0, low=low, high=high, validation=False).to_parquet(
        index / "spatial.parquet"
    )
    write_json(index / "sources.json", ["amos22"])
    write_json(index / LEFT_OUT, {"kinds": []})
    made = SequenceSampler(
        index,
        {"amos22": tmp_path / "store"},
        config(spatial={"crop_shape": (8, 8, 8)}),
        ("spatial",),
        0,
    )
    for epoch, row in product(range(3), range(4)):
        item = made.read("spatial", row, np.random.default_rng(epoch))
        x, y, z = (int(starts[row][axis]) for axis in range(3))
        crop = volume[x : x + 8, y : y + 8, z : z + 8].astype(np.float32)
        low, high = (np.float32(v) for v in intensity_range(crop, (1.0, 99.9)))
        scaled = np.clip((crop - low) / (high - low), 0, 1)
        # Windows of 2 slices at stride 1 reach over 5.
        first = int(np.random.default_rng(epoch).integers(4))
        parts = [scaled[:, :, first + i : first + i + 2] for i in range(4)]
        np.testing.assert_array_equal(item.volume, np.concatenate(parts, axis=2))
        assert item.volume.dtype == np.float32
