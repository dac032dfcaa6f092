"""MONAI's ``ViT``: its weights as those of our encoder, and ours as those of one.

Both are the same pre-norm transformer. Names differ, and four things besides:

- MONAI adds positions from a table for one image size; ours are computed for any grid. MONAI's own
  sine-cosine table has the channels of the first two axes in exchanged places.
- MONAI's class token is our start token. A ViT without ``classification`` has none.
- A ViT with ``classification`` has a head besides, which is no part of an encoder.
- Every block holds a norm for cross-attention, which is never called.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from voxseq.config.model import EncoderConfig
from voxseq.models.encoder import Encoder
from voxseq.models.patches import Grid, sincos_positions, token_grid

Projection = Literal["conv", "perceptron"]
#: Our name of a part of a block → MONAI's.
_PARTS: Mapping[str, str] = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "attention.qkv.weight": "attn.qkv.weight",
    "attention.projection.weight": "attn.out_proj.weight",
    "attention.projection.bias": "attn.out_proj.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "mlp.linear1.weight": "mlp.linear1.weight",
    "mlp.linear1.bias": "mlp.linear1.bias",
    "mlp.linear2.weight": "mlp.linear2.weight",
    "mlp.linear2.bias": "mlp.linear2.bias",
}
_EMBEDDING = "patch_embedding.patch_embeddings"
_POSITIONS, _CLASS_TOKEN = "patch_embedding.position_embeddings", "cls_token"
_QKV_BIAS = "attn.qkv.bias"
#: Parts that take no part in the tokens: norms that are never called, and the head.
_IDLE = re.compile(
    r"blocks\.\d+\.norm_cross_attn\.(weight|bias)|classification_head\.(0\.)?(weight|bias)"
)
#: Largest difference of a position from ours that is rounding.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class FromMonai:
    """An encoder that was read from the state of a ViT.

    Attributes:
        config: its geometry.
        state: tensors of an :class:`~voxseq.models.encoder.Encoder`.
        left_out: what the encoder could not hold; empty where it computes the ViT's very tokens.
    """

    config: EncoderConfig
    state: dict[str, Tensor]
    left_out: tuple[str, ...]


def from_monai(
    state: Mapping[str, Tensor],
    *,
    heads: int,
    patch_size: Grid | None = None,
    image_size: Grid | None = None,
    exact: bool = True,
) -> FromMonai:
    """Turn the state of MONAI's ``ViT(1 channel)`` into that of an encoder.

    Args:
        state: its names → tensors.
        heads: attention heads, which no shape shows.
        patch_size: voxels of a token; needed where its embedding is a perceptron.
        image_size: voxels of the images that its positions are for; None: a cube.
        exact: refuse what the encoder cannot hold. Otherwise learned positions are replaced by the
            fixed ones, and a start token of zeros stands in for a class token that is missing.

    Raises:
        ValueError: naming every tensor that is missing, unexpected or misshapen, or what the
            encoder cannot hold.
    """
    kernel = _kernel(state, patch_size)
    width, depth = kernel.shape[0], _depth(state)
    names = dict(_names(depth, f"{_EMBEDDING}{_index(state)}"))
    expected = {*names.values(), _POSITIONS, _CLASS_TOKEN}
    missing = sorted({*names.values(), _POSITIONS} - state.keys())
    surplus = sorted(
        key
        for key in state.keys() - expected
        if not _IDLE.fullmatch(key) and not (key.endswith(_QKV_BIAS) and not state[key].any())
    )
    problems = [f"missing {key}" for key in missing] + [f"unexpected {key}" for key in surplus]
    if problems:
        raise ValueError("; ".join(problems))
    config = EncoderConfig(
        width=width,
        depth=depth,
        heads=heads,
        mlp_width=state["blocks.0.mlp.linear1.weight"].shape[0],
        patch_size=(kernel.shape[2], kernel.shape[3], kernel.shape[4]),
    )
    own = {ours: state[theirs].float() for ours, theirs in names.items()}
    own["patch_embedding.weight"] = kernel.float()
    left_out: list[str] = []
    if _CLASS_TOKEN in state:
        own["start_token"] = state[_CLASS_TOKEN].float().reshape(-1)
    else:
        own["start_token"] = torch.zeros(width)
        left_out.append("it has no class token, in whose place the encoder has a start token")
    order = _channel_order(state[_POSITIONS].float(), config, image_size)
    if order is None:
        left_out.append("its positions are not the fixed sine-cosine ones")
    else:
        own = {key: _reordered(key, value, order) for key, value in own.items()}
    if exact and left_out:
        raise ValueError("; ".join(left_out))
    _check_shapes(own, config)
    return FromMonai(config, own, tuple(left_out))


@dataclass(frozen=True)
class ToMonai:
    """An encoder as MONAI's ``ViT``.

    Attributes:
        arguments: with which ``ViT`` is made.
        state: loads strictly into it.
    """

    arguments: dict[str, Any]
    state: dict[str, Tensor]


def to_monai(encoder: Encoder, image_size: Grid, projection: Projection = "conv") -> ToMonai:
    """Write an encoder as the weights of ``ViT(**arguments)``, for images of one size.

    The head that ``classification=True`` brings along is zero: use the tokens, not its output.

    Args:
        encoder: its positions are written into the table of the ViT.
        image_size: voxels of an image, multiples of the token.
        projection: how the ViT embeds tokens; both compute the same.

    Raises:
        ValueError: the tokens do not divide the image.
    """
    config = encoder.config
    grid = token_grid(image_size, config.patch_size)
    ours = {k: v.detach().to("cpu", torch.float32) for k, v in encoder.state_dict().items()}
    channels = ours["patch_embedding.weight"].shape[1]
    index = "" if projection == "conv" else ".1"
    names = dict(_names(config.depth, f"{_EMBEDDING}{index}"))
    state = {theirs: ours[key].clone() for key, theirs in names.items()}
    if projection == "perceptron":
        # Its voxels are in the order (x, y, z, channel).
        kernel = ours["patch_embedding.weight"].permute(0, 2, 3, 4, 1)
        state[f"{_EMBEDDING}{index}.weight"] = kernel.reshape(config.width, -1).clone()
    state[_CLASS_TOKEN] = ours["start_token"].reshape(1, 1, -1).clone()
    positions = sincos_positions(grid, config.width, torch.device("cpu"))
    state[_POSITIONS] = positions[None].clone()
    for block in range(config.depth):
        state[f"blocks.{block}.norm_cross_attn.weight"] = torch.ones(config.width)
        state[f"blocks.{block}.norm_cross_attn.bias"] = torch.zeros(config.width)
    state["classification_head.weight"] = torch.zeros(1, config.width)
    state["classification_head.bias"] = torch.zeros(1)
    arguments = {
        "in_channels": channels,
        "img_size": list(image_size),
        "patch_size": list(config.patch_size),
        "hidden_size": config.width,
        "mlp_dim": config.mlp_width,
        "num_layers": config.depth,
        "num_heads": config.heads,
        "proj_type": projection,
        "pos_embed_type": "none",
        "classification": True,
        "num_classes": 1,
        "post_activation": "none",
        "qkv_bias": False,
    }
    return ToMonai(arguments, state)


def _names(depth: int, embedding: str) -> Iterator[tuple[str, str]]:
    """Our names and MONAI's of all tensors but the start token and the positions."""
    for part in ("weight", "bias"):
        yield f"patch_embedding.{part}", f"{embedding}.{part}"
        yield f"norm.{part}", f"norm.{part}"
    for block in range(depth):
        for ours, theirs in _PARTS.items():
            yield f"blocks.{block}.{ours}", f"blocks.{block}.{theirs}"


def _index(state: Mapping[str, Tensor]) -> str:
    """A perceptron's linear layer is the second of a sequence."""
    return ".1" if f"{_EMBEDDING}.1.weight" in state else ""


def _depth(state: Mapping[str, Tensor]) -> int:
    found = (re.match(r"blocks\.(\d+)\.", key) for key in state)
    return max((int(match[1]) + 1 for match in found if match), default=1)


def _kernel(state: Mapping[str, Tensor], patch_size: Grid | None) -> Tensor:
    """Patch embedding as the kernel of a convolution (C, 1, x, y, z)."""
    key = f"{_EMBEDDING}{_index(state)}.weight"
    if key not in state:
        raise ValueError(f"missing {key}: expected the state of MONAI's ViT")
    weight = state[key]
    if weight.ndim == 2:
        if patch_size is None:
            raise ValueError(f"{key} does not show the shape of a token: patch_size is needed")
        if weight.shape[1] != math.prod(patch_size):
            raise ValueError(
                f"{key} has {weight.shape[1]} inputs, but tokens of {patch_size} in one channel "
                f"have {math.prod(patch_size)} voxels"
            )
        weight = weight.reshape(-1, 1, *patch_size)
    if weight.ndim != 5 or weight.shape[1] != 1:
        raise ValueError(f"{key} has shape {tuple(weight.shape)}, expected (C, 1, x, y, z)")
    if patch_size is not None and tuple(weight.shape[2:]) != tuple(patch_size):
        raise ValueError(f"{key} has tokens of {tuple(weight.shape[2:])}, not {patch_size}")
    return weight


def _channel_order(table: Tensor, config: EncoderConfig, image: Grid | None) -> Tensor | None:
    """Channels in the order in which a table of positions is ours; None: it is another one."""
    count = table.shape[1]
    side = round(count ** (1 / 3))
    grid = (side, side, side) if image is None else token_grid(image, config.patch_size)
    if math.prod(grid) != count or table.shape[2] != config.width:
        raise ValueError(
            f"{_POSITIONS} has shape {tuple(table.shape)}, expected (1, {math.prod(grid)}, "
            f"{config.width}) for tokens of {config.patch_size} and "
            + (f"images of {image}" if image else "cubes; image_size says other images")
        )
    wanted = sincos_positions(grid, config.width, torch.device("cpu"))
    ours = torch.arange(config.width)
    third = config.width // 3
    exchanged = torch.cat([ours[third : 2 * third], ours[:third], ours[2 * third :]])
    for order in (ours, exchanged):
        if torch.allclose(table[0, :, order], wanted, rtol=0.0, atol=_ROUNDING):
            return order
    return None


def _reordered(key: str, value: Tensor, order: Tensor) -> Tensor:
    """A tensor of the encoder for tokens whose channels are in another order.

    Norms, attention and perceptron do not mind the order, as long as all agree on it.
    """
    reads = key.endswith(("qkv.weight", "mlp.linear1.weight"))
    hidden = reads or key.endswith("mlp.linear1.bias")
    if reads:
        value = value[:, order]
    return value.contiguous() if hidden else value[order].contiguous()


def _check_shapes(state: Mapping[str, Tensor], config: EncoderConfig) -> None:
    with torch.device("meta"):
        wanted = Encoder(config).state_dict()
    problems = [
        f"{key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in wanted.items()
        if state[key].shape != value.shape
    ]
    if problems:
        raise ValueError("; ".join(problems))
