"""MAE3D: raw voxels of hidden tokens alone are scored, and the encoder sees the others alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers import methods
from tests.helpers.methods import generator, unpatchify
from tests.helpers.training import (
    PhantomSampler,
    loss_falls,
    make_optimiser,
    phantom_items,
    train,
    views,
)
from voxseq.config.model import OptimiserConfig
from voxseq.models.encoder import EncoderOutput
from voxseq.models.patches import patchify
from voxseq.pretrain.parts.masked import draw_mask
from voxseq.transforms.spatial import Item


def make(**changed):
    return methods.make("mae3d", **{"crop_shape": (12, 12, 12)} | changed)


def batch_of(method, count=4, seed=0):
    return views(method, phantom_items(count), seed)


def mask_of(volume):
    return draw_mask(patchify(volume, (4, 4, 4)), 0.75, generator())


def changed_tokens(volume, index, value):
    """The volume with other voxels in some tokens of each sample."""
    patches = patchify(volume, (4, 4, 4)).clone()
    for sample, tokens in enumerate(index):
        patches[sample, tokens] = value
    return unpatchify(patches, (3, 3, 3), (4, 4, 4))


@pytest.fixture
def blind(monkeypatch):
    """A method whose encoder gives the same output whatever it is shown."""
    method = make()

    def encode_tokens(tokens, attn_mask=None):
        batch, count, width = tokens.shape
        constant = torch.linspace(-1, 1, (count + 1) * width).reshape(1, count + 1, width)
        states = constant.expand(batch, -1, -1)
        return EncoderOutput(states[:, 1:], states[:, 0], [])

    monkeypatch.setattr(method.backbone, "encode_tokens", encode_tokens)
    return method


def loss_of(method, volume):
    return method.training_loss({"volume": volume}, 0, generator())["loss"]


def test_each_crop_is_a_box_of_its_volume_and_any_box_may_be_drawn():
    method = make()
    item = phantom_items(1)[0]
    crops = views(method, [item] * 600)["volume"]
    assert crops.shape == (600, 1, 12, 12, 12)
    boxes = np.lib.stride_tricks.sliding_window_view(item.volume, (12, 12, 12))
    known = {boxes[i].tobytes() for i in np.ndindex(5, 5, 5)}
    assert len(known) == 125
    drawn = {crop.numpy().tobytes() for crop in crops}
    assert drawn <= known
    assert len(drawn) > 110


def test_loss_by_hand():
    """The mean absolute error of raw hidden voxels, summed one by one in float64."""
    method = make()
    volume = batch_of(method)["volume"]
    shown = {}
    method.decoder.register_forward_hook(lambda _, inputs, output: shown.update(p=output))
    loss = loss_of(method, volume)
    patches, mask = patchify(volume, (4, 4, 4)).double(), mask_of(volume)
    errors = [
        float((shown["p"][sample, place].detach().double() - patches[sample, token]).abs().sum())
        for sample in range(4)
        for place, token in enumerate(mask.hidden[sample].tolist())
    ]
    assert len(errors) == 4 * 21
    assert float(loss.detach()) == pytest.approx(sum(errors) / (4 * 21 * 64), rel=1e-5)


def test_exactly_the_hidden_tokens_carry_loss(blind):
    volume = batch_of(blind)["volume"].requires_grad_()
    loss_of(blind, volume).backward()
    scored = patchify(volume.grad, (4, 4, 4)) != 0
    expected = torch.zeros(4, 27, dtype=torch.bool).scatter(1, mask_of(volume).hidden, True)
    assert torch.equal(scored.all(dim=2), expected)
    assert torch.equal(scored.any(dim=2), expected)


def test_voxels_reach_predictions_through_the_encoder_only(blind):
    def predictions(method, given):
        shown = []
        hook = method.decoder.register_forward_hook(lambda _, i, output: shown.append(output))
        loss_of(method, given)
        hook.remove()
        return shown[0]

    method = make()
    volume = batch_of(method)["volume"]
    mask = mask_of(volume)
    visible, hidden = (changed_tokens(volume, index, 0.3) for index in (mask.visible, mask.hidden))
    assert torch.equal(predictions(method, hidden), predictions(method, volume))
    seen = predictions(method, visible) != predictions(method, volume)
    assert seen.flatten(1).any(dim=1).all()
    assert torch.equal(predictions(blind, visible), predictions(blind, volume))


def test_targets_are_raw_voxels(blind):
    """Brightness counts; with targets that are normalised by token it would not."""
    volume = batch_of(blind)["volume"]
    with torch.no_grad():
        shift = loss_of(blind, volume + 50) - loss_of(blind, volume)
        assert float(shift) == pytest.approx(50, rel=0.05)


def test_loss_falls_on_32_phantoms():
    first, last = loss_falls(make(), steps=100, optimiser=OptimiserConfig(lr=3e-3))
    assert last < 0.6 * first


def slope(number):
    """A plane of its own direction and brightness: what is seen tells what is hidden."""
    rng = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 16)] * 3, indexing="ij"))
    volume = 0.5 + rng.uniform(-0.2, 0.2) + np.tensordot(rng.uniform(-0.3, 0.3, 3), grid, 1)
    return Item(volume.astype(np.float32), id=number)


@pytest.mark.slow
def test_predictions_become_better_than_the_volumes_own_median():
    data = PhantomSampler(32)
    data.items = [slope(number) for number in range(32)]
    trivial = np.mean([np.abs(i.volume - np.median(i.volume)).mean() for i in data.items])
    method = make(decoder_width=48)
    method.begin(300, data)
    optimiser = make_optimiser(method, OptimiserConfig(lr=2e-3))
    losses = train(method, optimiser, data, range(300), 300, batch_size=16)
    assert np.mean(losses[-50:]) < 0.7 * trivial
