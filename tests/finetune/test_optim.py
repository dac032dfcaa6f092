from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.finetune_store import ENCODER
from voxseq.base.errors import ConfigError
from voxseq.config.model import EncoderConfig, OptimiserConfig
from voxseq.finetune.optim import build_optimiser, layer_id, parameter_groups
from voxseq.models.encoder import build_encoder
from voxseq.models.networks import build_network

CONFIG = EncoderConfig.model_validate(ENCODER)


def network(name: str = "unetr", seed: int = 0) -> nn.Module:
    return build_network(name, CONFIG, classes=3, features=2, seed=seed)


def settings(**changes: Any) -> OptimiserConfig:
    return OptimiserConfig.model_validate(
        {
            "lr": 1.0,
            "weight_decay": 0.05,
            "layer_decay": 0.5,
            "decay_one_dimensional": False,
            **changes,
        }
    )


def by_name(module: nn.Module, config: OptimiserConfig) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter."""
    names = {id(p): name for name, p in module.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(module, config, CONFIG.depth)
        for p in group["params"]
    }


def test_learning_rates_by_hand() -> None:
    found = by_name(network(), settings())
    rates = {
        "encoder.patch_embedding.weight": 0.125,
        "encoder.patch_embedding.bias": 0.125,
        "encoder.start_token": 0.125,
        "encoder.blocks.0.mlp.linear1.weight": 0.25,
        "encoder.blocks.1.attention.qkv.weight": 0.5,
        "encoder.norm.weight": 1.0,
        "out.conv.conv.weight": 1.0,
    }
    assert {name: found[name][0] for name in rates} == rates


def test_decoder_rate_acts_behind_the_encoder_only() -> None:
    found = by_name(network(), settings(decoder_lr=7.0))
    assert found["encoder.norm.weight"][0] == 1.0
    assert found["encoder.blocks.1.attention.qkv.weight"][0] == 0.5
    behind = {rate for name, (rate, _) in found.items() if not name.startswith("encoder.")}
    assert behind == {7.0}


def test_published_rates_of_twelve_blocks() -> None:
    ids = [layer_id(f"encoder.blocks.{k}.norm1.weight", 12) for k in range(12)]
    assert ids == list(range(1, 13))
    assert layer_id("encoder.start_token", 12) == 0
    assert layer_id("encoder.norm.bias", 12) == layer_id("decoder2.conv.weight", 12) == 13
    # A decoder block of UNETR has a name that begins like the encoder's.
    assert layer_id("encoder1.layer.conv1.conv.weight", 12) == 13


def test_no_weight_decay_on_vectors() -> None:
    module = network()
    for name, (_, decay) in by_name(module, settings()).items():
        is_vector = module.get_parameter(name).ndim == 1
        assert decay == (0.0 if is_vector else 0.05), name
    everywhere = by_name(module, settings(decay_one_dimensional=True))
    assert {decay for _, decay in everywhere.values()} == {0.05}


@pytest.mark.parametrize("name", ["unetr", "vit"])
def test_every_parameter_is_in_one_group(name: str) -> None:
    module = network(name)
    optimiser = build_optimiser(module, settings(layer_decay=None, betas=(0.9, 0.95)), CONFIG.depth)
    held = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in module.parameters())
    assert {group["lr"] for group in optimiser.param_groups} == {1.0}
    assert {group["betas"] for group in optimiser.param_groups} == {(0.9, 0.95)}


def test_first_update_moves_each_layer_by_its_rate() -> None:
    module = network("vit")
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimiser = build_optimiser(module, settings(lr=1e-3, weight_decay=0.0), CONFIG.depth)
    for p in module.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step()
    for name, p in module.named_parameters():
        expected = 1e-3 * 0.5 ** (3 - layer_id(name, 2))
        step = before[name] - p.detach()
        torch.testing.assert_close(step, torch.full_like(p, expected), rtol=1e-2, atol=1e-6)


def test_one_pass_over_the_weights_is_the_same_update() -> None:
    """Fused where nothing scales the gradients; some steps of both agree but for rounding."""
    one, two = network("vit"), network("vit")
    updates = [
        (one, build_optimiser(one, settings(), CONFIG.depth, "32-true")),
        (two, build_optimiser(two, settings(), CONFIG.depth, "16-mixed")),
    ]
    assert [u.defaults["fused"] for _, u in updates] == [True, False]
    for step in range(4):
        for module, optimiser in updates:
            generator = torch.Generator().manual_seed(step)
            for p in module.parameters():
                p.grad = torch.randn(p.shape, generator=generator)
            optimiser.step()
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["unetr", "vit"])
def test_weights_depend_on_the_seed_only(name: str) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = network(name, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    again, other = network(name, seed=3).state_dict(), network(name, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_networks_share_the_encoder_of_a_seed() -> None:
    expected = build_encoder(CONFIG, 3, pretraining=False).state_dict()
    for name in ("unetr", "vit"):
        found = network(name, seed=3).get_submodule("encoder").state_dict()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_unknown_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown network 'alexnet'"):
        network("alexnet")


def test_network_without_encoder_learns_at_one_rate() -> None:
    module = build_network(
        "resnet", CONFIG, classes=2, features=1, seed=0, settings={"width": 0.0625}
    )
    found = by_name(module, settings(decoder_lr=7.0))
    assert {rate for rate, _ in found.values()} == {1.0}
    assert len(found) == len(list(module.parameters()))
