"""Blur of batches, against MONAI inside and SciPy everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.layers.convutils import gaussian_1d
from monai.transforms import GaussianSmooth
from scipy import ndimage

from voxseq.transforms.blur import Kernel, blurred, integrated, sampled
from voxseq.transforms.spatial import Triple

#: Shapes whose axes are shorter than a kernel, as long as some blocks, and between two of them.
SHAPES = [(32, 32, 32), (33, 64, 5), (3, 40, 96), (1, 2, 70)]
LARGEST = 2.0


def volumes(shape: Triple, count: int = 3) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def widths(count: int = 3, least: float = 0.1) -> np.ndarray:
    """Random ones, one that is as wide as may be, and one that is hardly any."""
    drawn = np.random.default_rng(0).uniform(least, LARGEST, (count, 3))
    drawn[0, 1], drawn[-1, 0] = LARGEST, least
    return drawn


def by_scipy(volume: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """MONAI's kernel, beyond the faces the outermost voxels."""
    smooth = volume
    for axis, width in enumerate(sigma):
        kernel = gaussian_1d(torch.tensor(width, dtype=torch.float32)).numpy()
        smooth = ndimage.correlate1d(smooth, kernel, axis, mode="nearest")
    return smooth


@pytest.mark.parametrize("shape", SHAPES)
def test_integrated_kernels_are_those_of_monai(shape: Triple) -> None:
    source, sigma = volumes(shape), widths()
    found = blurred(source, sigma, integrated, LARGEST).numpy()
    for volume, values, width in zip(source.numpy(), found, sigma, strict=True):
        np.testing.assert_allclose(values, by_scipy(volume, width), atol=1e-6)


def test_inside_it_is_monais_transform() -> None:
    source, sigma = volumes((32, 32, 32)), widths()
    found = blurred(source, sigma, integrated, LARGEST)
    inside = (slice(9, -9),) * 3
    for volume, values, width in zip(source, found, sigma, strict=True):
        expected = GaussianSmooth(width.tolist())(volume[None])[0]
        np.testing.assert_allclose(values[inside].numpy(), expected[inside].numpy(), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_sampled_kernels_are_those_of_scipy(shape: Triple) -> None:
    source, sigma = volumes(shape), widths(least=0.0)
    found = blurred(source, sigma, sampled, LARGEST).numpy()
    for volume, values, width in zip(source.numpy(), found, sigma, strict=True):
        expected = ndimage.gaussian_filter(volume, width, mode="nearest", truncate=3.0)
        np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize("kernel", [integrated, sampled])
def test_no_width_is_no_blur_and_flat_volumes_stay_flat(kernel: Kernel) -> None:
    source, none = volumes((12, 10, 40)), np.zeros((3, 3))
    torch.testing.assert_close(blurred(source, none, kernel, LARGEST), source, atol=1e-6, rtol=0)
    flat = torch.full((3, 16, 16, 16), 0.7)
    torch.testing.assert_close(blurred(flat, widths(), kernel, LARGEST), flat, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kernel", [integrated, sampled])
@given(st.integers(1, 5), st.sampled_from(SHAPES))
def test_a_volume_does_not_depend_on_the_others(kernel: Kernel, count: int, shape: Triple) -> None:
    source, sigma = volumes(shape, count), widths(count)
    before = source.clone()
    together = blurred(source, sigma, kernel, LARGEST)
    assert torch.equal(source, before)
    for row in range(count):
        alone = blurred(source[row : row + 1], sigma[row : row + 1], kernel, LARGEST)
        assert torch.equal(alone[0], together[row])
