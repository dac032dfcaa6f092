"""The shared encoder."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from voxseq.config.model import EncoderConfig
from voxseq.models.attention import SelfAttention, additive, prefix_mask
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.initialise import seeded
from voxseq.models.patches import patchify, sincos_positions, token_order

CONFIG = EncoderConfig(width=12, depth=3, heads=2, mlp_width=20, patch_size=(2, 4, 3))


def volume(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 9))
def test_each_position_sees_its_past_and_the_prefix(data, length):
    prefix = data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=3))
    mask = prefix_mask(torch.tensor(prefix), length)
    assert mask.shape == (len(prefix), 1, length + 1, length + 1)
    for sample, p in enumerate(prefix):
        for row in range(length + 1):
            for column in range(length + 1):
                # Column 0 is the start token, column i + 1 image token i.
                assert bool(mask[sample, 0, row, column]) == (column <= row or column <= p)


def test_shapes_without_start_token_and_state_without_positions():
    encoder = build_encoder(CONFIG, 0, pretraining=True)
    encoded = encoder(volume(2, 1, 4, 8, 9))
    assert encoded.tokens.shape == (2, 12, 12)
    assert encoded.start.shape == (2, 12)
    assert not [key for key in encoder.state_dict() if "position" in key]
    assert not list(encoder.buffers())


def test_outputs_of_blocks_are_kept_only_when_they_are_asked_for():
    encoder = build_encoder(CONFIG, 0, pretraining=True)
    image = volume(2, 1, 4, 8, 9)
    outputs = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda module, given, out: outputs.append(out[:, 1:]))
    assert encoder(image).hidden == []
    outputs.clear()
    # A shallow encoder gives one block's output to several levels of a decoder.
    hidden = encoder(image, taps=(1, 2, 2)).hidden
    for found, number in zip(hidden, (1, 2, 2), strict=True):
        assert torch.equal(found, outputs[number])


def test_positions_of_each_axis_have_their_own_third():
    positions = sincos_positions((2, 3, 4), 12, torch.device("cpu")).reshape(2, 3, 4, 12)
    for x, y, z in ((0, 0, 0), (1, 2, 3), (1, 0, 2)):
        expected = []
        for index in (x, y, z):
            angles = [index, index * 10_000**-0.5]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(positions[x, y, z], torch.tensor(expected))
    with pytest.raises(ValueError, match="6"):
        sincos_positions((1, 1, 1), 8, torch.device("cpu"))


def test_one_block_equals_torchs():
    """Independent implementation of the same pre-norm block."""
    block = build_encoder(CONFIG, 0, pretraining=True).blocks[0]
    other = nn.TransformerEncoderLayer(
        12, 2, 20, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    renamed = {
        "self_attn.in_proj_weight": block.attention.qkv.weight,
        "self_attn.in_proj_bias": torch.zeros(36),
        "self_attn.out_proj.weight": block.attention.projection.weight,
        "self_attn.out_proj.bias": block.attention.projection.bias,
    }
    for part in ("weight", "bias"):
        for ours, theirs in (
            (block.mlp.linear1, "linear1"),
            (block.mlp.linear2, "linear2"),
            (block.norm1, "norm1"),
            (block.norm2, "norm2"),
        ):
            renamed[f"{theirs}.{part}"] = getattr(ours, part)
    other.load_state_dict(renamed, strict=True)
    tokens = volume(2, 6, 12)
    mask = prefix_mask(torch.tensor([0, 3]), 5)
    hidden_from = ~mask.expand(2, 2, 6, 6).reshape(4, 6, 6)
    torch.testing.assert_close(
        block(tokens, mask), other(tokens, src_mask=hidden_from), rtol=1e-5, atol=1e-6
    )


def test_order_permutes_the_tokens_and_keeps_their_positions():
    encoder = build_encoder(CONFIG, 0, pretraining=True)
    image = volume(2, 1, 4, 8, 12)
    order = token_order((2, 2, 4), 4, "patch_major")
    torch.testing.assert_close(
        encoder(image, order=order).tokens,
        encoder(image).tokens[:, order],
        rtol=1e-4,
        atol=1e-5,
    )


def test_steps_one_by_one_accept_a_choice_of_tokens():
    """What a masked autoencoder needs: visible tokens only, with their true positions."""
    encoder = build_encoder(CONFIG, 0, pretraining=True)
    image = volume(2, 1, 4, 8, 9)
    visible = torch.tensor([7, 1, 4])
    chosen = encoder.embed_patches(
        patchify(image, CONFIG.patch_size)[:, visible], (2, 2, 3), visible
    )
    torch.testing.assert_close(chosen, encoder.embed(image)[:, visible])
    assert encoder.encode_tokens(chosen).tokens.shape == (2, 3, 12)


def test_chosen_rows_are_those_of_all_tokens_with_their_gradients():
    encoder = build_encoder(CONFIG, 0, pretraining=True)
    tokens = volume(2, 5, 12)
    mask = prefix_mask(torch.tensor([0, 3]), 5)
    # The start token of the first sample, the last token of both, and one in between.
    rows = torch.tensor([0, 5, 8, 11])
    encoded = encoder.encode_tokens(tokens, mask)
    whole = torch.cat([encoded.start[:, None], encoded.tokens], dim=1).flatten(0, 1)[rows]
    chosen = encoder.encode_rows(tokens, additive(mask, tokens.dtype), rows)
    torch.testing.assert_close(chosen, whole)
    parameters = [p for n, p in encoder.named_parameters() if "patch_embedding" not in n]
    pull = volume(4, 12, seed=1)
    expected = torch.autograd.grad(whole, parameters, pull)
    found = torch.autograd.grad(chosen, parameters, pull)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_global_generator_comes_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(3):
        torch.rand(3)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_follow_the_published_rules():
    config = EncoderConfig(width=96, depth=1, heads=4, mlp_width=384, patch_size=(4, 4, 4))
    encoder = build_encoder(config, 0, pretraining=True)
    block = encoder.blocks[0]
    limits = {
        # A third of the joint matrix is a square layer of its own.
        "qkv": (block.attention.qkv.weight, math.sqrt(6 / (96 + 96))),
        "mlp": (block.mlp.linear1.weight, math.sqrt(6 / (96 + 384))),
        "patch": (encoder.patch_embedding.weight, math.sqrt(6 / (96 + 64))),
    }
    for weight, limit in limits.values():
        assert 0.98 * limit < float(weight.abs().max().detach()) <= limit
    assert not block.attention.projection.bias.any()
    assert 0.015 < float(encoder.start_token.std().detach()) < 0.025
    scratch = build_encoder(config, 0, pretraining=False).patch_embedding.weight
    assert 0.98 / 8 < float(scratch.abs().max().detach()) <= 1 / 8


def test_impossible_geometry_is_refused():
    with pytest.raises(ValidationError, match="heads"):
        EncoderConfig(width=12, heads=5)
    with pytest.raises(ValueError, match="heads"):
        SelfAttention(12, 5)
    with pytest.raises(ValueError, match="multiple of the patch size"):
        Encoder(CONFIG)(volume(1, 1, 4, 8, 8))
    with pytest.raises(ValueError, match="expected 3 channels"):
        Encoder(CONFIG, in_channels=3)(volume(1, 1, 6, 8, 9))


def test_positions_made_without_gradients_serve_training_later():
    encoder = build_encoder(CONFIG, 0, pretraining=True)
    image = volume(1, 1, 6, 8, 9)
    with torch.inference_mode():
        encoder(image)
    encoder(image).tokens.sum().backward()
    assert encoder.start_token.grad is not None
