"""Tokens: cutting, order, targets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.helpers.methods import unpatchify
from voxseq.models.patches import normalised_targets, patchify, token_grid, token_order

sizes = st.tuples(*[st.integers(1, 4)] * 3)


def numbered(grid: tuple[int, ...], patch: tuple[int, ...]) -> torch.Tensor:
    shape = [g * p for g, p in zip(grid, patch, strict=True)]
    return torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(1, 1, *shape)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes)
def test_tokens_are_boxes_in_raster_order_and_come_back(grid, patch):
    volume = numbered(grid, patch)
    tokens = patchify(volume, patch)
    for index, (x, y, z) in enumerate(np.ndindex(*grid)):
        box = volume[
            0,
            0,
            x * patch[0] : (x + 1) * patch[0],
            y * patch[1] : (y + 1) * patch[1],
            z * patch[2] : (z + 1) * patch[2],
        ]
        assert torch.equal(tokens[0, index], box.flatten())
    assert torch.equal(unpatchify(tokens, grid, patch), volume)


def test_voxel_order_is_that_of_a_convolution_kernel():
    patch = (2, 3, 4)
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(2, 1, 4, 9, 8, generator=generator)
    kernel = torch.randn(5, 1, *patch, generator=generator)
    expected = functional.conv3d(volume, kernel, stride=patch).flatten(2).transpose(1, 2)
    actual = patchify(volume, patch) @ kernel.flatten(1).T
    torch.testing.assert_close(actual, expected)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 4), st.sampled_from(["patch_major", "raster"]))
def test_order_is_a_permutation_and_patch_major_lists_one_patch_after_the_other(
    grid, length, order
):
    grid = (*grid[:2], grid[2] * length)
    permutation = token_order(grid, length, order)
    count = int(np.prod(grid))
    assert sorted(permutation.tolist()) == list(range(count))
    if order == "raster":
        assert permutation.tolist() == list(range(count))
        return
    x, y, z = np.unravel_index(permutation.numpy(), grid)
    patch = z // (grid[2] // length)
    keys = list(zip(patch.tolist(), x.tolist(), y.tolist(), z.tolist(), strict=True))
    assert keys == sorted(keys)


def test_joining_patches_and_patch_major_order_give_the_patches_back():
    """The sequence is the tokens of the first patch, then those of the second, …"""
    generator = torch.Generator().manual_seed(0)
    patches = [torch.randn(1, 1, 8, 4, 4, generator=generator) for _ in range(4)]
    joined = torch.cat(patches, dim=-1)
    order = token_order(token_grid(tuple(joined.shape[2:]), (4, 2, 2)), 4, "patch_major")
    expected = torch.cat([patchify(p, (4, 2, 2)) for p in patches], dim=1)
    assert torch.equal(patchify(joined, (4, 2, 2))[:, order], expected)


@pytest.mark.parametrize(
    ("grid", "length", "order", "said"),
    [
        ((1, 1, 6), 4, "raster", "evenly"),
        ((1, 1, 4), 0, "raster", "evenly"),
        ((1, 1, 4), 4, "random", "patch_major"),
    ],
)
def test_impossible_orders_are_refused(grid, length, order, said):
    with pytest.raises(ValueError, match=said):
        token_order(grid, length, order)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4, 5), (1, 2, 4, 4, 3), (1, 4, 4, 4), (1, 1, 4, 4, 0)])
def test_volumes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="volume of shape"):
        patchify(torch.zeros(shape), (2, 2, 2))


def test_targets_use_the_unbiased_variance_and_float32():
    patches = torch.tensor([[[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]]])
    values = np.array([1.0, 2.0, 4.0])
    expected = (values - values.mean()) / np.sqrt(values.var(ddof=1) + 1e-6)
    targets = normalised_targets(patches)
    np.testing.assert_allclose(targets[0, 0].numpy(), expected, rtol=1e-6)
    assert torch.equal(targets[0, 1], torch.zeros(3))
    assert normalised_targets(patches.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match="variance"):
        normalised_targets(torch.zeros(1, 1, 1))
