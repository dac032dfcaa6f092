"""The networks that can be fine-tuned, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from voxseq.config.model import EncoderConfig
from voxseq.errors import ConfigError
from voxseq.models.classifier import TokenClassifier
from voxseq.models.encoder import build_encoder
from voxseq.models.unetr import UNETR
from voxseq.training.seeding import torch_generator

#: (encoder geometry, number of classes, feature channels of the decoder, seed) → network
Builder = Callable[[EncoderConfig, int, int, int], nn.Module]


def _unetr(config: EncoderConfig, classes: int, features: int, seed: int) -> nn.Module:
    return UNETR(build_encoder(config, seed, pretraining=False), classes, features)


def _vit(config: EncoderConfig, classes: int, features: int, seed: int) -> nn.Module:
    return TokenClassifier(build_encoder(config, seed, pretraining=False), classes)


NETWORKS: dict[str, Builder] = {"unetr": _unetr, "vit": _vit}


def build_network(
    name: str, config: EncoderConfig, *, classes: int, features: int, seed: int
) -> nn.Module:
    """Make a network with random weights that depend on nothing but ``seed``.

    Args:
        name: key of ``NETWORKS``.
        config: geometry of the encoder.
        classes: output channels, the background included.
        features: channels of the decoder's first stage; unused by classifiers.
        seed: of the weights; PyTorch's global generator is left as it was.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}", f"expected one of {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "network").initial_seed())
        return NETWORKS[name](config, classes, features, seed)
