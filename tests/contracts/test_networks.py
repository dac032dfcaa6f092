"""Properties of every network that is fine-tuned; a new one is tested by being registered."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.methods import copies, equal, generator
from voxseq.base.errors import ConfigError
from voxseq.config.model import EncoderConfig
from voxseq.models.networks import NETWORKS, build_network, freeze_encoder

CONFIG = EncoderConfig(width=12, depth=2, heads=2, mlp_width=24, patch_size=(4, 4, 4))
#: Own settings; a network that has none here keeps its defaults.
SMALL: dict[str, dict[str, Any]] = {
    "unet3d": {"features": (4, 4, 8, 8, 8, 4), "norm": "batch"},
    "resnet": {"stem": "small", "width": 0.0625},
}
SHAPE = (16, 16, 32)

pytestmark = pytest.mark.parametrize("name", NETWORKS)


def build(name: str, seed: int = 0, channels: int = 1) -> nn.Module:
    return build_network(
        name,
        CONFIG,
        classes=3,
        features=2,
        seed=seed,
        settings=SMALL.get(name),
        in_channels=channels,
    )


def volumes(count: int = 2, channels: int = 1) -> torch.Tensor:
    return torch.rand(count, channels, *SHAPE, generator=generator())


def test_the_seed_decides_the_weights_and_the_global_generator_stays(name: str) -> None:
    states = []
    for noise, seed in ((1, 3), (2, 3), (1, 4)):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        states.append(copies(build(name, seed)))
        assert torch.equal(torch.get_rng_state(), before)
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


@pytest.mark.parametrize("channels", [1, 2])
def test_logits_of_each_class_have_gradients_in_every_weight(name: str, channels: int) -> None:
    network = build(name, channels=channels)
    logits = network(volumes(channels=channels))
    assert tuple(logits.shape) in {(2, 3), (2, 3, *SHAPE)}
    (logits * torch.randn(logits.shape, generator=generator())).sum().backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_volumes_have_finite_logits_and_gradients(name: str, value: float) -> None:
    network = build(name)
    logits = network(torch.full((2, 1, *SHAPE), value))
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_every_channel_is_seen(name: str) -> None:
    network = build(name, channels=2).eval()
    images = volumes(channels=2).requires_grad_()
    network(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().amax(dim=(0, 2, 3, 4)).gt(0).all()


def test_a_volume_is_scored_by_itself(name: str) -> None:
    network = build(name).eval()
    with torch.no_grad():
        together = network(volumes(3))
        for number, volume in enumerate(volumes(3)):
            torch.testing.assert_close(network(volume[None])[0], together[number])


def test_half_precision_gives_finite_logits_near_the_exact_ones(name: str) -> None:
    network = build(name).eval()
    with torch.no_grad():
        exact = network(volumes())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = network(volumes()).float()
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1 * float(exact.std()) + 0.02)


def test_a_frozen_encoder_gets_no_gradient(name: str) -> None:
    network = build(name)
    if not hasattr(network, "encoder"):
        with pytest.raises(ConfigError, match="no encoder that could be frozen"):
            freeze_encoder(network)
        return
    freeze_encoder(network)
    network(volumes()).sum().backward()
    learning = {n for n, p in network.named_parameters() if p.grad is not None}
    assert learning == {n for n, _ in network.named_parameters() if not n.startswith("encoder.")}
