"""The volume store gives back what was put in."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.helpers import trees
from voxseq.base.errors import IntegrityError, ResourceError
from voxseq.config.data import Codec, StoreConfig
from voxseq.data.index import INDEX, read_index
from voxseq.data.packed import KEPT_BYTES
from voxseq.data.store import StoreWriter, VolumeStore, class_locations, stored_type
from voxseq.data.task_volumes import Volumes

CONFIG = StoreConfig(chunk_shape=(8, 8, 8), compression_level=5, locations_per_class=20)


def made(folder: Path, *volumes: tuple[np.ndarray, ...], config: StoreConfig = CONFIG) -> Path:
    """A store of images, some with a label and a native label."""
    writer = StoreWriter(folder, config)
    for key, volume in enumerate(volumes):
        image, label, native = (*volume, None, None)[:3]
        writer.add(key, image, label, {"volume_id": str(key)}, native)
    writer.close()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    whole = trees.image((20, 17, 9)), trees.label((20, 17, 9)), trees.label()
    fractions = trees.image((5, 30, 12), 1).astype(np.float32) / 3
    return VolumeStore(made(tmp_path, whole, (fractions,)))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> VolumeStore:
    volumes = [(trees.image(s, n),) for n, s in enumerate(((20, 17, 9), (5, 30, 12)))]
    return VolumeStore(made(tmp_path_factory.mktemp("store"), *volumes), open_files=1)


def test_images_and_labels_come_back(store: VolumeStore) -> None:
    assert len(store) == 2
    assert store.image(0).dtype == np.int16
    np.testing.assert_array_equal(store.image(0)[...], trees.image((20, 17, 9)))
    np.testing.assert_array_equal(store.image(1)[...], trees.image((5, 30, 12), 1).astype("f4") / 3)
    np.testing.assert_array_equal(store.label(0)[...], trees.label((20, 17, 9)))
    np.testing.assert_array_equal(store.native_label(0), trees.label())
    row = store.table.to_pandas().loc[0]
    assert json.loads(row["voxels"]) == {"0": 20 * 17 * 9 - 48, "1": 48}
    assert (row["p_x"], row["p_y"], row["p_z"]) == (20, 17, 9)
    assert row["p1"], row["p999"] == tuple(np.percentile(trees.image((20, 17, 9)), (1, 99.9)))
    assert store.table.to_pandas()["has_label"].tolist() == [True, False]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_crop_is_the_same_part_of_the_whole(shared: VolumeStore, data: st.DataObject) -> None:
    store = shared
    index = data.draw(st.integers(0, 1))
    whole = store.image(index)[...]
    start = [data.draw(st.integers(0, n - 1)) for n in whole.shape]
    shape = [data.draw(st.integers(1, n - s)) for n, s in zip(whole.shape, start, strict=True)]
    box = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    np.testing.assert_array_equal(store.crop(index, start, shape), whole[box])


@pytest.mark.parametrize("codec", ["lz4", "lz4hc", "zstd"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_every_codec_gives_the_same_voxels_and_the_same_bytes_each_time(
    tmp_path: Path, codec: Codec, dtype: type
) -> None:
    image, label = trees.image((40, 17, 30)).astype(dtype), trees.label((40, 17, 30))
    if dtype is np.float32:
        image /= 3
    files = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        config = StoreConfig(chunk_shape=(16, 32, 16), codec=codec)
        made(folder, (image, label, label), config=config)
        files.append({p.name: p.read_bytes() for p in folder.iterdir()})
        store = VolumeStore(folder)
        assert store.image(0).dtype == dtype
        np.testing.assert_array_equal(store.image(0)[...], image)
        np.testing.assert_array_equal(store.label(0)[...], label)
        np.testing.assert_array_equal(store.native_label(0), label)
    assert files[0] == files[1]
    assert files[0].keys() == {"volumes-000.bin", "places.parquet", "store.parquet"}


def test_the_codec_that_is_asked_for_packs(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(-900, 900, (32, 32, 32)).astype(np.int16)
    sizes = {}
    for codec in ("lz4", "lz4hc", "zstd"):
        folder = made(tmp_path / codec, (image,), config=StoreConfig(codec=codec))
        sizes[codec] = (folder / "volumes-000.bin").stat().st_size
    assert sizes["zstd"] < sizes["lz4hc"] < sizes["lz4"] < image.nbytes


def test_an_unknown_codec_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValidationError, match="'lz4', 'lz4hc' or 'zstd'"):
        StoreConfig.model_validate({"codec": "gzip"})


@pytest.mark.parametrize("start", [(-1, 0, 0), (13, 0, 0), (0, 0, 2)])
def test_a_crop_that_leaves_the_image_is_refused(
    store: VolumeStore, start: tuple[int, int, int]
) -> None:
    with pytest.raises(ValueError, match="leaves"):
        store.crop(0, start, (8, 8, 8))


def test_locations_are_voxels_of_their_class_and_depend_on_the_volume(store: VolumeStore) -> None:
    locations = store.locations(0)
    label = store.label(0)[...]
    assert sorted(locations) == [0, 1]
    for number, places in locations.items():
        assert places.dtype == np.int32
        assert places.shape == (20, 3)
        assert (label[tuple(places.T)] == number).all()
        assert places.tolist() == sorted(places.tolist())
        assert len(np.unique(places, axis=0)) == 20
    np.testing.assert_array_equal(locations[1], class_locations(label, 20, "0")[1])
    assert not np.array_equal(locations[1], class_locations(label, 20, "b")[1])
    assert len(class_locations(label, 1000, "a")[1]) == 48


def test_a_small_volume_is_kept_and_cannot_be_changed_through_a_crop(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = store.crop(0, (0, 0, 0), (20, 17, 9))
    monkeypatch.delattr(os, "pread")
    store.crop(0, (0, 0, 0), (20, 17, 9))[:] = 7
    np.testing.assert_array_equal(store.crop(0, (0, 0, 0), (20, 17, 9)), expected)
    store.image(0)[:] = 9
    np.testing.assert_array_equal(store.image(0), expected)


def test_small_volumes_are_kept_in_a_limited_memory(tmp_path: Path) -> None:
    shapes = [(50, 50, 50)] * 3 + [(20, 20, 20)] * 20
    images = [(trees.image(shape, key),) for key, shape in enumerate(shapes)]
    store = VolumeStore(made(tmp_path, *images), open_files=1)
    for order in (range(23), range(23), range(22, -1, -1)):
        for key in order:
            found = store.crop(key, (1, 2, 3), (9, 9, 9))
            np.testing.assert_array_equal(found, images[key][0][1:10, 2:11, 3:12])
    kept = [array.memory for array in store._arrays.values()]
    assert sum(kept) + store._room == KEPT_BYTES
    # The last ones that were read.
    assert [index for _, index in store._arrays] == [*range(len(kept) - 1, -1, -1)]
    # A store goes to worker processes without its open files.
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert copy._room == KEPT_BYTES
    np.testing.assert_array_equal(copy.image(0), images[0][0])


def test_shape_and_type_are_known_without_a_file(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in (io, os):
        monkeypatch.delattr(call, "open")
    assert [store.shape(index) for index in (0, 1)] == [(20, 17, 9), (5, 30, 12)]
    assert [store.dtype(index) for index in (0, 1)] == [np.int16, np.float32]


@pytest.mark.parametrize(
    "out",
    [
        np.empty((4, 5, 7), np.int16),
        np.empty((4, 5, 6), np.float32),
        np.empty((4, 5, 6), np.int16, order="F"),
        np.empty((4, 5, 12), np.int16)[..., ::2],
        np.frombuffer(bytes(240), np.int16).reshape(4, 5, 6),
    ],
    ids=["shape", "type", "order", "gaps", "read-only"],
)
def test_a_crop_is_not_written_to_another_array(store: VolumeStore, out: np.ndarray) -> None:
    fitting = np.empty((4, 5, 6), np.int16)
    store.crop_into(0, (1, 2, 3), (4, 5, 6), fitting)
    np.testing.assert_array_equal(fitting, trees.image((20, 17, 9))[1:5, 2:7, 3:9])
    with pytest.raises(ValueError, match="does not go into"):
        store.crop_into(0, (1, 2, 3), (4, 5, 6), out)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "short": lambda content: content[:-1],
    "other size": lambda content: content[:12] + b"\xff\xff\xff\x7f" + content[16:],
    "zeros": lambda content: bytes(len(content)),
    "other voxels": lambda content: content[:4] + b"\x02" + content[5:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_of_a_shard_is_named(tmp_path: Path, damage: str) -> None:
    folder = made(tmp_path, (trees.image((50, 50, 50)),))
    path = folder / "volumes-000.bin"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(
        IntegrityError, match=r"(?s)volumes-000\.bin: missing or damaged .* preprocess"
    ):
        VolumeStore(folder).image(0)


def test_a_missing_shard_and_damaged_tables_are_named(store: VolumeStore) -> None:
    with pytest.raises(IntegrityError, match=r"places\.parquet: volume 1 has no labels"):
        store.label(1)
    (store.folder / "volumes-000.bin").unlink()
    with pytest.raises(IntegrityError, match=r"volumes-000\.bin: missing"):
        store.image(1)
    for name in ("places.parquet", "store.parquet"):
        (store.folder / name).write_bytes(b"PAR1")
        with pytest.raises(IntegrityError, match=name):
            VolumeStore(store.folder).shape(0)
    with pytest.raises(IntegrityError, match=INDEX):
        read_index(store.folder)


@pytest.mark.parametrize("call", ["open", "pread"])
def test_a_failing_disk_is_no_damage(
    store: VolumeStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(ResourceError, match=r"volumes-000\.bin: cannot be read"):
            store.image(0)
    np.testing.assert_array_equal(store.image(0), trees.image((20, 17, 9)))


def test_nothing_is_written_through_an_existing_name(store: VolumeStore) -> None:
    with pytest.raises(FileExistsError):
        made(store.folder, (trees.image(),))


def test_channels_are_arrays_of_their_own(tmp_path: Path) -> None:
    image = np.stack([trees.image(seed=n).astype(np.float32) / (1, 3)[n] for n in range(2)])
    folder = made(tmp_path / "store", (image, trees.label()), (image[:1], trees.label()))
    store = VolumeStore(folder)
    assert [store.channels(index) for index in range(2)] == [2, 1]
    assert [store.dtype(0, channel) for channel in range(2)] == [np.int16, np.float32]
    np.testing.assert_array_equal(store.image(0), image[0])
    box = ((1, 2, 3), (5, 4, 3))
    out = np.empty(box[1], np.float32)
    store.crop_into(0, *box, out, channel=1)
    np.testing.assert_array_equal(out, image[1, 1:6, 2:6, 3:6])
    np.testing.assert_array_equal(store.crop(0, *box, channel=1), out)
    for cache in (0, 2**20):
        volumes = Volumes(folder, cache)
        np.testing.assert_array_equal(volumes.image(0), image)
        np.testing.assert_array_equal(volumes.image_crop(0, *box), image[:, 1:6, 2:6, 3:6])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([0, 255], np.uint8), np.int16),
        (np.array([-32768, 32767], np.int64), np.int16),
        (np.array([0, 32768], np.uint16), np.float32),
        (np.array([0.0, 5.0], np.float64), np.int16),
        (np.array([0.0, 0.5], np.float32), np.float32),
        (np.array([0.0, 1e9], np.float32), np.float32),
    ],
)
def test_small_whole_numbers_take_two_bytes(values: np.ndarray, kind: type) -> None:
    assert stored_type(values) == kind
    np.testing.assert_array_equal(values.astype(kind), values)


def test_background_locations_lie_above_the_floor(tmp_path: Path) -> None:
    label = np.zeros((12, 10, 8), np.uint8)
    label[4:6, 4:6, 2:5] = 1
    image = np.zeros(label.shape, np.float32)
    image[3:9, 2:8, 1:7] = 0.5
    # The windowed image is 0 in the organ's first plane too: only background needs the floor.
    image[4] = 0
    background = (label == 0) & (image > 0)
    shown = [(image, 0.0)]
    for most in (10, 10_000):
        places = class_locations(label, most, "a", shown)
        assert background[tuple(places[0].T)].all()
        assert len(places[0]) == min(most, int(background.sum()))
        np.testing.assert_array_equal(places[1], class_locations(label, most, "a")[1])
    # In air alone, all of the background counts.
    air = class_locations(label, 10_000, "a", [(np.zeros_like(image), 0.0)])
    assert len(air[0]) == int((label == 0).sum())
    # Any channel may show it.
    other = np.full_like(image, 3.0)
    other[0] = 4.0
    both = class_locations(label, 10_000, "a", [(image, 0.0), (other, 3.0)])
    assert len(both[0]) == int((background | ((label == 0) & (other > 3))).sum())


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StoreWriter(tmp_path, CONFIG)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ResourceError, match=r"volumes-000\.bin .*: the file would exceed"):
            writer.add(0, trees.image((40, 40, 40)), None, {"volume_id": "0"})
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
