"""Shards: their bytes depend on the volumes alone, and every volume is whole in one of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.test_store import CONFIG, made
from tests.helpers import trees
from voxseq.data import shards
from voxseq.data.shards import Places
from voxseq.data.store import StoreWriter, VolumeStore

VOLUMES = [
    (trees.image((20, 17, 9 + n), n), trees.label((20, 17, 9 + n)), trees.label()) for n in range(5)
]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def adopted(folder: Path, pieces: Path) -> Path:
    """A store of volumes that were packed one by one, each with a number of its own there."""
    writer = StoreWriter(folder, CONFIG)
    for key, (image, label, native) in enumerate(VOLUMES):
        piece = StoreWriter(pieces / str(key), CONFIG)
        piece.add(key + 7, image, label, {"volume_id": str(key)}, native)
        row, places = piece.piece(key + 7)
        writer.adopt(key, row, places, pieces / str(key))
    writer.close()
    return folder


@pytest.mark.parametrize(("most", "count"), [(1, 5), (20_000, 2), (10**9, 1)])
def test_volumes_packed_alone_make_the_same_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, count: int
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", most)
    straight = made(tmp_path / "straight", *VOLUMES)
    assert content(straight) == content(adopted(tmp_path / "adopted", tmp_path / "pieces"))
    assert len([*straight.glob("volumes-*.bin")]) == count
    store, places = VolumeStore(straight, open_files=2), Places(straight)
    for key, (image, label, native) in enumerate(VOLUMES):
        found = [places.find(key, kind) for kind in ("images", "labels", "native_labels")]
        assert len({place.shard for place in found if place}) == 1
        np.testing.assert_array_equal(store.image(key), image)
        np.testing.assert_array_equal(store.label(key), label)
        np.testing.assert_array_equal(store.native_label(key), native)
        assert set(store.locations(key)) == {0, 1}
    assert len(store._files) <= 2
    assert places.find(5, "images") is None


def test_a_volume_costs_no_file_operation_until_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [(trees.image((50, 50, 50), n),) for n in range(4)]
    store, calls = VolumeStore(made(tmp_path, *images)), []
    for name in ("open", "pread"):
        real = getattr(os, name)

        def counted(*call: Any, name: str = name, real: Any = real) -> Any:
            calls.append(name)
            return real(*call)

        monkeypatch.setattr(os, name, counted)
    for index in range(4):
        store.crop(index, (0, 0, 0), (8, 8, 8))
    # One shard, and one read for each volume's chunk.
    assert calls == ["open"] + ["pread"] * 4
