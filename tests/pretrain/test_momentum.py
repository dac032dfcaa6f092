"""Moving averages of weights: hand-computed values, the ends, and that no gradient arrives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from voxseq.pretrain.parts.momentum import frozen_copy, rising_momentum, update_average


def network() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    for parameter in made.parameters():
        parameter.data = torch.rand(parameter.shape, generator=generator)
    return made


def shifted(module: nn.Module, by: float) -> None:
    for parameter in module.parameters():
        parameter.data += by


def test_a_copy_has_memory_of_its_own_and_no_gradient():
    original = network()
    copied = frozen_copy(original)
    for mine, theirs in zip(copied.parameters(), original.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()
        assert not mine.requires_grad
        assert theirs.requires_grad
    (copied(torch.rand(4, 3)) - original(torch.rand(4, 3))).square().sum().backward()
    assert all(p.grad is None for p in copied.parameters())
    assert all(p.grad is not None for p in original.parameters())


def test_the_average_by_hand():
    original = network()
    copied = frozen_copy(original)
    start = [p.clone() for p in copied.parameters()]
    shifted(original, 1.0)
    update_average(copied, original, 0.75)
    update_average(copied, original, 0.75)
    # One quarter of the way, then a quarter of what is left: 0.25 + 0.75 * 0.25.
    for before, after in zip(start, copied.parameters(), strict=True):
        torch.testing.assert_close(after, before + 0.4375)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_the_ends_are_exact(momentum):
    original = network()
    copied = frozen_copy(original)
    expected = [p.clone() for p in (copied if momentum == 1 else original).parameters()]
    if momentum == 0:
        expected = [p + 0.1 for p in expected]
    shifted(original, 0.1)
    update_average(copied, original, momentum)
    for value, parameter in zip(expected, copied.parameters(), strict=True):
        assert torch.equal(value, parameter)


def test_equal_weights_stay_equal():
    original = network()
    copied = frozen_copy(original)
    update_average(copied, original, 0.9)
    pairs = zip(copied.parameters(), original.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_buffers_are_copied_or_left():
    original = network()
    copied, own = frozen_copy(original), frozen_copy(original)
    original.train()(torch.rand(4, 3))
    update_average(copied, original, 0.9)
    update_average(own, original, 0.9, buffers=False)
    assert torch.equal(copied[1].running_mean, original[1].running_mean)
    assert int(copied[1].num_batches_tracked) == 1
    assert not own[1].running_mean.any()


@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_impossible_momentum_is_refused(momentum):
    with pytest.raises(ValueError, match="momentum"):
        update_average(frozen_copy(network()), network(), momentum)


def test_unlike_modules_are_refused():
    with pytest.raises(ValueError, match="zip"):
        update_average(nn.Linear(3, 2, bias=False).requires_grad_(False), nn.Linear(3, 2), 0.5)


def test_momentum_rises_along_half_a_cosine():
    values = [rising_momentum(0.99, step, 100) for step in range(101)]
    assert values[0] == pytest.approx(0.99, abs=1e-12)
    assert values[50] == pytest.approx(0.995, abs=1e-12)
    assert values[100] == 1
    assert values == sorted(values)
    assert values[25] == pytest.approx(1 - 0.01 * (1 + 0.5**0.5) / 2)
