from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.random import RandomState
from scipy.ndimage import gaussian_filter

from voxseq.transforms.warp import (
    WarpParameters,
    centred_points,
    displacement,
    random_warp,
    resample,
    rotation,
    smooth_field,
    smoothed_noise_sd,
)

SHAPE = (9, 7, 5)


def volume(shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    label = torch.randint(0, 3, (1, *shape), generator=torch.Generator().manual_seed(0)).float()
    return torch.cat([torch.rand(1, *shape, generator=torch.Generator().manual_seed(1)), label])


def only(**probabilities: float) -> WarpParameters:
    none = dict.fromkeys(("elastic_probability", "rotation_probability", "zoom_probability"), 0.0)
    return WarpParameters(**{**none, **probabilities})


def test_own_points_give_the_volume_back() -> None:
    data = volume()
    torch.testing.assert_close(resample(data, centred_points(SHAPE), 1), data, rtol=0, atol=1e-5)


def test_whole_voxel_shift_moves_every_axis_by_its_own_amount() -> None:
    data = volume()
    out = resample(data, centred_points(SHAPE) + np.array([2, 1, -1], np.float32), 1)
    expected = torch.zeros_like(data)
    expected[:, :-2, :-1, 1:] = data[:, 2:, 1:, :-1]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("axis", "plane"), [(0, (2, 3)), (1, (1, 3)), (2, (1, 2))])
def test_right_angle_is_a_quarter_turn(axis: int, plane: tuple[int, int]) -> None:
    data = volume((7, 7, 7))
    angles = np.zeros(3)
    angles[axis] = 90.0
    matrix = rotation(angles).astype(np.float32)
    out = resample(data, centred_points((7, 7, 7)) @ matrix, 1)
    matches = [torch.allclose(out, torch.rot90(data, k, plane), atol=1e-4) for k in (1, 3)]
    assert sum(matches) == 1


def test_rotation_is_orthogonal() -> None:
    matrix = rotation(np.array([10.0, -7.0, 15.0]))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


def test_nothing_is_drawn_nothing_changes() -> None:
    data = volume()
    assert random_warp(data, RandomState(0), 1, only()) is data


def test_label_stays_on_the_image() -> None:
    x, y, z = np.meshgrid(*[np.arange(n) for n in (24, 24, 16)], indexing="ij")
    blob = ((x - 13) ** 2 / 36 + (y - 10) ** 2 / 49 + (z - 8) ** 2 / 16 < 1).astype(np.float32)
    data = torch.from_numpy(np.stack([blob, blob]))
    state = RandomState(3)
    p = WarpParameters(elastic_probability=1, rotation_probability=1, zoom_probability=1)
    for _ in range(10):
        out = random_warp(data, state, 1, p)
        agree = ((out[0] > 0.5) == (out[1] > 0.5)).float().mean()
        assert agree > 0.98
        assert set(out[1].unique().tolist()) <= {0.0, 1.0}
        assert not torch.equal(out, data)


def test_zoom_covers_its_range_with_even_sides() -> None:
    data = torch.zeros(1, 41, 1, 1)
    state = RandomState(0)
    ramp = torch.arange(41.0).view(1, 41, 1, 1) - 20
    factors = [
        float(random_warp(ramp, state, 1, only(zoom_probability=1.0))[0, 30, 0, 0]) / 10
        for _ in range(300)
    ]
    assert data.shape == ramp.shape
    assert 0.85 <= min(factors) < 0.86
    assert 1.24 < max(factors) <= 1.2501
    assert 0.4 < np.mean(np.array(factors) < 1) < 0.6


def test_smooth_field_has_unit_variance_and_the_width_of_the_filter() -> None:
    state = RandomState(0)
    fields = np.stack([smooth_field((24, 20, 16), 5.0, state) for _ in range(150)])
    assert fields.shape[1:] == (24, 20, 16, 3)
    np.testing.assert_allclose(fields.std(axis=0).mean(), 1.0, atol=0.03)
    # Filtered white noise of width σ correlates as exp(-d² / 4σ²).
    near = (fields[:, 8, 10, 8] * fields[:, 15, 10, 8]).mean()
    assert near == pytest.approx(np.exp(-(7**2) / (4 * 5.0**2)), abs=0.12)


def test_amplitude_is_that_of_filtered_noise() -> None:
    sigma = 3.0
    noise = np.random.default_rng(0).uniform(-1, 1, (64, 64, 64))
    inner = gaussian_filter(noise, sigma, mode="wrap")
    assert smoothed_noise_sd(sigma) == pytest.approx(inner.std(), rel=0.1)


def test_displacement_is_of_a_few_voxels() -> None:
    state = RandomState(0)
    fields = [displacement((16, 16, 16), WarpParameters(), state) for _ in range(40)]
    sizes = np.array([f.std() for f in fields])
    assert 0.2 < sizes.mean() < 3.0
