"""Models of the published code (AR-SSL4M): its checkpoints, loaded into this package's encoder.

The published network differs from ours in names only: a token embedding of four rows of which row
1 is the start and row 2 the end token, queries, keys and values in three layers, tokens in raster
order. Axes are called (D, H, W) there; they are our (x, y, z).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from voxseq.config.model import EncoderConfig
from voxseq.models.attention import chosen_rows, prefix_mask
from voxseq.models.encoder import Encoder
from voxseq.models.patches import Grid, patchify, regression_loss, scored_rows, token_grid

_START_ROW, _END_ROW, _ROWS = 1, 2, 4
#: Published part of a block → our name and the shape of its weight; its bias has the first axis.
#: The two words are the sizes that a checkpoint decides itself.
_PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "self_attn.o_proj": ("attention.projection", ("width", "width")),
    "mlp.linear1": ("mlp.linear1", ("mlp", "width")),
    "mlp.linear2": ("mlp.linear2", ("width", "mlp")),
    "input_layernorm": ("norm1", ("width",)),
    "post_attention_layernorm": ("norm2", ("width",)),
}
#: Published name in a block → shape.
_LAYER: dict[str, tuple[str, ...]] = {
    **{f"self_attn.{part}_proj.weight": ("width", "width") for part in "qkv"},
    **{f"{part}.weight": shape for part, (_, shape) in _PARTS.items()},
    **{f"{part}.bias": shape[:1] for part, (_, shape) in _PARTS.items()},
}
_LAYER_KEY = re.compile(r"model\.layers\.(0|[1-9]\d{0,3})\.(.+)")


@dataclass(frozen=True)
class PretrainingOutput:
    """Result of one pass of the published pre-training model.

    Attributes:
        loss: scalar, float32.
        prediction: (B, L + 2, V) voxels, one entry a position of the published sequence: entry 0
            is the start token's output, which predicts image token 0; entries L and L + 1 (last
            image token, end token) predict nothing and are not scored.
    """

    loss: Tensor
    prediction: Tensor


class PublishedPretrainingModel(nn.Module):
    """The published pre-training model in raster order; see :func:`load_pretraining_model`."""

    def __init__(self, config: EncoderConfig, img_size: Grid) -> None:
        super().__init__()
        self.img_size = img_size
        self.encoder = Encoder(config)
        self.end_token = nn.Parameter(torch.zeros(config.width))
        self.head = nn.Linear(config.width, math.prod(config.patch_size))

    def forward(self, volume: Tensor, prefix_length: int | Tensor) -> PretrainingOutput:
        """Predict every token and score those from the prefix on.

        Args:
            volume: (B, D, H, W) floating point, used as float32.
            prefix_length: image tokens visible to all, 0..L-1: one number or integers (B,).

        Raises:
            ValueError: for another shape or type, or a prefix out of range.
        """
        _check_volume(volume, ("B", *self.img_size))
        image = volume.float()[:, None]
        patches = patchify(image, self.encoder.config.patch_size)
        batch, length, _ = patches.shape
        prefix = _prefix(prefix_length, batch, length).to(volume.device)
        tokens = self.encoder.embed_patches(patches, self.encoder.grid(image))
        end = self.end_token.to(tokens).expand(batch, 1, -1)
        # The end token is an ordinary last token: masked off for all others, never scored.
        encoded = self.encoder.encode_tokens(
            torch.cat([tokens, end], dim=1), prefix_mask(prefix, length + 1)
        )
        states = torch.cat([encoded.start[:, None], encoded.tokens], dim=1)
        prediction = self.head(states).float()
        rows = scored_rows(prefix, length)
        # Errors are pooled over the batch, so a volume with a short prefix weighs more.
        loss = regression_loss(
            chosen_rows(prediction[:, :length], rows), chosen_rows(patches, rows)
        )
        return PretrainingOutput(loss=loss, prediction=prediction)


class PublishedEncoder(nn.Module):
    """The published encoder for fine-tuning; see :func:`load_encoder`."""

    def __init__(self, config: EncoderConfig, img_size: Grid) -> None:
        super().__init__()
        self.img_size = img_size
        self.encoder = Encoder(config)

    def forward(self, volume: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode with full attention; the start token takes part and is left out of the result.

        Args:
            volume: (B, 1, D, H, W) floating point, used as float32.

        Returns:
            Features (B, L, C) after the final norm, and the output of each block (B, L, C), the
            last one after the final norm too.

        Raises:
            ValueError: for another shape or type.
        """
        _check_volume(volume, ("B", 1, *self.img_size))
        inner = range(self.encoder.config.depth - 1)
        encoded = self.encoder(volume.float(), taps=inner)
        return encoded.tokens, [*encoded.hidden, encoded.tokens]


def load_pretraining_model(
    state: Mapping[str, Any],
    *,
    img_size: int | Sequence[int],
    patch_size: int | Sequence[int],
    num_heads: int,
) -> PublishedPretrainingModel:
    """Load the published pre-training model.

    Args:
        state: published names (``model.…``, ``decoder_pred.…``) → tensors or arrays, or a
            published checkpoint, which holds these as its entry ``state_dict``. Width, depth and
            MLP width are read off the shapes; values are copied as float32.
        img_size: voxels of a volume (D, H, W), or one number for a cube.
        patch_size: voxels of a token, likewise; divides ``img_size``.
        num_heads: attention heads; divides the width.

    Raises:
        ValueError: naming every missing, unexpected or misshapen key, or the impossible size.
    """
    tensors = _tensors(state)
    size, config = _geometry(tensors, img_size, patch_size, num_heads, head=True)
    model = PublishedPretrainingModel(config, size)
    own = {f"encoder.{key}": value for key, value in _encoder_state(tensors, config.depth).items()}
    own["end_token"] = tensors["model.embed_tokens.weight"][_END_ROW]
    for part in ("weight", "bias"):
        own[f"head.{part}"] = tensors[f"decoder_pred.{part}"]
    model.load_state_dict(own, strict=True)
    return model


def load_encoder(
    state: Mapping[str, Any],
    *,
    img_size: int | Sequence[int],
    patch_size: int | Sequence[int],
    num_heads: int,
) -> PublishedEncoder:
    """Load the published encoder for fine-tuning.

    Args:
        state: as for :func:`load_pretraining_model`; ``decoder_pred.weight`` and ``.bias``, which
            a pre-training checkpoint has, may be there or not and are not used.
        img_size: voxels of a volume (D, H, W), or one number for a cube.
        patch_size: voxels of a token, likewise.
        num_heads: attention heads.

    Raises:
        ValueError: naming every missing, unexpected or misshapen key, or the impossible size.
    """
    tensors = _tensors(state)
    head = any(key.startswith("decoder_pred.") for key in tensors)
    size, config = _geometry(tensors, img_size, patch_size, num_heads, head=head)
    model = PublishedEncoder(config, size)
    model.encoder.load_state_dict(_encoder_state(tensors, config.depth), strict=True)
    return model


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    inner = state.get("state_dict")
    entries = inner if isinstance(inner, Mapping) else state
    tensors: dict[str, Tensor] = {}
    wrong: list[str] = []
    for key, value in entries.items():
        try:
            tensor = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            wrong.append(str(key))
            continue
        if not isinstance(key, str) or not tensor.is_floating_point():
            wrong.append(str(key))
        else:
            tensors[key] = tensor.detach().to("cpu", torch.float32)
    if wrong:
        raise ValueError(f"entries that are no floating-point tensors: {', '.join(sorted(wrong))}")
    return tensors


def _shape3(name: str, value: int | Sequence[int]) -> Grid:
    sizes = [value] * 3 if isinstance(value, int) else [int(v) for v in value]
    if len(sizes) != 3 or any(s < 1 for s in sizes):
        raise ValueError(f"{name} {value}: expected one or three positive numbers")
    return sizes[0], sizes[1], sizes[2]


def _geometry(
    tensors: Mapping[str, Tensor],
    img_size: int | Sequence[int],
    patch_size: int | Sequence[int],
    num_heads: int,
    *,
    head: bool,
) -> tuple[Grid, EncoderConfig]:
    """Check every key against the geometry that most of the tensors agree on."""
    size, patch = _shape3("img_size", img_size), _shape3("patch_size", patch_size)
    token_grid(size, patch)
    template = dict(_template(_depth(tensors), patch, head=head))
    sizes = {word: _vote(word, template, tensors) for word in ("width", "mlp")}
    expected = {
        key: tuple(sizes[d] if isinstance(d, str) else d for d in shape)
        for key, shape in template.items()
    }
    _check_keys(tensors, expected)
    config = EncoderConfig(
        width=sizes["width"],
        depth=_depth(tensors),
        heads=num_heads,
        mlp_width=sizes["mlp"],
        patch_size=patch,
    )
    return size, config


def _depth(tensors: Mapping[str, Tensor]) -> int:
    found = (_LAYER_KEY.fullmatch(key) for key in tensors)
    return 1 + max((int(m[1]) for m in found if m and m[2] in _LAYER), default=0)


def _template(
    depth: int, patch: Grid, *, head: bool
) -> Iterator[tuple[str, tuple[int | str, ...]]]:
    yield "model.embed_tokens.weight", (_ROWS, "width")
    yield "model.patchifier.proj.weight", ("width", 1, *patch)
    yield "model.patchifier.proj.bias", ("width",)
    for layer in range(depth):
        for name, shape in _LAYER.items():
            yield f"model.layers.{layer}.{name}", shape
    yield "model.norm.weight", ("width",)
    yield "model.norm.bias", ("width",)
    if head:
        yield "decoder_pred.weight", (math.prod(patch), "width")
        yield "decoder_pred.bias", (math.prod(patch),)


def _vote(
    word: str, template: Mapping[str, tuple[int | str, ...]], tensors: Mapping[str, Tensor]
) -> int:
    votes = Counter(
        tensors[key].shape[axis]
        for key, shape in template.items()
        if key in tensors and tensors[key].ndim == len(shape)
        for axis, dim in enumerate(shape)
        if dim == word
    )
    return votes.most_common(1)[0][0] if votes else 0


def _check_keys(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    misshapen = [
        f"{key} {tuple(tensors[key].shape)} (expected {expected[key]})"
        for key in sorted(expected.keys() & tensors.keys())
        if tuple(tensors[key].shape) != expected[key]
    ]
    lists = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    problems = [f"{kind} keys: {', '.join(keys)}" for kind, keys in lists.items() if keys]
    if problems:
        raise ValueError(f"state does not fit the published model: {'; '.join(problems)}")


def _encoder_state(tensors: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    own = {
        "start_token": tensors["model.embed_tokens.weight"][_START_ROW],
        "patch_embedding.weight": tensors["model.patchifier.proj.weight"],
        "patch_embedding.bias": tensors["model.patchifier.proj.bias"],
        "norm.weight": tensors["model.norm.weight"],
        "norm.bias": tensors["model.norm.bias"],
    }
    for layer in range(depth):
        published, block = f"model.layers.{layer}", f"blocks.{layer}"
        own[f"{block}.attention.qkv.weight"] = torch.cat(
            [tensors[f"{published}.self_attn.{part}_proj.weight"] for part in "qkv"]
        )
        for theirs, (ours, _) in _PARTS.items():
            for part in ("weight", "bias"):
                own[f"{block}.{ours}.{part}"] = tensors[f"{published}.{theirs}.{part}"]
    return own


def _check_volume(volume: Tensor, expected: tuple[str | int, ...]) -> None:
    fits = volume.ndim == len(expected) and tuple(volume.shape[1:]) == expected[1:]
    if not fits or not volume.is_floating_point():
        raise ValueError(
            f"volume of shape {tuple(volume.shape)} and type {volume.dtype}: expected floating "
            f"point ({', '.join(map(str, expected))})"
        )


def _prefix(value: int | Tensor, batch: int, length: int) -> Tensor:
    prefix = torch.as_tensor(value)
    if prefix.dtype == torch.bool or prefix.is_floating_point() or prefix.is_complex():
        raise ValueError(f"prefix_length {value}: expected an integer or integers (B,)")
    if prefix.ndim == 0:
        prefix = prefix.expand(batch)
    if tuple(prefix.shape) != (batch,):
        raise ValueError(
            f"prefix_length of shape {tuple(prefix.shape)}: expected one number for each of "
            f"{batch} volumes"
        )
    if batch and not bool(((prefix >= 0) & (prefix < length)).all()):
        raise ValueError(f"prefix_length {prefix.tolist()}: expected 0..{length - 1}")
    return prefix
