"""ResNet-18 in 3D without pre-training."""

from __future__ import annotations

from monai.networks.nets import resnet18
from torch import Tensor, nn
from torch.nn import functional

from voxseq.config.finetune import ResNetSettings


class ResNet18(nn.Module):
    """MONAI's ``resnet18`` for one input channel, with a resize before it.

    The stem "large" is MONAI's: a 7³ convolution of stride 1 and a max-pooling. "small" is that of
    MedMNIST v2 for 28³ voxels: a 3³ convolution of stride 1, no pooling. Weights come from the
    process-wide generator.

    Args:
        classes: number of classes.
        settings: stem, channels and input shape.
    """

    def __init__(self, classes: int, settings: ResNetSettings) -> None:
        super().__init__()
        is_small = settings.stem == "small"
        self.input_shape = settings.input_shape
        self.network = resnet18(
            spatial_dims=3,
            n_input_channels=1,
            num_classes=classes,
            conv1_t_size=3 if is_small else 7,
            no_max_pool=is_small,
            widen_factor=settings.width,
        )

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, 1, X, Y, Z) to logits (B, classes)."""
        if self.input_shape is not None and volume.shape[2:] != self.input_shape:
            # Without a low-pass filter: an image that was enlarged for the encoder comes back to
            # its own voxels almost unchanged.
            volume = functional.interpolate(volume, self.input_shape, mode="trilinear")
        logits: Tensor = self.network(volume)
        return logits
