"""Predictions come back to the voxels of the original file."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxseq.config.data import StoreConfig, TaskDataConfig
from voxseq.data import grid as resample
from voxseq.data import prepare as preprocess
from voxseq.data.checks import Measured
from voxseq.data.index import index_row
from voxseq.data.native import save_prediction, to_file_grid, to_native
from voxseq.data.store import StoreWriter
from voxseq.data.volume import Array, Entry, Volume, scaling_affine

ENTRY = Entry("case", "image", "case.nii.gz", label_path="label.nii.gz")
MEASURED = Measured(0.0, 1.0, "")


class _Adapter:
    """Gives out one volume and its label."""

    def __init__(self, image: Volume, label: Array) -> None:
        self.image = image
        self.label = label

    def scan(self, *_: Any) -> Any:
        raise AssertionError("nothing is listed")

    def read_image(self, folder: Path, entry: Entry) -> Volume:
        return self.image

    def read_label(self, folder: Path, entry: Entry) -> Volume:
        return Volume(self.label, self.image.affine)


def _prepared(volume: Volume, label: Array, folder: Path, **data: Any) -> tuple[Array, Any]:
    """The label on the prepared grid, and the volume's row, as the stage makes them."""
    row = {**index_row("set", ENTRY, volume, MEASURED), "split": "test"}
    writer = StoreWriter(folder, StoreConfig(chunk_shape=(16, 16, 16)))
    reader = preprocess._Reader(_Adapter(volume, label), folder)
    recipe = TaskDataConfig.model_validate({"window": [-100, 200], **data}).model_dump()
    config = {"data": recipe, "type": "segmentation", "labels": 2, "native_labels": True}
    preprocess._add_task(writer, 0, row, reader, config)
    writer.close()
    from voxseq.data.store import VolumeStore

    store = VolumeStore(folder)
    return store.label(0)[...], store.table.loc[0]


def _rotation(angles: list[float]) -> Array:
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


@st.composite
def _grids(draw: st.DrawFn) -> tuple[tuple[int, int, int], Array]:
    """Shape and affine: any spacing, order and direction of the axes, slanted by up to 34°."""
    shape = tuple(draw(st.integers(14, 26)) for _ in range(3))
    spacing = [draw(st.floats(0.4, 4.0)) for _ in range(3)]
    order = draw(st.permutations(range(3)))
    signs = [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    angles = [draw(st.floats(-0.34, 0.34)) for _ in range(3)]
    axes = np.zeros((3, 3))
    for axis in range(3):
        axes[order[axis], axis] = signs[axis]
    affine = np.eye(4)
    affine[:3, :3] = _rotation(angles) @ axes * spacing
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return shape, affine


def _case(shape: tuple[int, int, int]) -> tuple[Array, Array]:
    """A body in air with two organs that fill much of it, none of them in the middle."""
    at = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij"))
    label = np.zeros(shape, np.uint8)
    for number, centre, radius in ((1, (0.4, 0.5, 0.45), 0.28), (2, (0.7, 0.6, 0.65), 0.2)):
        centred = at - np.reshape(centre, (3, 1, 1, 1))
        label[(centred**2).sum(axis=0) < radius**2] = number
    body = (((at - 0.5) ** 2).sum(axis=0) < 0.36**2) | (label > 0)
    return np.where(body, 50, -1000).astype(np.int16), label


def _world(mask: Array, affine: Array) -> Array:
    """Centre of a mask in mm."""
    middle: Array = affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]
    return middle


def _layer(mask: Array, steps: list[float]) -> float:
    """Voxels in a layer of ``steps`` voxels on the surface of a mask."""
    sizes = [np.ptp(np.argwhere(mask)[:, axis]) + 1 for axis in range(3)]
    return float(sum(s * np.prod(sizes) / n for s, n in zip(steps, sizes, strict=True)))


@settings(max_examples=40)
@given(_grids(), st.booleans(), st.integers(0, 1))
def test_without_resampling_every_voxel_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    grid: tuple[tuple[int, int, int], Array],
    cropped: bool,
    margin: int,
) -> None:
    shape, affine = grid
    image, label = _case(shape)
    folder = tmp_path_factory.mktemp("store")
    data = {"foreground_crop": cropped, "crop_margin": margin}
    prepared, row = _prepared(Volume(image, affine), label, folder, **data)
    assert cropped == (prepared.size < label.size)
    back, found = to_file_grid(prepared, row)
    np.testing.assert_array_equal(back, label)
    np.testing.assert_array_equal(found, affine)
    onehot = np.stack([prepared == n for n in range(3)]).astype(np.float32)
    probabilities, _ = to_file_grid(onehot, row)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), label)


@settings(max_examples=40)
@given(
    _grids(),
    st.booleans(),
    st.one_of(
        st.tuples(*[st.floats(0.7, 3.0)] * 3).map(lambda s: {"spacing": s}),
        st.tuples(*[st.integers(12, 30)] * 3).map(lambda s: {"resize": s}),
    ),
)
def test_with_resampling_volume_and_place_are_held_within_a_voxel(
    tmp_path_factory: pytest.TempPathFactory,
    grid: tuple[tuple[int, int, int], Array],
    cropped: bool,
    data: dict[str, Any],
) -> None:
    shape, affine = grid
    image, label = _case(shape)
    if "spacing" in data:
        # At least six prepared voxels along the shorter axes.
        stored = Volume(image, affine)
        extent = [n * s for n, s in zip(shape, stored.spacing, strict=True)]
        data = {"spacing": [min(s, min(extent) / 12) for s in data["spacing"]]}
    folder = tmp_path_factory.mktemp("store")
    prepared, row = _prepared(Volume(image, affine), label, folder, foreground_crop=cropped, **data)
    back, _ = to_file_grid(prepared, row)
    assert back.shape == label.shape
    ras = resample.to_ras(Volume(label, affine))[0]
    native = to_native(prepared, row)
    # Voxels of the native grid that one prepared voxel takes, at least one.
    steps = [max(row[f"crop_shape_{a}"] / row[f"p_{a}"], 1.0) for a in "xyz"]
    mm = [row[f"p_spacing_{a}"] * max(1.0, row[f"p_{a}"] / row[f"crop_shape_{a}"]) for a in "xyz"]
    for number in (1, 2):
        before, after = int((label == number).sum()), int((back == number).sum())
        assert int((native == number).sum()) == after
        # One layer on the surface, of which nearest-voxel rounding moves less than half each way.
        assert abs(after - before) <= _layer(ras == number, steps)
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            one, two = (np.flatnonzero((m == number).any(axis=others)) for m in (native, ras))
            assert abs(one[0] - two[0]) <= steps[axis] + 1e-9
            assert abs(one[-1] - two[-1]) <= steps[axis] + 1e-9
        moved = _world(back == number, affine) - _world(label == number, affine)
        assert np.linalg.norm(moved) <= np.linalg.norm(mm)


def test_a_file_without_orientation_keeps_its_axes(tmp_path: Path) -> None:
    image, label = _case((18, 15, 20))
    volume = Volume(image, scaling_affine((0.6, 0.7, 2.0)), oriented=False)
    prepared, row = _prepared(volume, label, tmp_path, crop_margin=1)
    back, affine = to_file_grid(prepared, row)
    np.testing.assert_array_equal(back, label)
    save_prediction(tmp_path / "p.nii", prepared, row)
    written = nibabel.load(tmp_path / "p.nii")
    assert int(written.header["sform_code"]) == int(written.header["qform_code"]) == 0
    assert written.header.get_zooms() == pytest.approx((0.6, 0.7, 2.0))
    np.testing.assert_allclose(np.diag(affine), [0.6, 0.7, 2.0, 1.0])


@pytest.mark.parametrize("name", ["p.nii", "p.nii.gz"])
def test_a_saved_prediction_lies_on_the_original(tmp_path: Path, name: str) -> None:
    image, label = _case((18, 15, 20))
    affine = np.array([[0, 0.1, -2.5, 90], [-0.7, 0, 0.1, 5], [0.1, 0.8, 0, -40], [0, 0, 0, 1.0]])
    prepared, row = _prepared(Volume(image, affine), label, tmp_path, spacing=(1.0, 1.0, 1.0))
    save_prediction(tmp_path / name, prepared, row)
    written = nibabel.load(tmp_path / name)
    array, _ = to_file_grid(prepared, row)
    np.testing.assert_array_equal(np.asarray(written.dataobj), array)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_allclose(written.affine, affine, rtol=1e-6)
    first = (tmp_path / name).read_bytes()
    onehot = np.stack([prepared == n for n in range(3)]).astype(np.float32)
    save_prediction(tmp_path / name, onehot, row)
    both = nibabel.load(tmp_path / name)
    assert (np.asarray(both.dataobj) != array).mean() < 0.02
    save_prediction(tmp_path / name, prepared, row)
    assert (tmp_path / name).read_bytes() == first
    if name.endswith(".gz"):
        assert gzip.decompress(first)[344:347] == b"n+1"


def test_a_prediction_on_another_grid_is_refused() -> None:
    row = {f"{key}_{a}": 4 for key in ("p", "crop_shape", "native") for a in "xyz"}
    row |= {f"crop_start_{a}": 0 for a in "xyz"}
    with pytest.raises(ValueError, match="expected"):
        to_native(np.zeros((4, 4, 5)), row)
