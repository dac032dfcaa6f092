"""Token classifier, 3D UNet and ResNet-18."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from voxseq.config.finetune import ResNetSettings, UNet3DSettings
from voxseq.config.model import EncoderConfig
from voxseq.data import grid as resample
from voxseq.evaluation.inference import predict_logits
from voxseq.models.encoder import Encoder
from voxseq.models.networks import ResNet18, TokenClassifier, build_unet3d

CONFIG = EncoderConfig(width=12, depth=1, heads=2, mlp_width=12, patch_size=(2, 2, 2))
SMALL = UNet3DSettings(features=(4, 4, 8, 8, 8, 4), norm="batch")


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_logits_are_the_average_of_the_tokens_logits() -> None:
    network = TokenClassifier(Encoder(CONFIG), classes=3)
    volume = torch.randn(2, 1, 4, 6, 2)
    each = network.encoder(volume).tokens @ network.head.weight.T
    torch.testing.assert_close(network(volume), each.mean(dim=1), rtol=1e-5, atol=1e-6)
    assert network.head.bias is None


def test_weights_of_the_head_are_those_of_a_plain_linear_layer() -> None:
    """Published: PyTorch's own, uniform within 1 / sqrt(width), whatever the number of classes."""
    config = CONFIG.model_copy(update={"width": 768})
    torch.manual_seed(0)
    weight = TokenClassifier(Encoder(config), classes=2).head.weight
    assert weight.std().item() == pytest.approx(1 / (3 * 768) ** 0.5, rel=0.05)
    assert weight.abs().max().item() < 1 / 768**0.5


def test_paper_scale_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    """22.6 and 33.2 million parameters (MONAI's BasicUNet and resnet18 of these settings)."""
    assert parameters(build_unet3d(2, UNet3DSettings())) == pytest.approx(22.6e6, rel=0.01)
    assert parameters(ResNet18(2, ResNetSettings())) == pytest.approx(33.2e6, rel=0.01)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 21, 31), (16, 33, 20)])
def test_unet_keeps_any_shape_of_16_or_more(shape: tuple[int, int, int]) -> None:
    logits = build_unet3d(3, SMALL)(torch.zeros(2, 1, *shape))
    assert logits.shape == (2, 3, *shape)


def test_unet_sees_across_the_bottleneck() -> None:
    """Voxels reach others 24 voxels away by the two convolutions of the deepest level."""
    torch.manual_seed(0)
    unet = build_unet3d(1, SMALL).eval()
    volume = torch.rand(1, 1, 48, 16, 16)
    with torch.no_grad():
        before = unet(volume)
        volume[0, 0, :16] += 100
        after = unet(volume)
    assert (after - before).abs()[0, 0, 40:].max() > 0


@pytest.mark.parametrize("image", [(16, 16, 16), (19, 23, 37), (9, 40, 17)])
def test_unet_in_sliding_windows_of_odd_sizes(image: tuple[int, int, int]) -> None:
    unet = build_unet3d(2, SMALL).eval()
    logits = predict_logits(unet, np.zeros((1, *image), np.float32), (17, 19, 16), 0.5)
    assert logits.shape == (2, *image)
    assert torch.isfinite(logits).all()


def test_norm_of_the_unet() -> None:
    for name, kind in (("batch", torch.nn.BatchNorm3d), ("instance", torch.nn.InstanceNorm3d)):
        unet = build_unet3d(2, UNet3DSettings(features=SMALL.features, norm=name))
        norms = [m for m in unet.modules() if isinstance(m, kind)]
        # Two convolutions at each of five levels on the way down, four on the way up.
        assert len(norms) == 18
        assert all(norm.weight is not None for norm in norms)


def test_stems_of_the_resnet() -> None:
    """MedMNIST v2: 3³ kernel, stride 1, no pooling; MONAI's own: 7³ and a pooling."""
    volume = torch.zeros(2, 1, 28, 28, 28)
    for stem, kernel, side in (("small", 3, 28), ("large", 7, 14)):
        net = ResNet18(2, ResNetSettings(stem=stem, width=0.0625)).network
        assert net.conv1.kernel_size == (kernel,) * 3
        assert net.conv1.stride == (1, 1, 1)
        seen = []
        net.layer1.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0].shape))
        net(volume)
        assert seen[0] == (2, 4, side, side, side)


def test_resnet_resizes_its_input_and_an_image_enlarged_for_the_encoder_comes_back() -> None:
    """28³ → 128³ by preparation → 28³ by the ResNet: the recipe sees nearly its own voxels."""
    image = np.random.default_rng(0).uniform(size=(28, 28, 28)).astype(np.float32)
    net = ResNet18(2, ResNetSettings(stem="small", width=0.0625, input_shape=(28, 28, 28)))
    net.network.forward = lambda volume: volume  # type: ignore[method-assign]
    own = torch.from_numpy(image)[None, None]
    # Every voxel eight times: the centres of the small grid lie between equal values.
    large = own.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    torch.testing.assert_close(net(large), own)
    prepared = torch.from_numpy(resample.linear(image, (128, 128, 128)))[None, None]
    found = net(prepared)[0, 0].numpy()
    assert found.shape == image.shape
    # White noise is the hardest case.
    assert np.corrcoef(found.ravel(), image.ravel())[0, 1] > 0.97
