"""SimCLR: views, projector, loss, and a training that works."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers import methods
from tests.helpers.methods import generator
from tests.helpers.training import loss_falls, phantom_items, views
from voxseq.base.random import numpy_generator
from voxseq.config.model import OptimiserConfig
from voxseq.models.features import feature_statistics
from voxseq.pretrain.parts.contrastive import nt_xent
from voxseq.transforms.views import ViewRecipe

make = partial(methods.make, "simclr", output_width=16)


def batch_of(method, count=8, seed=0):
    return views(method, phantom_items(count), seed)


def test_two_different_views_by_the_same_recipe():
    method = make()
    one, other = method.batching.recipes
    assert one == other
    assert (one.jitter, one.blur, one.solarise) == (0.8, 0.5, 0.0)
    items = phantom_items(4)
    batch = views(method, items)
    assert batch.keys() == {"first", "second"}
    volumes = torch.from_numpy(np.stack([item.volume for item in items]))[:, None]
    for view, name in enumerate(("first", "second")):
        drawn = [one.draw((16, 16, 16), numpy_generator(0, item, view)) for item in range(4)]
        assert torch.equal(batch[name], one.make(volumes, np.stack(drawn)))
        assert batch[name].shape == (4, 1, 8, 8, 8)
    assert (batch["first"] != batch["second"]).flatten(1).any(dim=1).all()


def test_loss_is_nt_xent_of_projected_mean_tokens():
    method = make()
    linears = [part for part in method.projector if isinstance(part, nn.Linear)]
    assert [tuple(part.weight.shape) for part in linears] == [(24, 24), (24, 24), (16, 24)]
    batch = batch_of(method)
    losses = method.training_loss(batch, 0, generator())
    both = torch.cat([batch["first"], batch["second"]])
    projections = method.projector(method.backbone(both).tokens.mean(dim=1))
    torch.testing.assert_close(losses["loss"], nt_xent(projections[:8], projections[8:], 0.1))
    assert 0 <= float(losses["accuracy"]) <= 1
    with torch.no_grad():
        warm = make(temperature=0.5).training_loss(batch, 0, generator())
    assert abs(float(warm["loss"] - losses["loss"].detach())) > 0.05


def test_collapse_is_visible():
    method = make().eval()
    assert method.encoder is method.backbone
    volumes = torch.rand(8, 1, 8, 8, 8, generator=generator())
    healthy = feature_statistics(method.encoder(volumes).tokens.mean(dim=1))
    with torch.no_grad():
        for block in (method.backbone.norm.weight, method.backbone.norm.bias):
            block.zero_()
        losses = method.validation_loss({"first": volumes, "second": volumes}, generator())
    assert float(losses["loss"]) == pytest.approx(math.log(15), rel=1e-4)
    assert float(losses["accuracy"]) == pytest.approx(1 / 8)
    collapsed = feature_statistics(method.encoder(volumes).tokens.mean(dim=1))
    assert collapsed["feature_sd"] == collapsed["effective_rank"] == 0
    assert healthy["feature_sd"] > 0.01
    assert healthy["effective_rank"] > 2


@pytest.mark.slow
def test_loss_falls_on_32_phantoms():
    before, after = loss_falls(make(), steps=150, optimiser=OptimiserConfig(lr=3e-3))
    assert after < before - 0.3


@pytest.mark.slow
def test_volumes_are_recognised_when_views_differ_in_pose_alone():
    method = make()
    method.batching.recipes = [ViewRecipe((8, 8, 8), (1.0, 1.0), jitter=0.0, blur=0.0)] * 2
    _, after = loss_falls(method, steps=150)
    assert after < 0.5 * math.log(2 * 16 - 1)
