"""Copies of stores on a local disk: whole or none, shared, and removed only when unused."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.test_store import CONFIG, made
from tests.helpers import trees
from voxseq.base.errors import IntegrityError
from voxseq.data import copies, shards
from voxseq.data.copies import local_copy
from voxseq.data.store import VolumeStore

IMAGES = [trees.image((40, 41, 42), seed) for seed in range(3)]
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture(autouse=True)
def _released(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test holds is given back, as at the end of a process."""
    monkeypatch.setattr(copies, "_held", [])


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two stores of three shards each."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    monkeypatch.setenv("FAST_DISK", str(tmp_path / "fast"))
    return [made(tmp_path / name, *((i,) for i in IMAGES), config=CONFIG) for name in "ab"]


def limit(monkeypatch: pytest.MonkeyPatch, root: Path, room: int) -> None:
    """Let the disk have room for so many bytes of copies."""

    def usage(_: Path) -> Usage:
        used = sum(p.stat().st_size for p in root.rglob("*.bin") if not p.is_symlink())
        return Usage(0, used, room - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)


def require_same_voxels(folder: Path) -> None:
    store = VolumeStore(folder)
    for index, image in enumerate(IMAGES):
        np.testing.assert_array_equal(store.image(index), image)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*.bin") if not p.is_symlink())


def test_a_store_is_copied_once(stores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_copy(stores[0], None) == stores[0]
    copy = local_copy(stores[0], "$FAST_DISK/x")
    assert copy.is_relative_to(Path(os.environ["FAST_DISK"]) / "x")
    assert names(copy) == names(stores[0])
    assert len(names(copy)) == 3
    require_same_voxels(copy)
    monkeypatch.setattr(copies, "_make_room", lambda _, needed: needed and pytest.fail("copied"))
    assert local_copy(stores[0], "$FAST_DISK/x") == copy


def test_what_is_cut_off_is_copied_again(stores: list[Path]) -> None:
    copy = local_copy(stores[0], "$FAST_DISK")
    path = copy / "volumes-001.bin"
    path.write_bytes(path.read_bytes()[:-1])
    (copy / "volumes-002.bin").unlink()
    (copy / ".volumes-002.bin.abcdefgh.tmp").write_bytes(b"half")
    with pytest.raises(IntegrityError, match=f"(?s)missing or damaged.*delete the folder {copy}"):
        VolumeStore(copy).image(1)
    assert local_copy(stores[0], "$FAST_DISK") == copy
    require_same_voxels(copy)
    assert not [*copy.glob(".*")]


def test_shards_for_which_there_is_no_room_are_read_where_they_are(
    stores: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(os.environ["FAST_DISK"])
    size = max(p.stat().st_size for p in stores[0].glob("*.bin"))
    limit(monkeypatch, root, 2 * size)
    copy = local_copy(stores[0], "$FAST_DISK")
    assert len(names(copy)) == 2
    require_same_voxels(copy)
    limit(monkeypatch, root, 100 * size)
    assert local_copy(stores[0], "$FAST_DISK") == copy
    assert len(names(copy)) == 3
    require_same_voxels(copy)


def test_the_copy_that_was_used_longest_ago_goes_unless_a_job_reads_it(
    stores: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = made(tmp_path / "c", *((i,) for i in IMAGES), config=CONFIG)
    size = sum(p.stat().st_size for p in third.glob("*.bin"))
    limit(monkeypatch, tmp_path / "fast", 5 * size // 2)
    first, second = (local_copy(store, "$FAST_DISK") for store in stores)
    assert local_copy(stores[0], "$FAST_DISK") == first
    # Both are read: of the third, there is room for one shard.
    partly = local_copy(third, "$FAST_DISK")
    assert (len(names(first)), len(names(second)), len(names(partly))) == (3, 3, 1)
    for handle in copies._held:
        handle.close()
    assert local_copy(third, "$FAST_DISK") == partly
    assert (first.exists(), second.exists(), len(names(partly))) == (True, False, 3)


def test_a_store_that_was_made_again_has_another_copy(stores: list[Path]) -> None:
    copy = local_copy(stores[0], "$FAST_DISK")
    shutil.rmtree(stores[0])
    made(stores[0], *((image + 1,) for image in IMAGES), config=CONFIG)
    other = local_copy(stores[0], "$FAST_DISK")
    assert other != copy
    np.testing.assert_array_equal(VolumeStore(other).image(0), IMAGES[0] + 1)


@pytest.mark.parametrize("staging", ["$NOT_SET/x", "relative"])
def test_a_folder_that_is_none_here_is_told(
    stores: list[Path], staging: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert local_copy(stores[0], staging) == stores[0]
    assert f"execution.staging: {staging} is no absolute path here" in caplog.text


def test_a_disk_that_fails_stops_no_training(
    stores: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", fail)
    assert local_copy(stores[0], "$FAST_DISK") == stores[0]
    assert "is read where it is" in caplog.text
    assert not [*Path(os.environ["FAST_DISK"]).rglob("volumes*")]
