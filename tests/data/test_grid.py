"""Grids of voxels: interpolation, axes, and predictions back on the voxels of the original file."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import orientations
from scipy.spatial.transform import Rotation
from torch.nn import functional

from tests.helpers import trees
from voxseq.config.data import StoreConfig
from voxseq.config.runs import TaskPreparation
from voxseq.data import grid, layouts
from voxseq.data import prepare as preprocess
from voxseq.data.checks import Measured, content_hash
from voxseq.data.grid import to_file_grid, to_native, values_to_file_grid
from voxseq.data.index import index_row
from voxseq.data.store import StoreWriter, VolumeStore
from voxseq.data.volume import Array, Entry, Scan, Volume, scaling_affine
from voxseq.predict.files import Place, write_volume

Triple = tuple[int, int, int]
shapes = st.tuples(*[st.integers(1, 9)] * 3)
ORIENTATIONS = [
    codes
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]


@settings(max_examples=60, deadline=None)
@given(shapes, shapes, st.integers(1, 60))
def test_interpolation_agrees_with_torch_and_slabs_change_no_bit(
    old: Triple, new: Triple, voxels: int
) -> None:
    array = np.random.default_rng(0).normal(size=old).astype(np.float32)
    given_array = torch.from_numpy(array)[None, None]
    expected = functional.interpolate(given_array, new, mode="trilinear", align_corners=False)
    whole = grid.linear(array, new)
    np.testing.assert_allclose(whole, expected[0, 0].numpy(), atol=1e-5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("voxseq.data.grid.VOXELS", voxels)
        assert grid.linear(array, new).tobytes() == whole.tobytes()
        both = grid.linear(np.stack([array, -array]), new)
    np.testing.assert_array_equal(both, np.stack([whole, -whole]))


def test_a_constant_image_stays_constant_and_half_the_voxels_are_means() -> None:
    np.testing.assert_array_equal(
        grid.linear(np.full((5, 6, 7), 0.1, np.float32), (9, 4, 11)), np.float32(0.1)
    )
    array = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    means = array.reshape(2, 2, 2, 2, 2, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(grid.linear(array, (2, 2, 2)), means)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_any_orientation_becomes_ras(codes: tuple[str, str, str]) -> None:
    ras = trees.image((4, 5, 6))
    change = orientations.ornt_transform(
        orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(codes)
    )
    stored = orientations.apply_orientation(ras, change)
    affine = np.diag([1.0, 2.0, 3.0, 1.0]) @ orientations.inv_ornt_aff(change, ras.shape)
    array, spacing = grid.to_ras(Volume(stored, affine))
    np.testing.assert_array_equal(array, ras)
    assert spacing == pytest.approx((1, 2, 3))
    unoriented = Volume(stored, affine, oriented=False)
    np.testing.assert_array_equal(grid.to_ras(unoriented)[0], stored)


# The way back

ENTRY = Entry("case", "image", "case.nii.gz", label_path="label.nii.gz")


def _prepared(volume: Volume, label: Array, folder: Path, **data: Any) -> tuple[Array, Any]:
    """The label on the prepared grid, and the volume's row, as the stage makes them."""
    measured = Measured(0.0, 1.0, content_hash(volume.array))
    row = {**index_row("set", ENTRY, volume, measured), "split": "test"}
    writer = StoreWriter(folder, StoreConfig(chunk_shape=(16, 16, 16)))
    adapter = layouts.Adapter(
        scan=lambda *_: Scan(()),
        read_image=lambda *_: volume,
        read_label=lambda *_: Volume(label, volume.affine),
    )
    reader = preprocess._Reader(adapter, folder, ("",))
    content = {"type": "segmentation", "labels": 2, "data": {"window": [-100, 200], **data}}
    item = preprocess._Item(0, row, (0,))
    preprocess._add_case(writer, item, reader, TaskPreparation.model_validate(content))
    writer.close()
    store = VolumeStore(folder)
    return store.label(0)[...], store.table.to_pandas().loc[0]


@st.composite
def _grids(draw: st.DrawFn) -> tuple[Triple, Array]:
    """Shape and affine: any spacing, order and direction of the axes, slanted by up to 34°."""
    shape = tuple(draw(st.integers(14, 26)) for _ in range(3))
    spacing = [draw(st.floats(0.4, 4.0)) for _ in range(3)]
    order = draw(st.permutations(range(3)))
    signs = [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    angles = [draw(st.floats(-0.34, 0.34)) for _ in range(3)]
    affine = np.eye(4)
    axes = np.eye(3)[:, order] * signs
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ axes * spacing
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return shape, affine


def _case(shape: Triple) -> tuple[Array, Array]:
    """A body in air with two organs that fill much of it, none of them in the middle."""
    at = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij"))
    label = np.zeros(shape, np.uint8)
    for number, centre, radius in ((1, (0.4, 0.5, 0.45), 0.28), (2, (0.7, 0.6, 0.65), 0.2)):
        centred = at - np.reshape(centre, (3, 1, 1, 1))
        label[(centred**2).sum(axis=0) < radius**2] = number
    body = (((at - 0.5) ** 2).sum(axis=0) < 0.36**2) | (label > 0)
    return np.where(body, 50, -1000).astype(np.int16), label


def _onehot(classes: Array) -> Array:
    return np.stack([classes == n for n in range(3)]).astype(np.float32)


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
    stored: tuple[Triple, Array],
    cropped: bool,
    margin: int,
) -> None:
    shape, affine = stored
    image, label = _case(shape)
    folder = tmp_path_factory.mktemp("store")
    data = {"foreground_crop": cropped, "crop_margin": margin}
    prepared, row = _prepared(Volume(image, affine), label, folder, **data)
    assert cropped == (prepared.size < label.size)
    back, found = to_file_grid(prepared, row)
    np.testing.assert_array_equal(back, label)
    np.testing.assert_array_equal(found, affine)
    np.testing.assert_array_equal(to_file_grid(_onehot(prepared), row)[0], label)


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
    stored: tuple[Triple, Array],
    cropped: bool,
    data: dict[str, Any],
) -> None:
    shape, affine = stored
    image, label = _case(shape)
    if "spacing" in data:
        # At least six prepared voxels along the shorter axes.
        spacing = Volume(image, affine).spacing
        extent = [n * s for n, s in zip(shape, spacing, strict=True)]
        data = {"spacing": [min(s, min(extent) / 12) for s in data["spacing"]]}
    folder = tmp_path_factory.mktemp("store")
    prepared, row = _prepared(Volume(image, affine), label, folder, foreground_crop=cropped, **data)
    back, _ = to_file_grid(prepared, row)
    assert back.shape == label.shape
    ras = grid.to_ras(Volume(label, affine))[0]
    native, soft = to_native(prepared, row), to_native(_onehot(prepared), row)
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
            masks = ((m == number).any(axis=others) for m in (native, soft, ras))
            hard, likely, true = (np.flatnonzero(mask)[[0, -1]] for mask in masks)
            assert np.abs([hard - true, likely - true]).max() <= steps[axis] + 1e-9
        moved = _world(back == number, affine) - _world(label == number, affine)
        assert np.linalg.norm(moved) <= np.linalg.norm(mm)


def save_prediction(path: Path, prediction: np.ndarray, row: dict[str, Any]) -> None:
    """Write a prediction on the grid of the original file, which is not there."""
    classes, affine = to_file_grid(prediction, row)
    write_volume(path, classes, Place(affine, oriented=bool(row["orientation"])))


def test_values_are_mapped_as_the_classes_are(tmp_path: Path) -> None:
    image, label = _case((18, 15, 20))
    affine = np.array([[0, 0, -2.5, 90], [-0.7, 0, 0, 5], [0, 0.8, 0, -40], [0, 0, 0, 1.0]])
    prepared, row = _prepared(Volume(image, affine), label, tmp_path, spacing=(1.0, 1.0, 1.0))
    chances = _onehot(prepared)
    parts = [values_to_file_grid(p, row, float(k == 0)) for k, p in enumerate(chances)]
    classes, _ = to_file_grid(chances, row)
    np.testing.assert_array_equal(np.argmax(parts, axis=0), classes)
    np.testing.assert_allclose(np.sum(parts, axis=0), 1, atol=1e-6)


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
    save_prediction(tmp_path / name, _onehot(prepared), row)
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


def test_classes_are_the_largest_of_the_mapped_probabilities() -> None:
    """Also where the prepared grid is another one than that of the crop."""
    prepared, crop = (5, 6, 7), (8, 9, 4)
    row = {f"p_{a}": n for a, n in zip("xyz", prepared, strict=True)}
    for axis, size in zip("xyz", crop, strict=True):
        row |= {f"crop_start_{axis}": 1, f"crop_shape_{axis}": size, f"native_{axis}": size + 2}
    rng = np.random.default_rng(0)
    # Eighths, so that classes tie.
    probabilities = (rng.integers(0, 9, (4, *prepared)) / 8).astype(np.float32)
    found = to_native(probabilities, row)
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1, 2, 3}
    expected = np.zeros([size + 2 for size in crop])
    expected[1:-1, 1:-1, 1:-1] = grid.linear(probabilities, crop).argmax(axis=0)
    np.testing.assert_array_equal(found, expected)
