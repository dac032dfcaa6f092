"""MONAI's ViT and our encoder are one function under two sets of names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import ViT
from torch import Tensor

from voxseq.config.model import EncoderConfig
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.monai_vit import from_monai, to_monai

IMAGE = (8, 16, 24)
CONFIG = EncoderConfig(width=24, depth=2, heads=3, mlp_width=40, patch_size=(4, 4, 8))
VOLUME = torch.randn(2, 1, *IMAGE, generator=torch.Generator().manual_seed(5))


def their_tokens(vit: ViT, volume: Tensor) -> Tensor:
    """(B, 1 + N, C) after the last norm; the head of a classifying ViT hides them."""
    tokens = vit.patch_embedding(volume)
    if hasattr(vit, "cls_token"):
        tokens = torch.cat([vit.cls_token.expand(len(volume), -1, -1), tokens], dim=1)
    for block in vit.blocks:
        tokens = block(tokens)
    found: Tensor = vit.norm(tokens)
    return found


def loaded(state: dict[str, Tensor], **facts: Any) -> Encoder:
    found = from_monai(state, heads=CONFIG.heads, image_size=IMAGE, **facts)
    encoder = Encoder(found.config)
    encoder.load_state_dict(found.state, strict=True)
    return encoder.eval()


def a_vit(**changes: Any) -> ViT:
    arguments = to_monai(build_encoder(CONFIG, 3, pretraining=True), IMAGE).arguments
    torch.manual_seed(7)
    return ViT(**{**arguments, **changes}).eval()


@pytest.mark.parametrize("projection", ["conv", "perceptron"])
def test_a_vit_gives_the_tokens_of_our_encoder(projection: Any) -> None:
    encoder = build_encoder(CONFIG, 3, pretraining=True).eval()
    made = to_monai(encoder, IMAGE, projection)
    vit = ViT(**made.arguments).eval()
    vit.load_state_dict(made.state, strict=True)
    with torch.no_grad():
        ours, theirs = encoder(VOLUME), their_tokens(vit, VOLUME)
        hidden = vit(VOLUME)[1]
    torch.testing.assert_close(theirs[:, 1:], ours.tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(theirs[:, 0], ours.start, rtol=0, atol=1e-5)
    # What a user of MONAI gets: the outputs of the blocks, the class token first.
    assert len(hidden) == CONFIG.depth
    torch.testing.assert_close(vit.norm(hidden[-1])[:, 1:], ours.tokens, rtol=0, atol=1e-5)


@pytest.mark.parametrize("projection", ["conv", "perceptron"])
def test_what_was_exported_comes_back_to_the_bit(projection: Any) -> None:
    encoder = build_encoder(CONFIG, 3, pretraining=True)
    back = loaded(to_monai(encoder, IMAGE, projection).state, patch_size=CONFIG.patch_size)
    assert back.config == CONFIG
    for key, value in encoder.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key


@pytest.mark.parametrize(
    "changes", [{}, {"proj_type": "perceptron"}, {"post_activation": "Tanh", "num_classes": 5}]
)
def test_a_vit_with_monais_sine_cosine_positions_is_loaded_exactly(changes: Any) -> None:
    """Their channels are in another order than ours, hence all tokens' channels are."""
    vit = a_vit(pos_embed_type="sincos", **changes)
    with torch.no_grad():
        vit.cls_token.normal_()
        ours = loaded(dict(vit.state_dict()), patch_size=CONFIG.patch_size)(VOLUME)
        theirs = their_tokens(vit, VOLUME)[:, 1:]
    third = CONFIG.width // 3
    x, y, z = ours.tokens.split(third, dim=2)
    torch.testing.assert_close(torch.cat([y, x, z], dim=2), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"pos_embed_type": "learnable"}, "positions"),
        ({"pos_embed_type": "sincos", "classification": False}, "class token"),
    ],
)
def test_what_the_encoder_cannot_hold_is_refused_or_left_out(changes: Any, word: str) -> None:
    state = dict(a_vit(**changes).state_dict())
    with pytest.raises(ValueError, match=word):
        loaded(state)
    found = from_monai(state, heads=CONFIG.heads, image_size=IMAGE, exact=False)
    assert len(found.left_out) == 1
    assert word in found.left_out[0]


def _without(key: str) -> Any:
    return lambda state: state.pop(key)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without("blocks.1.mlp.linear2.bias"), ["missing blocks.1.mlp.linear2.bias"]),
        (_without("patch_embedding.position_embeddings"), ["missing", "position"]),
        (_without("patch_embedding.patch_embeddings.weight"), ["missing", "ViT"]),
        (lambda s: s.update({"decoder.weight": torch.zeros(1)}), ["unexpected decoder.weight"]),
        (lambda s: s.update({"blocks.0.attn.qkv.bias": torch.ones(72)}), ["qkv.bias"]),
        (
            lambda s: s.update({"blocks.0.attn.qkv.weight": torch.ones(70, 24)}),
            ["blocks.0.attention.qkv.weight has shape (70, 24), expected (72, 24)"],
        ),
        (
            lambda s: s.update({"patch_embedding.position_embeddings": torch.zeros(1, 9, 24)}),
            ["(1, 9, 24)", "image"],
        ),
        (
            lambda s: s.update(
                {"patch_embedding.patch_embeddings.weight": torch.zeros(24, 2, 4, 4, 8)}
            ),
            ["(24, 2, 4, 4, 8)", "expected (C, 1, x, y, z)"],
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(spoil: Any, words: list[str]) -> None:
    state = to_monai(build_encoder(CONFIG, 3, pretraining=True), IMAGE).state
    spoil(state)
    with pytest.raises(ValueError) as caught:
        loaded(state)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_perceptron_needs_the_shape_of_a_token() -> None:
    state = to_monai(build_encoder(CONFIG, 3, pretraining=True), IMAGE, "perceptron").state
    with pytest.raises(ValueError, match="patch_size is needed"):
        loaded(state)
    with pytest.raises(ValueError, match="voxels"):
        loaded(state, patch_size=(4, 4, 4))


def test_a_bias_of_zeros_on_queries_keys_and_values_is_none() -> None:
    encoder = build_encoder(CONFIG, 3, pretraining=True)
    state = to_monai(encoder, IMAGE).state
    state |= {f"blocks.{i}.attn.qkv.bias": torch.zeros(72) for i in range(CONFIG.depth)}
    assert torch.equal(loaded(state).start_token, encoder.start_token)
