"""3D UNet without pre-training."""

from __future__ import annotations

import contextlib
import io

from monai.networks.nets import BasicUNet
from torch import nn

from voxseq.config.finetune import UNet3DSettings


def build_unet3d(classes: int, settings: UNet3DSettings) -> nn.Module:
    """MONAI's ``BasicUNet``: two 3³ convolutions a level, four halvings, skip connections.

    It maps (B, 1, X, Y, Z) to logits (B, classes, X, Y, Z) for axes of 16 voxels or more, odd ones
    included. Weights come from the process-wide generator.

    Args:
        classes: output channels, background included.
        settings: channels, and the norm, which has learned scales and shifts.
    """
    # The constructor prints its channels.
    with contextlib.redirect_stdout(io.StringIO()):
        network: nn.Module = BasicUNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=classes,
            features=settings.features,
            norm=(settings.norm, {"affine": True}),
        )
    return network
