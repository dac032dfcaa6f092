"""Masks, visible tokens, and the decoder against a plain re-computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.methods import ENCODER, generator
from voxseq.config.methods.masked import MaskedSettings
from voxseq.config.model import OptimiserConfig
from voxseq.models.encoder import EncoderOutput, build_encoder
from voxseq.models.initialise import seeded
from voxseq.models.patches import patchify
from voxseq.pretrain.parts.masked import (
    MaskedDecoder,
    TokenMask,
    draw_mask,
    encode_visible,
    gather_tokens,
    visible_count,
)

SETTINGS = MaskedSettings(
    optimiser=OptimiserConfig(lr=1e-3), decoder_width=12, decoder_depth=2, decoder_heads=3
)
GRID = (3, 2, 2)
LENGTH = 12


def random(*shape, seed=0):
    return torch.rand(shape, generator=generator(seed))


@pytest.fixture
def encoder():
    return build_encoder(ENCODER, 0, pretraining=True)


@pytest.fixture
def decoder():
    with seeded(1):
        return MaskedDecoder(SETTINGS, ENCODER, GRID)


@pytest.mark.parametrize(
    ("length", "ratio", "expected"),
    [
        *[(512, 0.75, 128), (216, 0.75, 54), (64, 0.75, 16), (27, 0.75, 6)],
        *[(20, 0.9, 2), (2, 0.99, 1), (10, 0.01, 9)],
    ],
)
def test_number_of_visible_tokens(length, ratio, expected):
    assert visible_count(length, ratio) == expected


@given(
    batch=st.integers(1, 5),
    length=st.integers(2, 40),
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_every_token_is_either_visible_or_hidden(batch, length, ratio, seed):
    tokens = torch.empty(batch, length, 3)
    mask = draw_mask(tokens, ratio, generator(seed))
    assert torch.equal(mask.order.sort(dim=1).values, torch.arange(length).expand(batch, -1))
    assert mask.visible.shape == (batch, visible_count(length, ratio))
    again = draw_mask(tokens, ratio, generator(seed))
    assert torch.equal(mask.order, again.order)


def test_every_token_is_hidden_equally_often_and_samples_differ():
    mask = draw_mask(torch.empty(4000, LENGTH, 1), 0.75, generator())
    share = np.bincount(mask.hidden.flatten().numpy(), minlength=LENGTH) / 4000
    np.testing.assert_allclose(share, 0.75, atol=0.04)
    assert len({tuple(sorted(row)) for row in mask.visible.tolist()}) > 100


def test_visible_tokens_keep_their_positions(encoder):
    volume = random(2, 1, 12, 8, 8)
    patches = patchify(volume, (4, 4, 4))
    mask = draw_mask(patches, 0.5, generator())
    visible = gather_tokens(encoder.embed(volume), mask.visible)
    expected = encoder.encode_tokens(visible)
    encoded = encode_visible(encoder, patches, GRID, mask)
    torch.testing.assert_close(encoded.tokens, expected.tokens)
    torch.testing.assert_close(encoded.start, expected.start)


def test_hidden_voxels_do_not_reach_the_encoder(encoder):
    patches = random(2, LENGTH, 64)
    mask = draw_mask(patches, 0.75, generator())
    changed = patches.clone()
    for sample, hidden in enumerate(mask.hidden):
        changed[sample, hidden] = torch.nan
    expected, encoded = (encode_visible(encoder, p, GRID, mask) for p in (patches, changed))
    assert torch.equal(encoded.tokens, expected.tokens)
    assert torch.equal(encoded.start, expected.start)


def test_the_cost_of_the_encoder_falls_with_the_mask_ratio(encoder):
    """Tokens that pass the patch projection and each block, counted where they pass."""
    seen = {"embedded": [], "blocks": []}

    def count(name):
        return lambda _, inputs: seen[name].append(inputs[0].shape[1])

    encoder.patch_embedding.register_forward_pre_hook(count("embedded"))
    for block in encoder.blocks:
        block.register_forward_pre_hook(count("blocks"))
    patches = random(2, LENGTH, 64)
    for ratio, visible in ((0.25, 9), (0.5, 6), (0.75, 3)):
        seen["embedded"], seen["blocks"] = [], []
        encode_visible(encoder, patches, GRID, draw_mask(patches, ratio, generator()))
        assert seen == {"embedded": [visible], "blocks": [1 + visible] * ENCODER.depth}


def plain_norm(x, layer):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + layer.eps) * array(layer.weight) + array(layer.bias)


def plain_linear(x, layer):
    bias = 0 if layer.bias is None else array(layer.bias)
    return x @ array(layer.weight).T + bias


def array(tensor):
    return tensor.detach().double().numpy()


def plain_block(x, block, heads):
    """Pre-norm attention and MLP of one sample (N, D) in float64."""
    query, key, value = np.split(
        plain_linear(plain_norm(x, block.norm1), block.attention.qkv), 3, 1
    )
    width = x.shape[1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = np.exp(query[:, part] @ key[:, part].T / np.sqrt(width))
        mixed.append(scores / scores.sum(1, keepdims=True) @ value[:, part])
    x = x + plain_linear(np.concatenate(mixed, 1), block.attention.projection)
    inner = torch.from_numpy(plain_linear(plain_norm(x, block.norm2), block.mlp.linear1))
    activated = torch.nn.functional.gelu(inner).numpy()
    return x + plain_linear(activated, block.mlp.linear2)


def test_decoder_by_hand(decoder):
    """Tokens put back in raster order, in float64, as He et al. describe it."""
    mask = draw_mask(torch.empty(2, LENGTH, 1), 0.75, generator())
    encoded = EncoderOutput(random(2, 3, 24), random(2, 24, seed=1), [])
    prediction = decoder(encoded, mask)
    assert prediction.shape == (2, 9, 64)
    for sample in range(2):
        states = np.tile(array(decoder.mask_token), (1 + LENGTH, 1))
        states[0] = plain_linear(array(encoded.start[sample]), decoder.embedding)
        for token, place in zip(encoded.tokens[sample], mask.visible[sample], strict=True):
            states[1 + int(place)] = plain_linear(array(token), decoder.embedding)
        states = states + array(decoder.positions)
        for block in decoder.blocks:
            states = plain_block(states, block, SETTINGS.decoder_heads)
        expected = plain_linear(plain_norm(states, decoder.norm), decoder.head)[1:]
        wanted = expected[mask.hidden[sample].numpy()]
        np.testing.assert_allclose(array(prediction[sample]), wanted, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_tokens_does_not_matter(decoder):
    mask = draw_mask(torch.empty(1, LENGTH, 1), 0.5, generator())
    tokens, start = random(1, 6, 24), random(1, 24, seed=1)
    expected = decoder(EncoderOutput(tokens, start, []), mask)
    turned = TokenMask(mask.visible.flip(1), mask.hidden.flip(1))
    prediction = decoder(EncoderOutput(tokens.flip(1), start, []), turned)
    torch.testing.assert_close(prediction.flip(1), expected)


def test_every_weight_of_the_decoder_is_used(decoder):
    mask = draw_mask(torch.empty(2, LENGTH, 1), 0.75, generator())
    decoder(EncoderOutput(random(2, 3, 24), random(2, 24), []), mask).square().sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    assert decoder.positions.grad.any(dim=1).all()
