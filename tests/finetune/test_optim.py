from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.finetune_store import GEOMETRY, rates
from voxseq.base.errors import ConfigError
from voxseq.config.model import OptimiserConfig
from voxseq.finetune.training import build_optimiser
from voxseq.models.encoder import build_encoder
from voxseq.models.networks import build_network


def network(name: str = "unetr", seed: int = 0) -> nn.Module:
    return build_network(name, GEOMETRY, classes=3, features=2, seed=seed)


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


def test_what_the_published_groups_do_not_show() -> None:
    """A rate for the decoder, and weight decay of vectors too; else see the published groups."""
    found = rates(network(), settings(decoder_lr=7.0), GEOMETRY.depth)
    assert found["encoder.norm.weight"][0] == 1.0
    assert found["encoder.blocks.1.attention.qkv.weight"][0] == 0.5
    everywhere = rates(network(), settings(decay_one_dimensional=True), GEOMETRY.depth)
    assert {decay for _, decay in everywhere.values()} == {0.05}
    behind = {rate for name, (rate, _) in found.items() if not name.startswith("encoder.")}
    assert behind == {7.0}


@pytest.mark.parametrize("name", ["unetr", "vit"])
def test_every_parameter_is_in_one_group(name: str) -> None:
    module = network(name)
    optimiser = build_optimiser(
        module, settings(layer_decay=None, betas=(0.9, 0.95)), GEOMETRY.depth
    )
    held = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in module.parameters())
    assert {group["lr"] for group in optimiser.param_groups} == {1.0}
    assert {group["betas"] for group in optimiser.param_groups} == {(0.9, 0.95)}


def test_one_pass_over_the_weights_is_the_same_update() -> None:
    """Fused where nothing scales the gradients; some steps of both agree but for rounding."""
    one, two = network("vit"), network("vit")
    updates = [
        (one, build_optimiser(one, settings(), GEOMETRY.depth, "32-true")),
        (two, build_optimiser(two, settings(), GEOMETRY.depth, "16-mixed")),
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


def test_networks_share_the_encoder_of_a_seed() -> None:
    expected = build_encoder(GEOMETRY, 3, pretraining=False).state_dict()
    for name in ("unetr", "vit"):
        found = network(name, seed=3).get_submodule("encoder").state_dict()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_unknown_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown network 'alexnet'"):
        network("alexnet")


def test_network_without_encoder_learns_at_one_rate() -> None:
    module = build_network(
        "resnet", GEOMETRY, classes=2, features=1, seed=0, settings={"width": 0.0625}
    )
    found = rates(module, settings(decoder_lr=7.0), GEOMETRY.depth)
    assert {rate for rate, _ in found.values()} == {1.0}
    assert len(found) == len(list(module.parameters()))
