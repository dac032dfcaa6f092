"""Operations of the networks that are fine-tuned, for one crop or image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from voxseq.config.base import Shape3
from voxseq.config.finetune import UNET_LEVELS, ResNetSettings, UNet3DSettings
from voxseq.config.model import EncoderConfig
from voxseq.estimate.operations import (
    FIRST,
    Work,
    convolution,
    double_convolution,
    encoder,
    matrix,
    residual_block,
    tokens_of,
)

#: Channels of ResNet-18's four stages before widening.
RESNET_WIDTHS = (64, 128, 256, 512)


def network_work(
    name: str,
    config: EncoderConfig,
    shape: Shape3,
    *,
    classes: int,
    features: int = 16,
    settings: dict[str, Any] | None = None,
    frozen_encoder: bool = False,
) -> Work:
    """Cost of one crop or image in one network.

    Args:
        name: "unetr", "vit", "unet3d" or "resnet".
        config: geometry of the shared encoder.
        shape: voxels of the input.
        classes: output channels, the background included.
        features: channels of UNETR's decoder at full resolution.
        settings: of a network without the shared encoder.
        frozen_encoder: whether only what follows the encoder is trained.

    Raises:
        KeyError: an unknown name.
    """
    if name == "unet3d":
        return _unet3d(UNet3DSettings.model_validate(settings or {}), shape, classes)
    if name == "resnet":
        return _resnet(ResNetSettings.model_validate(settings or {}), shape, classes)
    around = {"unetr": _unetr_decoder, "vit": _token_head}[name]
    inner = encoder(config, [tokens_of(shape, config)])
    if frozen_encoder:
        inner = inner.frozen()
    return inner + around(config, shape, classes, features)


def _token_head(config: EncoderConfig, shape: Shape3, classes: int, features: int) -> Work:
    return matrix(1, config.width, classes)


def _unetr_decoder(config: EncoderConfig, shape: Shape3, classes: int, features: int) -> Work:
    """Skip branches from the volume and the taps, upsampling blocks, output (MONAI's UNETR)."""
    levels = config.patch_size[0].bit_length() - 1
    full = math.prod(shape)
    made = residual_block(full, 1, features, FIRST)
    for level in range(1, levels):
        channels = features * 2**level
        voxels = tokens_of(shape, config)
        made += convolution(voxels, 8, config.width, channels)
        for _ in range(levels - 1 - level):
            made += convolution(8 * voxels, 8, channels, channels)
            voxels *= 8
            made += residual_block(8 * voxels, channels, channels)
    for level in range(levels, 0, -1):
        inside = config.width if level == levels else features * 2**level
        outside = features * 2 ** (level - 1)
        voxels = full // 8**level
        made += convolution(voxels, 8, inside, outside)
        made += residual_block(8 * voxels, 2 * outside, outside)
    return made + convolution(full, 1, features, classes)


def _unet3d(settings: UNet3DSettings, shape: Shape3, classes: int) -> Work:
    """MONAI's BasicUNet: halvings by pooling, doublings by transposed convolutions."""
    f = settings.features
    sizes = [math.prod(_halved(shape, level)) for level in range(UNET_LEVELS + 1)]
    made = double_convolution(sizes[0], 1, f[0], FIRST)
    for level in range(1, UNET_LEVELS + 1):
        made += double_convolution(sizes[level], f[level - 1], f[level])
    below = f[UNET_LEVELS]
    for level in range(UNET_LEVELS - 1, -1, -1):
        risen = below if level == 0 else below // 2
        outside = f[5] if level == 0 else f[level]
        made += convolution(sizes[level + 1], 8, below, risen)
        made += double_convolution(sizes[level], f[level] + risen, outside)
        below = outside
    return made + convolution(sizes[0], 1, f[5], classes)


def _resnet(settings: ResNetSettings, shape: Shape3, classes: int) -> Work:
    """MONAI's resnet18: stem of stride 1, two basic blocks a stage, strides 1, 2, 2, 2."""
    widths = [int(w * settings.width) for w in RESNET_WIDTHS]
    is_small = settings.stem == "small"
    size: Sequence[int] = settings.input_shape or shape
    kernel = 3 if is_small else 7
    made = convolution(math.prod(size), kernel**3, 1, widths[0], FIRST)
    if not is_small:
        size = _strided(size)
    inside = widths[0]
    for stage, outside in enumerate(widths):
        if stage:
            size = _strided(size)
        voxels = math.prod(size)
        made += double_convolution(voxels, inside, outside)
        if inside != outside or stage:
            made += convolution(voxels, 1, inside, outside)
        made += double_convolution(voxels, outside, outside)
        inside = outside
    return made + matrix(1, inside, classes)


def _halved(shape: Shape3, level: int) -> list[int]:
    return [s // 2**level for s in shape]


def _strided(size: Sequence[int]) -> list[int]:
    """Sides after a padded step of stride 2."""
    return [(s + 1) // 2 for s in size]
