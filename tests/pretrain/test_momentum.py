"""Moving averages of weights: hand-computed values, the ends, and no gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.helpers.methods import copies, equal
from voxseq.pretrain.parts.momentum import frozen_copy, rising_momentum, update_average


def networks(shift: float = 0.0) -> tuple[nn.Sequential, nn.Sequential]:
    """A network whose weights have moved since the second one was copied from it."""
    generator = torch.Generator().manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    for parameter in made.parameters():
        parameter.data = torch.rand(parameter.shape, generator=generator)
    copied = frozen_copy(made)
    for parameter in made.parameters():
        parameter.data += shift
    return made, copied


def test_a_copy_has_memory_of_its_own_and_no_gradient():
    original, copied = networks()
    for mine, theirs in zip(copied.parameters(), original.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()
    (copied(torch.rand(4, 3)) - original(torch.rand(4, 3))).square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in copied.parameters())
    assert all(p.grad is not None for p in original.parameters())


def test_the_average_by_hand_and_the_exact_ends():
    for momentum, share in ((0.75, 0.25), (1.0, 0.0), (0.0, 1.0)):
        original, copied = networks(shift=1.0)
        start = [p.clone() for p in copied.parameters()]
        update_average(copied, original, momentum)
        for before, after, now in zip(
            start, copied.parameters(), original.parameters(), strict=True
        ):
            torch.testing.assert_close(after, before + share)
            if momentum in (0.0, 1.0):
                assert torch.equal(after, before if momentum else now)
    original, copied = networks()
    update_average(copied, original, 0.9)
    assert equal(copies(copied), copies(original))


def test_buffers_are_copied_or_left():
    original, copied = networks()
    own = frozen_copy(original)
    original.train()(torch.rand(4, 3))
    update_average(copied, original, 0.9)
    update_average(own, original, 0.9, buffers=False)
    assert torch.equal(copied[1].running_mean, original[1].running_mean)
    assert int(copied[1].num_batches_tracked) == 1
    assert not own[1].running_mean.any()


def test_impossible_momentum_and_unlike_modules_are_refused():
    for momentum in (-0.1, 1.1):
        with pytest.raises(ValueError, match="momentum"):
            update_average(*networks(), momentum)
    with pytest.raises(ValueError, match="zip"):
        update_average(nn.Linear(3, 2, bias=False).requires_grad_(False), nn.Linear(3, 2), 0.5)


def test_momentum_rises_along_half_a_cosine():
    values = [rising_momentum(0.99, step, 100) for step in range(101)]
    expected = [0.99, 1 - 0.01 * (1 + 0.5**0.5) / 2, 0.995]
    assert [values[0], values[25], values[50]] == pytest.approx(expected, abs=1e-12)
    assert values[100] == 1
    assert values == sorted(values)
