"""SimCLR: views, projector, loss, and a training that works."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.helpers.training import SIDE, loss_falls, phantom_items, resumes_exactly
from voxseq.base.errors import ConfigError
from voxseq.config.data import SequencesConfig
from voxseq.config.methods.simclr import SimCLRSettings
from voxseq.config.model import EncoderConfig, OptimiserConfig
from voxseq.models.transfer import load_encoder, save_encoder
from voxseq.models.unetr import UNETR
from voxseq.pretrain.methods.simclr import SimCLRMethod
from voxseq.pretrain.parts.contrastive import nt_xent
from voxseq.transforms.views import ViewRecipe, make_views

ENCODER = EncoderConfig(width=24, depth=2, heads=2, mlp_width=48, patch_size=(4, 4, 4))
SEQUENCES = SequencesConfig()


def make(seed=0, **changed) -> SimCLRMethod:
    settings = SimCLRSettings(**{"view_shape": (8, 8, 8), "output_width": 16} | changed)
    return SimCLRMethod(settings, ENCODER, SEQUENCES, seed)


def batch_of(method, count=8, seed=0):
    return method.collate(phantom_items(count), np.random.default_rng(seed))


def generator():
    return torch.Generator().manual_seed(0)


def test_defaults_are_those_at_paper_scale():
    settings = SimCLRSettings()
    assert settings.view_shape == (96, 96, 96)
    assert (settings.scale, settings.temperature) == ((0.2, 1.0), 0.1)
    assert settings.optimiser.lr == pytest.approx(1.5e-4 * 288 / 256)
    assert (settings.optimiser.weight_decay, settings.output_width) == (0.1, 128)


@pytest.mark.parametrize("wrong", [{"scale": (0.9, 0.2)}, {"scale": (0, 1)}, {"temperture": 0.1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SimCLRSettings(**wrong)


def test_a_view_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="view_shape"):
        make(view_shape=(6, 8, 8))


def test_two_different_views_by_the_same_recipe():
    method = make()
    assert (method.recipe.jitter, method.recipe.blur, method.recipe.solarise) == (0.8, 0.5, 0.0)
    items, rng = phantom_items(4), np.random.default_rng(0)
    batch = method.collate(items, np.random.default_rng(0))
    assert batch.keys() == {"first", "second"}
    for name in ("first", "second"):
        assert torch.equal(batch[name], make_views(items, method.recipe, rng))
        assert batch[name].shape == (4, 1, 8, 8, 8)
    assert (batch["first"] != batch["second"]).flatten(1).any(dim=1).all()


def test_projector_has_three_layers_as_wide_as_the_features():
    linears = [part for part in make().projector if isinstance(part, nn.Linear)]
    assert [tuple(part.weight.shape) for part in linears] == [(24, 24), (24, 24), (16, 24)]


def test_loss_is_nt_xent_of_projected_mean_tokens():
    method = make()
    batch = batch_of(method)
    losses = method.training_loss(batch, 0, generator())
    both = torch.cat([batch["first"], batch["second"]])
    features = method.backbone(both).tokens.mean(dim=1)
    projections = method.projector(features)
    expected = nt_xent(projections[:8], projections[8:], 0.1)
    torch.testing.assert_close(losses["loss"], expected)
    assert 0 <= float(losses["accuracy"]) <= 1
    assert not losses["accuracy"].requires_grad


def test_temperature_reaches_the_loss():
    batch = batch_of(make())
    with torch.no_grad():
        warm, cold = (make(temperature=t).training_loss(batch, 0, generator()) for t in (0.5, 0.1))
    assert abs(float(warm["loss"] - cold["loss"])) > 0.05


def test_gradients_reach_everything_that_is_trained():
    method = make()
    method.training_loss(batch_of(method), 0, generator())["loss"].backward()
    for name, parameter in method.named_parameters():
        assert parameter.requires_grad == (name != "projector.7.bias")
        assert not parameter.requires_grad or parameter.grad.any(), name


def test_norms_and_biases_are_not_decayed():
    groups = make().parameter_groups(SimCLRSettings().optimiser)
    decays = {parameter.ndim > 1: g["weight_decay"] for g in groups for parameter in g["params"]}
    assert decays == {True: 0.1, False: 0.0}


def test_validation_is_the_same_each_time_and_changes_nothing():
    method = make()
    batch = batch_of(method)
    method.train().training_loss(batch, 0, generator())
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.eval()
    with torch.no_grad():
        losses = [method.validation_loss(batch, generator()) for _ in range(2)]
        whole = method.project(batch["first"], batch["second"])[0]
        part = method.project(batch["first"][:3], batch["second"][:3])[0]
    assert torch.equal(losses[0]["loss"], losses[1]["loss"])
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    # Projections of a sample depend on that sample alone.
    torch.testing.assert_close(whole[:3], part, rtol=1e-4, atol=1e-5)


def test_collapse_is_visible():
    method = make().eval()
    volumes = torch.rand(8, 1, 8, 8, 8, generator=generator())
    healthy = method.feature_statistics(volumes)
    with torch.no_grad():
        for block in (method.backbone.norm.weight, method.backbone.norm.bias):
            block.zero_()
        losses = method.validation_loss({"first": volumes, "second": volumes}, generator())
    assert float(losses["loss"]) == pytest.approx(math.log(15), rel=1e-4)
    assert float(losses["accuracy"]) == pytest.approx(1 / 8)
    collapsed = method.feature_statistics(volumes)
    assert collapsed["feature_sd"] == collapsed["effective_rank"] == 0
    assert healthy["feature_sd"] > 0.01
    assert healthy["effective_rank"] > 2


def test_seed_decides_everything():
    first, second, other = make(3), make(3), make(4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert not torch.equal(first.projector[0].weight, other.projector[0].weight)
    batch = batch_of(first)
    losses = [m.training_loss(batch, 0, generator())["loss"] for m in (first, second)]
    assert torch.equal(*losses)


def test_loss_falls_on_32_phantoms():
    before, after = loss_falls(make(), steps=150, optimiser=OptimiserConfig(lr=3e-3))
    assert after < before - 0.3


def test_volumes_are_recognised_when_views_differ_in_pose_alone():
    method = make()
    method.recipe = ViewRecipe((8, 8, 8), (1.0, 1.0), jitter=0.0, blur=0.0)
    _, after = loss_falls(method, steps=150)
    assert after < 0.5 * math.log(2 * 16 - 1)


def test_resumes_exactly():
    resumes_exactly(make)


def test_the_encoder_is_transferred_to_unetr(tmp_path):
    method = make()
    assert method.encoder is method.backbone
    save_encoder(tmp_path / "encoder.safetensors", method.encoder, ENCODER, {})
    network = UNETR(make(5).backbone, classes=2, feature_size=4)
    report = load_encoder(tmp_path / "encoder.safetensors", network.encoder)
    assert report.loaded == len(method.backbone.state_dict())
    volume = torch.rand(2, 1, SIDE, SIDE, SIDE, generator=generator())
    with torch.no_grad():
        tokens = network.encoder(volume).tokens
        torch.testing.assert_close(tokens, method.backbone(volume).tokens)
