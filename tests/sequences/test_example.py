"""The sequence that a figure shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.sequence_store import SOURCES, config, direction, sampler
from voxseq.sequences.example import example
from voxseq.sequences.sampler import SequenceSampler
from voxseq.transforms.spatial import Item


def test_the_example_of_a_figure_is_a_training_sequence_that_varies_in_every_patch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler(tmp_path)
    stores = {name: tmp_path / "store" / name for name in SOURCES}
    volume, source = example(tmp_path / "index", stores, config(), "contrast", 0)
    assert source == "brats23"
    assert [direction(patch) for patch in np.split(volume, 4, axis=2)] == [0, 1, 2, 3]
    again, _ = example(tmp_path / "index", stores, config(), "contrast", 0)
    np.testing.assert_array_equal(volume, again)
    real = SequenceSampler.read
    seen: list[int] = []

    def mostly_air(self: SequenceSampler, kind: str, row: int, *args: Any, **named: Any) -> Item:
        item = real(self, kind, row, *args, **named)
        seen.append(row)
        # All but the third candidate are air.
        return item if len(seen) == 3 else Item(np.zeros_like(item.volume), kind, item.source)

    monkeypatch.setattr(SequenceSampler, "read", mostly_air)
    volume, _ = example(tmp_path / "index", stores, config(), "spatial", 0)
    assert len(seen) > 3
    assert all(patch.std() > 0 for patch in np.split(volume, 4, axis=2))
