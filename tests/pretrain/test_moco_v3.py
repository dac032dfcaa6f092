"""MoCo v3: the key encoder, the frozen patch projection, the loss, and a training that works."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from tests.helpers import methods
from tests.helpers.methods import copies, equal, generator, move
from tests.helpers.training import loss_falls, phantom_items, views
from tests.pretrain.test_contrastive import plain_query_key
from voxseq.config.model import OptimiserConfig
from voxseq.models.features import feature_statistics
from voxseq.pretrain.methods.moco_v3 import MoCoV3Method
from voxseq.transforms.views import ViewRecipe

make = partial(methods.make, "moco_v3", hidden_width=64, output_width=16)


def batch_of(method, count=8, seed=0):
    return views(method, phantom_items(count), seed)


def test_the_two_views_follow_recipes_of_their_own():
    method = make()
    first, second = method.batching.recipes
    assert (first.jitter, first.blur, first.solarise) == (0.8, 1.0, 0.0)
    assert (second.jitter, second.blur, second.solarise) == (0.8, 0.1, 0.2)
    batch = batch_of(method)
    assert batch.keys() == {"first", "second"}
    assert batch["first"].shape == batch["second"].shape == (8, 1, 8, 8, 8)
    assert (batch["first"] != batch["second"]).flatten(1).any(dim=1).all()


def test_projector_has_three_layers_and_predictor_two():
    method = make()
    shapes = {"projector": [(64, 24), (64, 64), (16, 64)], "predictor": [(64, 16), (16, 64)]}
    for name, expected in shapes.items():
        head = getattr(method, name)
        linears = [part for part in head if isinstance(part, nn.Linear)]
        assert [tuple(part.weight.shape) for part in linears] == expected
        assert all(part.bias is None for part in linears)
        assert isinstance(head[-1], nn.BatchNorm1d)
        assert not head[-1].affine


def test_loss_by_hand():
    """Both directions against sums in float64; queries from one view, keys from the other."""
    method = make()
    move(method)
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
        swapped = {"first": batch["second"], "second": batch["first"]}
        symmetric, loss = (method._losses(b)["loss"] for b in (swapped, batch))
        torch.testing.assert_close(symmetric, loss)
        warm, cold = (make(temperature=t)._losses(batch)["loss"] for t in (1.0, 0.2))
        assert abs(float(warm - cold)) > 0.5


def test_keys_are_computed_after_the_key_encoder_has_moved(monkeypatch):
    method = make(momentum=0.6)
    for name in ("backbone", "projector"):
        assert equal(copies(getattr(method, name)), copies(getattr(method, f"key_{name}")))
    move(method)
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
    assert [method.momentum(s) for s in (0, 50, 100)] == pytest.approx([0.99, 0.995, 1.0])
    move(method)
    before = copies(method.key_backbone)
    method.update_key_encoder(100)
    assert equal(copies(method.key_backbone), before)


def test_key_encoder_and_patch_projection_are_frozen_and_the_query_encoder_is_transferred():
    method = make()
    assert method.encoder is method.backbone
    frozen = ("key_backbone.", "key_projector.", "backbone.patch_embedding.")
    for name, parameter in method.named_parameters():
        assert parameter.requires_grad == (not name.startswith(frozen)), name


def test_batch_norm_sees_one_view_at_a_time_and_keeps_own_statistics():
    method = make().train()
    batch = batch_of(method)
    move(method)
    method.training_loss(batch, 0, generator())
    assert int(method.projector[1].num_batches_tracked) == 2
    assert int(method.key_projector[1].num_batches_tracked) == 2
    assert not torch.equal(method.projector[1].running_mean, method.key_projector[1].running_mean)


def test_collapse_is_visible():
    method = make().eval()
    volumes = torch.rand(8, 1, 8, 8, 8, generator=generator())
    healthy = feature_statistics(method.encoder(volumes).tokens.mean(dim=1))
    with torch.no_grad():
        for encoder in (method.backbone, method.key_backbone):
            encoder.norm.weight.zero_()
            encoder.norm.bias.fill_(0.5)
        losses = method.validation_loss({"first": volumes, "second": volumes}, generator())
    assert float(losses["loss"]) == pytest.approx(2 * 0.4 * math.log(8), rel=1e-4)
    assert float(losses["accuracy"]) == pytest.approx(1 / 8)
    collapsed = feature_statistics(method.encoder(volumes).tokens.mean(dim=1))
    assert collapsed["feature_sd"] == collapsed["effective_rank"] == 0
    assert healthy["feature_sd"] > 0.01
    assert healthy["effective_rank"] > 2


@pytest.mark.slow
def test_loss_falls_on_32_phantoms():
    before, after = loss_falls(make(), steps=150, optimiser=OptimiserConfig(lr=3e-3))
    assert after < before - 0.15


@pytest.mark.slow
def test_volumes_are_recognised_when_views_differ_in_pose_alone():
    method = make()
    recipe = ViewRecipe((8, 8, 8), (1.0, 1.0), jitter=0.0, blur=0.0)
    method.batching.recipes = [recipe, recipe]
    _, after = loss_falls(method, steps=150)
    assert after < 0.85 * 2 * 0.4 * math.log(16)
