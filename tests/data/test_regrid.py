"""The prepared grid is that of the published chain, which is MONAI's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CropForeground, Orientation, ScaleIntensityRange, Spacing
from nibabel import orientations
from scipy.spatial.transform import Rotation

from voxseq.config.data import TaskDataConfig
from voxseq.data import grid as resample
from voxseq.data.grid import Regridded, regrid
from voxseq.data.prepared import normalise
from voxseq.data.volume import Array, Volume

WINDOW = (-57.0, 175.0)


def _affine(
    spacing: tuple[float, ...], angles: tuple[float, ...] = (0, 0, 0), codes: str = "RAS"
) -> Array:
    """Rotated; its axes run towards ``codes`` before."""
    to, sign = orientations.axcodes2ornt(codes).T
    affine = np.eye(4)
    axes = np.eye(3)[:, to.astype(int)] * sign
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ axes * spacing
    affine[:3, 3] = (-31.5, 12.25, 400)
    return affine


#: Shape, affine, spacing asked for.
GRIDS = {
    "thick slices": ((20, 18, 27), _affine((0.8, 0.8, 5.0)), (1.0, 1.0, 1.5)),
    "very thick slices": ((12, 13, 32), _affine((1.5, 1.5, 7.5)), (1.5, 1.5, 1.0)),
    "coarser": ((23, 31, 40), _affine((0.7, 0.9, 1.25)), (2.0, 1.5, 3.1)),
    "oblique": ((20, 22, 15), _affine((0.9, 1.1, 3.0), (0.1, -0.3, 0.2), "LPS"), (1.0, 1.4, 1.5)),
    "other axes": ((15, 22, 20), _affine((3.0, 0.9, 1.1), (0.2, 0.1, -0.1), "SAR"), (1, 1, 1.5)),
}


def _image(shape: tuple[int, ...]) -> Array:
    """A body with noise in air."""
    at = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in shape], indexing="ij"))
    inside = (at**2).sum(axis=0) < 0.3**2
    noise = np.random.default_rng(0).normal(40, 60, shape)
    return np.where(inside, noise, -1000).round().astype(np.int16)


def _ours(image: Array, affine: Array, **data: Any) -> tuple[Regridded, Array, TaskDataConfig]:
    """The prepared image, its affine, and the recipe."""
    recipe = TaskDataConfig.model_validate({"window": WINDOW, **data})
    ras, spacing = resample.to_ras(Volume(image, affine))
    found = regrid([ras], spacing, recipe)
    turn = orientations.inv_ornt_aff(orientations.io_orientation(affine), image.shape)
    start, covered = (np.array(part, dtype=float) for part in found.box)
    steps = covered / found.image.shape[1:]
    grid = np.diag([*steps, 1.0])
    grid[:3, 3] = start + (steps - 1) / 2
    return found, affine @ turn @ grid, recipe


def _theirs(array: Array, affine: Array, spacing: tuple[float, ...], mode: str) -> MetaTensor:
    tensor = MetaTensor(torch.from_numpy(array.astype(np.float64))[None], torch.from_numpy(affine))
    return Spacing(spacing, mode=mode)(Orientation("RAS")(tensor))


@pytest.mark.parametrize("name", GRIDS)
def test_the_grid_its_values_and_its_classes_are_those_of_monai(name: str) -> None:
    shape, affine, spacing = GRIDS[name]
    image = _image(shape)
    found, grid, _ = _ours(image, affine, spacing=spacing, foreground_crop=False)
    expected = _theirs(image, affine, spacing, "bilinear")
    assert found.image.shape[1:] == expected.shape[1:]
    np.testing.assert_allclose(grid, expected.affine.numpy(), atol=1e-4)
    np.testing.assert_allclose(found.image[0], expected[0].numpy(), atol=1e-2)
    label = (image > 40).astype(np.uint8)
    ours = resample.nearest_at(resample.to_ras(Volume(label, affine))[0], found.places)
    theirs = _theirs(label, affine, spacing, "nearest")[0].numpy()
    # Where a voxel lies halfway between two, MONAI's rounding errors choose.
    halfway = np.zeros(ours.shape, bool)
    for axis, places in enumerate(found.places):
        ties = np.flatnonzero(np.abs(places % 1 - 0.5) < 1e-6)
        np.moveaxis(halfway, axis, 0)[ties] = True
    assert halfway.mean() < 0.8
    np.testing.assert_array_equal(ours[~halfway], theirs[~halfway])


@pytest.mark.parametrize("margin", [0, 2])
@pytest.mark.parametrize("name", GRIDS)
def test_the_foreground_is_cut_out_of_the_resampled_image(name: str, margin: int) -> None:
    shape, affine, spacing = GRIDS[name]
    image = _image(shape)
    found, grid, recipe = _ours(image, affine, spacing=spacing, crop_margin=margin)
    scaled = ScaleIntensityRange(*WINDOW, 0.0, 1.0, clip=True)
    expected = CropForeground(margin=margin, allow_smaller=True)(
        scaled(_theirs(image, affine, spacing, "bilinear"))
    )
    assert found.image.shape[1:] == expected.shape[1:]
    np.testing.assert_allclose(grid, expected.affine.numpy(), atol=1e-4)
    np.testing.assert_allclose(normalise(found.image, recipe)[0], expected[0].numpy(), atol=1e-4)


def test_an_image_without_foreground_is_taken_whole() -> None:
    shape, affine, spacing = GRIDS["oblique"]
    image = np.full(shape, -1000, np.int16)
    found, _, _ = _ours(image, affine, spacing=spacing)
    whole, _, _ = _ours(image, affine, spacing=spacing, foreground_crop=False)
    assert found.image.shape == whole.image.shape


def test_a_foreground_that_the_coarse_grid_misses_is_taken_whole() -> None:
    image = np.full((9, 9, 9), -1000, np.int16)
    image[4, 4, 3] = 100
    found, _, _ = _ours(image, np.eye(4), spacing=(2, 2, 4))
    assert found.image.shape[1:] == (5, 5, 3)
    np.testing.assert_array_equal(found.image, -1000)
