"""The networks that are fine-tuned, by name; UNETR has a module of its own.

MONAI takes seconds to import, so only the networks that are its own do.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from voxseq.base.errors import ConfigError
from voxseq.base.random import torch_generator
from voxseq.config.finetune import ResNetSettings, UNet3DSettings
from voxseq.config.model import EncoderConfig
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.unetr import UNETR

Settings = Mapping[str, Any] | UNet3DSettings | ResNetSettings


class TokenClassifier(nn.Module):
    """A linear layer without bias on every token, logits averaged (published code).

    The layer is linear, so it is applied once, to the average token; the start token takes no
    part. Its initial weights are PyTorch's own, unlike the encoder's (published code).

    Args:
        encoder: becomes part of the network under the name ``encoder``; the volumes have its
            number of channels.
        classes: number of classes.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.width, classes, bias=False)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, channels, X, Y, Z) to logits (B, classes)."""
        logits: Tensor = self.head(self.encoder(volume).tokens.mean(dim=1))
        return logits


class ResNet18(nn.Module):
    """MONAI's ``resnet18`` with a resize before it.

    The stem "large" is MONAI's: a 7³ convolution of stride 1 and a max-pooling. "small" is that of
    MedMNIST v2 for 28³ voxels: a 3³ convolution of stride 1, no pooling. Weights come from the
    process-wide generator.

    Args:
        classes: number of classes.
        settings: stem, channels and input shape.
        in_channels: of the volumes.
    """

    def __init__(self, classes: int, settings: ResNetSettings, in_channels: int = 1) -> None:
        from monai.networks.nets import resnet18

        super().__init__()
        is_small = settings.stem == "small"
        self.input_shape = settings.input_shape
        self.network = resnet18(
            spatial_dims=3,
            n_input_channels=in_channels,
            num_classes=classes,
            conv1_t_size=3 if is_small else 7,
            no_max_pool=is_small,
            widen_factor=settings.width,
        )

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, channels, X, Y, Z) to logits (B, classes)."""
        if self.input_shape is not None and volume.shape[2:] != self.input_shape:
            # Without a low-pass filter: an image that was enlarged for the encoder comes back to
            # its own voxels almost unchanged.
            volume = functional.interpolate(volume, self.input_shape, mode="trilinear")
        logits: Tensor = self.network(volume)
        return logits


def build_unet3d(classes: int, settings: UNet3DSettings, in_channels: int = 1) -> nn.Module:
    """MONAI's ``BasicUNet``: two 3³ convolutions a level, four halvings, skip connections.

    It maps (B, channels, X, Y, Z) to logits (B, classes, X, Y, Z) for axes of 16 voxels or more,
    odd ones included. Weights come from the process-wide generator.

    Args:
        classes: output channels, background included.
        settings: channels, and the norm, which has learned scales and shifts.
        in_channels: of the volumes.
    """
    from monai.networks.nets import BasicUNet

    # The constructor prints its channels.
    with contextlib.redirect_stdout(io.StringIO()):
        network: nn.Module = BasicUNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=classes,
            features=settings.features,
            norm=(settings.norm, {"affine": True}),
        )
    return network


@dataclass(frozen=True)
class NetworkSpec:
    """Arguments of :func:`build_network`."""

    config: EncoderConfig
    classes: int
    features: int
    seed: int
    settings: Settings
    in_channels: int

    def encoder(self) -> Encoder:
        """A randomly initialised encoder."""
        return build_encoder(
            self.config, self.seed, pretraining=False, in_channels=self.in_channels
        )


def _build_unetr(spec: NetworkSpec) -> nn.Module:
    return UNETR(spec.encoder(), spec.classes, spec.features)


def _build_unet3d(spec: NetworkSpec) -> nn.Module:
    settings = UNet3DSettings.model_validate(spec.settings)
    return build_unet3d(spec.classes, settings, spec.in_channels)


def _build_resnet(spec: NetworkSpec) -> nn.Module:
    return ResNet18(spec.classes, ResNetSettings.model_validate(spec.settings), spec.in_channels)


NETWORKS: dict[str, Callable[[NetworkSpec], nn.Module]] = {
    "unetr": _build_unetr,
    "vit": lambda spec: TokenClassifier(spec.encoder(), spec.classes),
    "unet3d": _build_unet3d,
    "resnet": _build_resnet,
}


def build_network(
    name: str,
    config: EncoderConfig,
    *,
    classes: int,
    features: int,
    seed: int,
    settings: Settings | None = None,
    in_channels: int = 1,
) -> nn.Module:
    """Make a network with random weights that depend on nothing but ``seed``.

    Args:
        name: key of ``NETWORKS``.
        config: geometry of the encoder.
        classes: output channels, the background included.
        features: channels of UNETR's decoder at full resolution; unused by others.
        seed: of the weights; PyTorch's global generator is left as it was.
        settings: of a network without the shared encoder.
        in_channels: of the volumes.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}", f"expected one of {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "network").initial_seed())
        spec = NetworkSpec(config, classes, features, seed, settings or {}, in_channels)
        return NETWORKS[name](spec)


def channels_last(network: nn.Module) -> None:
    """Store 3D kernels with channels last: on a CPU gradients of few channels are faster so."""
    for parameter in network.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


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
