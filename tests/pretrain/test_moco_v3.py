"""MoCo v3: the key encoder, the frozen patch projection, the loss, and a training that works."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.training import (
    OPTIMISER,
    SIDE,
    loss_falls,
    phantom_items,
    phantom_sampler,
    resumes_exactly,
)
from tests.pretrain.test_contrastive import plain_query_key
from voxseq.base.errors import ConfigError
from voxseq.config.data import SequencesConfig
from voxseq.config.methods.moco_v3 import MoCoV3Settings
from voxseq.config.model import EncoderConfig, OptimiserConfig
from voxseq.models.transfer import load_encoder, save_encoder
from voxseq.models.unetr import UNETR
from voxseq.pretrain.methods.moco_v3 import MoCoV3Method
from voxseq.transforms.views import ViewRecipe

ENCODER = EncoderConfig(width=24, depth=2, heads=2, mlp_width=48, patch_size=(4, 4, 4))
SEQUENCES = SequencesConfig()
STEPS = 10


def make(seed=0, steps=STEPS, **changed) -> MoCoV3Method:
    small = {"view_shape": (8, 8, 8), "hidden_width": 64, "output_width": 16}
    method = MoCoV3Method(MoCoV3Settings(**small | changed), ENCODER, SEQUENCES, seed)
    method.begin(steps, phantom_sampler(2))
    return method


def batch_of(method, count=8, seed=0):
    return method.collate(phantom_items(count), np.random.default_rng(seed))


def generator():
    return torch.Generator().manual_seed(0)


def copies(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def move_query_encoder(method):
    """Shift every trained weight, as an optimiser would."""
    random = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.1)


def test_defaults_are_those_at_paper_scale():
    settings = MoCoV3Settings()
    assert settings.view_shape == (96, 96, 96)
    assert (settings.scale, settings.temperature) == ((0.08, 1.0), 0.2)
    assert (settings.momentum, settings.hidden_width, settings.output_width) == (0.99, 4096, 256)
    assert settings.optimiser.lr == pytest.approx(1.5e-4 * 288 / 256)
    assert settings.optimiser.weight_decay == 0.1
    with pytest.raises(ConfigError, match="view_shape"):
        make(view_shape=(6, 8, 8))


def test_the_two_views_follow_recipes_of_their_own():
    method = make()
    first, second = method.recipes["first"], method.recipes["second"]
    assert (first.jitter, first.blur, first.solarise) == (0.8, 1.0, 0.0)
    assert (second.jitter, second.blur, second.solarise) == (0.8, 0.1, 0.2)
    batch = batch_of(method)
    assert batch.keys() == {"first", "second"}
    assert batch["first"].shape == batch["second"].shape == (8, 1, 8, 8, 8)
    assert (batch["first"] != batch["second"]).flatten(1).any(dim=1).all()


def linears(head):
    return [tuple(part.weight.shape) for part in head if isinstance(part, nn.Linear)]


def test_projector_has_three_layers_and_predictor_two():
    method = make()
    assert linears(method.projector) == [(64, 24), (64, 64), (16, 64)]
    assert linears(method.predictor) == [(64, 16), (16, 64)]
    for head in (method.projector, method.predictor):
        assert isinstance(head[-1], nn.BatchNorm1d)
        assert not head[-1].affine
        assert all(part.bias is None for part in head if isinstance(part, nn.Linear))


def test_loss_by_hand():
    """Both directions against sums in float64; queries from one view, keys from the other."""
    method = make()
    move_query_encoder(method)
    batch = batch_of(method)
    with torch.no_grad():
        losses = method.training_loss(batch, 0, generator())
        assert 0 <= float(losses["accuracy"]) <= 1
        expected = 0.0
        for one, other in (("first", "second"), ("second", "first")):
            query = method.predictor(method.projector(method.backbone(batch[one]).start))
            key = method.key_projector(method.key_backbone(batch[other]).start)
            expected += plain_query_key(query, key, 0.2)
    assert float(losses["loss"]) == pytest.approx(expected, rel=1e-4)


def test_loss_is_symmetric_in_the_views():
    method = make()
    move_query_encoder(method)
    batch = batch_of(method)
    swapped = {"first": batch["second"], "second": batch["first"]}
    with torch.no_grad():
        losses = [
            float(method.training_loss(b, STEPS, generator())["loss"]) for b in (batch, swapped)
        ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_temperature_reaches_the_loss():
    batch = batch_of(make())
    with torch.no_grad():
        losses = [
            float(make(temperature=t).training_loss(batch, 0, generator())["loss"])
            for t in (0.2, 1.0)
        ]
    assert abs(losses[0] - losses[1]) > 0.5


def test_keys_are_computed_after_the_key_encoder_has_moved(monkeypatch):
    method = make(momentum=0.6)
    move_query_encoder(method)
    before = copies(method.key_backbone) | copies(method.key_projector)
    at_keys = {}

    def keys(first, second):
        at_keys.update(copies(method.key_backbone) | copies(method.key_projector))
        return MoCoV3Method.keys(method, first, second)

    monkeypatch.setattr(method, "keys", keys)
    method.training_loss(batch_of(method), 0, generator())
    query = dict(method.backbone.named_parameters()) | dict(method.projector.named_parameters())
    for name, parameter in query.items():
        torch.testing.assert_close(at_keys[name], 0.6 * before[name] + 0.4 * parameter.detach())
    moved = [name for name in query if not torch.equal(at_keys[name], before[name])]
    assert set(query) - set(moved) == {"patch_embedding.weight", "patch_embedding.bias"}


def test_momentum_ends_at_one():
    method = make(steps=100)
    assert method.momentum(0) == pytest.approx(0.99)
    assert method.momentum(50) == pytest.approx(0.995)
    assert method.momentum(100) == 1
    move_query_encoder(method)
    before = copies(method.key_backbone)
    method.update_key_encoder(100)
    for name, value in method.key_backbone.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_key_encoder_receives_no_gradient_and_no_update():
    method = make()
    method.training_loss(batch_of(method), 0, generator())["loss"].backward()
    frozen = ("key_backbone.", "key_projector.", "backbone.patch_embedding.")
    for name, parameter in method.named_parameters():
        trained = not name.startswith(frozen)
        assert parameter.requires_grad == trained, name
        assert (parameter.grad is not None) == trained, name
    assert method.predictor[0].weight.grad.any()
    assert method.backbone.start_token.grad.any()
    groups = method.parameter_groups(OPTIMISER)
    listed = {id(p) for group in groups for p in group["params"]}
    expected = {id(p) for n, p in method.named_parameters() if not n.startswith(frozen)}
    assert listed == expected


def test_the_key_encoder_starts_as_the_query_encoder():
    method = make()
    for name, value in method.key_backbone.state_dict().items():
        assert torch.equal(value, method.backbone.state_dict()[name])
    for name, value in method.key_projector.state_dict().items():
        assert torch.equal(value, method.projector.state_dict()[name])


def test_the_frozen_projection_is_transferred_with_the_trained_query_encoder(tmp_path):
    method, untrained = make(steps=3), make()
    loss_falls(method, steps=3, size=4, batch_size=4)
    assert method.encoder is method.backbone
    save_encoder(tmp_path / "encoder.safetensors", method.encoder, ENCODER, {})
    network = UNETR(make(5).backbone, classes=2, feature_size=4)
    report = load_encoder(tmp_path / "encoder.safetensors", network.encoder)
    assert report.loaded == len(method.backbone.state_dict())
    loaded, initial = network.encoder.state_dict(), untrained.backbone.state_dict()
    for name, value in loaded.items():
        same = torch.equal(value, initial[name])
        assert same == name.startswith("patch_embedding."), name
    volume = torch.rand(2, 1, SIDE, SIDE, SIDE, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(network.encoder(volume).start, method.backbone(volume).start)


def test_validation_is_the_same_each_time_and_changes_nothing():
    method = make()
    batch = batch_of(method)
    method.train().training_loss(batch, 0, generator())
    move_query_encoder(method)
    before = copies(method)
    method.eval()
    with torch.no_grad():
        losses = [method.validation_loss(batch, generator())["loss"] for _ in range(2)]
        whole = method.queries(batch["first"], batch["second"])[0]
        part = method.queries(batch["first"][:3], batch["second"][:3])[0]
    assert torch.equal(*losses)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    torch.testing.assert_close(whole[:3], part, rtol=1e-4, atol=1e-5)


def test_batch_norm_sees_one_view_at_a_time_and_keeps_own_statistics():
    method = make().train()
    batch = batch_of(method)
    move_query_encoder(method)
    method.training_loss(batch, 0, generator())
    assert int(method.projector[1].num_batches_tracked) == 2
    assert int(method.key_projector[1].num_batches_tracked) == 2
    assert not torch.equal(method.projector[1].running_mean, method.key_projector[1].running_mean)


def test_collapse_is_visible():
    method = make().eval()
    volumes = torch.rand(8, 1, 8, 8, 8, generator=generator())
    healthy = method.feature_statistics(volumes)
    with torch.no_grad():
        for encoder in (method.backbone, method.key_backbone):
            encoder.norm.weight.zero_()
            encoder.norm.bias.fill_(0.5)
        losses = method.validation_loss({"first": volumes, "second": volumes}, generator())
    assert float(losses["loss"]) == pytest.approx(2 * 0.4 * math.log(8), rel=1e-4)
    assert float(losses["accuracy"]) == pytest.approx(1 / 8)
    collapsed = method.feature_statistics(volumes)
    assert collapsed["feature_sd"] == collapsed["effective_rank"] == 0
    assert healthy["feature_sd"] > 0.01
    assert healthy["effective_rank"] > 2


def test_seed_decides_everything():
    first, second, other = make(3), make(3), make(4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert not torch.equal(first.predictor[0].weight, other.predictor[0].weight)


def test_loss_falls_on_32_phantoms():
    before, after = loss_falls(make(), steps=150, optimiser=OptimiserConfig(lr=3e-3))
    assert after < before - 0.15


def test_volumes_are_recognised_when_views_differ_in_pose_alone():
    method = make()
    recipe = ViewRecipe((8, 8, 8), (1.0, 1.0), jitter=0.0, blur=0.0)
    method.recipes = {"first": recipe, "second": recipe}
    _, after = loss_falls(method, steps=150)
    assert after < 0.85 * 2 * 0.4 * math.log(16)


def test_resumes_exactly():
    resumes_exactly(make)
