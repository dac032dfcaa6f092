"""The networks that can be fine-tuned, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from voxseq.base.errors import ConfigError
from voxseq.base.random import torch_generator
from voxseq.config.finetune import ResNetSettings, UNet3DSettings
from voxseq.config.model import EncoderConfig
from voxseq.models.classifier import TokenClassifier
from voxseq.models.encoder import build_encoder
from voxseq.models.resnet import ResNet18
from voxseq.models.unet3d import build_unet3d
from voxseq.models.unetr import UNETR

Settings = Mapping[str, Any] | UNet3DSettings | ResNetSettings
#: (encoder geometry, number of classes, feature channels of UNETR's decoder, the network's own
#: settings, seed) → network
Builder = Callable[[EncoderConfig, int, int, Settings, int], nn.Module]


def _unetr(
    config: EncoderConfig, classes: int, features: int, settings: Settings, seed: int
) -> nn.Module:
    return UNETR(build_encoder(config, seed, pretraining=False), classes, features)


def _vit(
    config: EncoderConfig, classes: int, features: int, settings: Settings, seed: int
) -> nn.Module:
    return TokenClassifier(build_encoder(config, seed, pretraining=False), classes)


def _unet3d(
    config: EncoderConfig, classes: int, features: int, settings: Settings, seed: int
) -> nn.Module:
    return build_unet3d(classes, UNet3DSettings.model_validate(settings))


def _resnet(
    config: EncoderConfig, classes: int, features: int, settings: Settings, seed: int
) -> nn.Module:
    return ResNet18(classes, ResNetSettings.model_validate(settings))


NETWORKS: dict[str, Builder] = {
    "unetr": _unetr,
    "vit": _vit,
    "unet3d": _unet3d,
    "resnet": _resnet,
}


def build_network(
    name: str,
    config: EncoderConfig,
    *,
    classes: int,
    features: int,
    seed: int,
    settings: Settings | None = None,
) -> nn.Module:
    """Make a network with random weights that depend on nothing but ``seed``.

    Args:
        name: key of ``NETWORKS``.
        config: geometry of the encoder.
        classes: output channels, the background included.
        features: channels of UNETR's decoder at full resolution; unused by others.
        seed: of the weights; PyTorch's global generator is left as it was.
        settings: of a network without the shared encoder.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}", f"expected one of {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "network").initial_seed())
        return NETWORKS[name](config, classes, features, settings or {}, seed)


def freeze_encoder(network: nn.Module) -> None:
    """Keep the encoder's weights as they are; autograd then records nothing inside it.

    Raises:
        ConfigError: the network has no shared encoder.
    """
    if "encoder" not in dict(network.named_children()):
        raise ConfigError(
            f"{type(network).__name__} has no encoder that could be frozen",
            "trained: decoder is for unetr and vit",
        )
    network.get_submodule("encoder").requires_grad_(False).eval()
